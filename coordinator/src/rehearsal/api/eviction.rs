//! Evictions: a pod goes only if no disruption budget is against it.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    answer::{Answer, Refused},
    call::Call,
    kinds::Kind,
    select,
    store::{Deletion, Name, Store, name_of},
};

impl Call {
    pub(super) fn evict(&self, key: &Name, store: &mut Store) -> Result<Answer, Refused> {
        let Some(kind) = Kind::by_plural("v1", "pods") else { return Err(Refused::no_such_path()) };
        let pod = store.get("pods", &key.0, &key.1).cloned();
        let pod = pod.ok_or_else(|| Refused::not_found(kind, &key.1))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let preconditions = &self.body["deleteOptions"]["preconditions"];
        let how = Deletion {
            uid: text(&preconditions["uid"]),
            version: text(&preconditions["resourceVersion"]),
            ..Deletion::default()
        };
        let over = ["Succeeded", "Failed", "Pending"].map(|phase| json!(phase));
        let going = !pod["metadata"]["deletionTimestamp"].is_null();
        if !going && !over.contains(&pod["status"]["phase"]) {
            self.ask_budget(&pod, store)?;
        }
        if !self.is_dry() {
            store.delete(kind, key, &how)?;
        }
        Ok(Answer::success(StatusCode::CREATED))
    }

    /// Takes one disruption from the pod's budget, if it has one.
    fn ask_budget(&self, pod: &Value, store: &mut Store) -> Result<(), Refused> {
        let namespace = &pod["metadata"]["namespace"];
        let budgets: Vec<Value> = store
            .list("poddisruptionbudgets")
            .filter(|pdb| pdb["metadata"]["namespace"] == *namespace)
            .filter(|pdb| select::object(&pdb["spec"]["selector"], pod))
            .cloned()
            .collect();
        let budget = match budgets.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction \
                               subresource does not support.";
                let code = StatusCode::INTERNAL_SERVER_ERROR;
                return Err(Refused::new(code, "InternalError", message));
            }
        };
        let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
        let (namespace, name) = name_of(budget);
        if number("disruptionsAllowed") < 1 {
            let (desired, now) = (number("desiredHealthy"), number("currentHealthy"));
            let cause = format!(
                "The disruption budget {name} needs {desired} healthy pods and has {now} currently"
            );
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
            return Err(refused.because("DisruptionBudget", &cause));
        }
        if !self.is_dry() {
            let left = number("disruptionsAllowed") - 1;
            store.edit("poddisruptionbudgets", &namespace, &name, |budget| {
                budget["status"]["disruptionsAllowed"] = json!(left);
            });
        }
        Ok(())
    }
}
