//! The site's deletion protection, switched by a program that the coordinator's settings name.
//! `deploy/protection.md` is the contract.

use std::{collections::BTreeMap, sync::Arc};

use rehull_shared::{
    ids::Round,
    text::{SEEN_BYTES_MAX, bounded},
};

use super::{Invocation, Pass, Requests};
use crate::domain::command::{Report, Request};

impl Pass<'_> {
    /// Has the protection switched. Whatever comes of it is said: nobody else can see it.
    pub(super) async fn switch_protection(&self, on: bool, round: Round) -> Requests {
        let (done, seen) = match self.run_hook(if on { "on" } else { "off" }).await {
            Ok(seen) => (true, seen),
            Err(why) => (false, why),
        };
        let seen = bounded(&seen, SEEN_BYTES_MAX);
        vec![Request::Report(Report::Protection { round, done, seen })]
    }

    async fn run_hook(&self, action: &str) -> Result<String, String> {
        let Some(program) = self.context.protection.clone() else {
            let why = "deletionProtection is not set in the coordinator's config.yaml: set it to the \
                       program, and start the coordinator again";
            return Err(why.to_owned());
        };
        let Some(hook) = &self.migration.plan.protection else {
            return Err("the plan asks for no such program".to_owned());
        };
        let cluster = self.effect.cluster.to_string();
        let mut args = hook.args.clone();
        args.extend([action.to_owned(), cluster.clone()]);
        let migration = self.migration.id.to_string();
        let env = [
            ("REHULL_ACTION", action.to_owned()),
            ("REHULL_CLUSTER", cluster),
            ("REHULL_MIGRATION", migration),
        ];
        let env: BTreeMap<_, _> = env.map(|(key, value)| (key.to_owned(), value)).into();
        let call = Invocation { program: program.clone(), args, env };
        let exit = (self.context.run_program)(call, Arc::new(|_| ())).await;
        let exit = exit.map_err(|trouble| trouble.to_string())?;
        let said = exit.tail.lines().last().unwrap_or_default();
        match exit.code {
            Some(0) if said.is_empty() => Ok(format!("{program} {action} has done it")),
            Some(0) => Ok(format!("{program} {action} has done it: {said}")),
            Some(code) => Err(format!("{program} {action} exits {code}: {said}")),
            None => Err(format!("{program} {action} was ended by a signal: {said}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{effect::Work, plan::Hook},
        effects::stage::Stage,
    };

    fn stage() -> Stage {
        let mut stage = Stage::new();
        let args = vec!["--site".to_owned(), "east".to_owned()];
        stage.migration().plan.protection = Some(Hook { args });
        stage
    }

    async fn switched(stage: &Stage, on: bool) -> (bool, String) {
        let round = Round(3);
        let mut requests = stage.pass(Work::SwitchProtection { on, round }).await.unwrap();
        match requests.pop() {
            Some(Request::Report(Report::Protection { round: Round(3), done, seen })) => {
                (done, seen)
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_program_is_told_what_to_do_to_which_cluster_and_believed() {
        let stage = stage();
        let answers = [(vec!["unlocked"], 0), (vec![], 0), (vec!["x", "no such cluster"], 3)];
        stage.answers.lock().unwrap().extend(answers);
        let done = |words: &str| (true, words.to_owned());
        let program = "/opt/protection";
        assert_eq!(
            switched(&stage, false).await,
            done("/opt/protection off has done it: unlocked")
        );
        assert_eq!(switched(&stage, true).await, done("/opt/protection on has done it"));
        let (is_done, words) = switched(&stage, true).await;
        assert_eq!(
            (is_done, words.as_str()),
            (false, "/opt/protection on exits 3: no such cluster")
        );
        let calls = stage.calls.lock().unwrap();
        assert!(calls.iter().all(|call| call.program == program && call.env.len() == 3));
        assert_eq!(calls[0].args, ["--site", "east", "off", "prod"]);
        assert_eq!(calls[1].args, ["--site", "east", "on", "prod"]);
        assert_eq!(calls[1].env["REHULL_ACTION"], "on");
        assert_eq!(calls[1].env["REHULL_CLUSTER"], "prod");
    }

    #[tokio::test]
    async fn a_program_that_the_settings_do_not_name_is_not_run() {
        let mut stage = stage();
        stage.context.protection = None;
        let (done, words) = switched(&stage, false).await;
        assert!(!done && words.contains("config.yaml"), "{words}");
        assert!(stage.calls.lock().unwrap().is_empty());
    }
}
