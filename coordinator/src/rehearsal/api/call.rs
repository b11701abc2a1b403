//! One request: what it asks for, and how the server carries it out.

use http::{Method, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Refused},
    kinds::Kind,
    select,
    store::{Deletion, Name, Store, name_of},
};

/// One request, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Parameters, decoded.
    pub query: Vec<(String, String)>,
    /// Body; null if there is none.
    pub body: Value,
    content_type: String,
}

/// What a path names.
struct Target {
    kind: &'static Kind,
    namespace: String,
    name: String,
    subresource: String,
}

/// Items of a list that names no limit: a server gives all.
const LIMIT_NONE: usize = usize::MAX;

impl Call {
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Result<Self, Refused> {
        let body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body)
                .map_err(|error| Refused::bad_request(format!("the body is no JSON: {error}")))?,
        };
        let query = parts.uri.query().unwrap_or_default();
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        };
        let content_type = parts.headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: query.split('&').filter(|p| !p.is_empty()).map(pair).collect(),
            body,
            content_type: content_type.to_owned(),
        })
    }

    fn parameter(&self, key: &str) -> Option<&str> {
        let found = self.query.iter().find(|(name, value)| name == key && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Whether nothing is to be changed.
    pub(super) fn is_dry(&self) -> bool {
        let all = json!(["All"]);
        self.parameter("dryRun") == Some("All")
            || self.body["dryRun"] == all
            || self.body["deleteOptions"]["dryRun"] == all
    }

    pub(super) fn carry_out(&self, store: &mut Store) -> Answer {
        self.answer(store).unwrap_or_else(Answer::from)
    }

    fn answer(&self, store: &mut Store) -> Result<Answer, Refused> {
        match self.path.as_str() {
            "/readyz" | "/livez" | "/healthz" => return Ok(Answer::ok(json!("ok"))),
            "/version" => return Ok(Answer::ok(super::version())),
            _ => (),
        }
        let target = self.target()?;
        if self.parameter("watch").is_some_and(|watch| watch != "false" && watch != "0") {
            return Err(Refused::bad_request("a rehearsal polls: it has no watches"));
        }
        let named = !target.name.is_empty();
        match (&self.method, target.subresource.as_str()) {
            (&Method::GET, "log") if target.kind.plural == "pods" => self.log(&target, store),
            (&Method::POST, "eviction") if target.kind.plural == "pods" => {
                self.evict(&target.key(), store)
            }
            (&Method::GET, "" | "status") if named => Ok(Answer::ok(target.find(store)?)),
            (&Method::GET, "") => self.list(&target, store),
            (&Method::POST, "") if !named => self.create(&target, store),
            (&Method::PUT | &Method::PATCH, "" | "status") if named => self.write(&target, store),
            (&Method::DELETE, "") if named => self.delete(&target, store),
            _ => Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn target(&self) -> Result<Target, Refused> {
        let parts: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
        let (version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return Err(Refused::no_such_path()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |at: usize| decoded(rest.get(at).copied().unwrap_or_default());
        let kind = Kind::by_plural(&version, &part(0)).ok_or_else(Refused::no_such_path)?;
        if kind.namespaced == namespace.is_empty() && (!kind.namespaced || !part(1).is_empty()) {
            return Err(Refused::no_such_path());
        }
        let namespace = decoded(namespace);
        Ok(Target { kind, namespace, name: part(1), subresource: part(2) })
    }

    fn list(&self, target: &Target, store: &Store) -> Result<Answer, Refused> {
        let kind = target.kind;
        let limit = self.parameter("limit").and_then(|limit| limit.parse().ok());
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(LIMIT_NONE);
        let after = self.parameter("continue").map(|token| {
            let (namespace, name) = token.split_once('/').unwrap_or(("", token));
            (namespace.to_owned(), name.to_owned())
        });
        let (mut items, mut next, mut last): (Vec<Value>, Value, &Name);
        let none = Name::default();
        (items, next, last) = (Vec::new(), Value::Null, &none);
        for (key, object) in store.all(kind) {
            let here = target.namespace.is_empty() || key.0 == target.namespace;
            if !here || after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            let by_label = self.parameter("labelSelector").unwrap_or_default();
            let by_field = self.parameter("fieldSelector").unwrap_or_default();
            if !select::labels(by_label, object)? || !select::fields(by_field, object)? {
                continue;
            }
            if items.len() == limit {
                next = json!(format!("{}/{}", last.0, last.1));
                break;
            }
            let mut item = object.clone();
            if let Some(fields) = item.as_object_mut().filter(|_| !kind.is_custom()) {
                // As a real server does: items of lists of its own kinds do not name them.
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            items.push(item);
            last = key;
        }
        Ok(Answer::ok(json!({
            "apiVersion": kind.version,
            "kind": format!("{}List", kind.kind),
            "metadata": { "resourceVersion": store.version(), "continue": next },
            "items": items,
        })))
    }

    fn create(&self, target: &Target, store: &mut Store) -> Result<Answer, Refused> {
        let (kind, mut object) = (target.kind, self.body.clone());
        if !object.is_object() {
            return Err(Refused::bad_request("the body is no object"));
        }
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(target.namespace);
        }
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status"); // the status is its controller's
        }
        if object["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            let Some(prefix) = object["metadata"]["generateName"].as_str() else {
                let why = "metadata.name: Required value: name or generateName is required";
                return Err(Refused::invalid(kind, "", why));
            };
            let name = format!("{prefix}{}", store.suffix());
            object["metadata"]["name"] = json!(name);
        }
        let key = name_of(&object);
        if store.get(kind.plural, &key.0, &key.1).is_some() {
            return Err(Refused::already_exists(kind, &key.1));
        }
        if !object["metadata"]["resourceVersion"].is_null() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refused::bad_request(message));
        }
        if self.is_dry() {
            return Ok(Answer::created(object));
        }
        Ok(Answer::created(store.insert(kind, object)))
    }

    fn write(&self, target: &Target, store: &mut Store) -> Result<Answer, Refused> {
        let (kind, old) = (target.kind, target.find(store)?);
        let mut new = if self.method == Method::PUT {
            self.body.clone()
        } else {
            let merge = ["application/merge-patch+json", "application/strategic-merge-patch+json"];
            if !merge.iter().any(|kind| self.content_type.starts_with(kind)) {
                let message = "a rehearsal knows merge patches only";
                let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(Refused::new(code, "UnsupportedMediaType", message));
            }
            let mut new = old.clone();
            merge_patch(&mut new, &self.body);
            new
        };
        // An identity in the body is a precondition.
        for (field, why) in [
            (
                "resourceVersion",
                "the object has been modified; please apply your changes to the \
                                 latest version and try again",
            ),
            ("uid", "Precondition failed: UID in precondition is not the UID in object meta"),
        ] {
            let (old, new) = (&old["metadata"][field], &new["metadata"][field]);
            if !new.is_null() && new != old {
                return Err(Refused::conflict(kind, &target.name, why));
            }
        }
        let immutable = old["immutable"] == true
            && ["data", "binaryData", "immutable"].iter().any(|field| old[*field] != new[*field]);
        if immutable {
            let why = "data: Forbidden: field is immutable when `immutable` is set";
            return Err(Refused::invalid(kind, &target.name, why));
        }
        // The status is written through its own path, and only there.
        if target.subresource == "status" {
            let status = new["status"].take();
            new = old.clone();
            new["status"] = status;
        } else if let Some(fields) = new.as_object_mut() {
            fields.remove("status");
            if let Some(status) = old.get("status") {
                fields.insert("status".to_owned(), status.clone());
            }
        }
        if self.is_dry() {
            return Ok(Answer::ok(new));
        }
        new["apiVersion"] = json!(kind.version);
        new["kind"] = json!(kind.kind);
        Ok(Answer::ok(store.write(kind, &old, new)))
    }

    fn delete(&self, target: &Target, store: &mut Store) -> Result<Answer, Refused> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy = self.parameter("propagationPolicy").map(str::to_owned);
        let policy = text(&self.body["propagationPolicy"]).or(policy);
        let how = Deletion {
            uid: text(&self.body["preconditions"]["uid"]),
            version: text(&self.body["preconditions"]["resourceVersion"]),
            foreground: policy.as_deref() == Some("Foreground"),
            orphan: policy.as_deref() == Some("Orphan"),
        };
        if self.is_dry() {
            target.find(store)?;
            return Ok(Answer::success(StatusCode::OK));
        }
        match store.delete(target.kind, &target.key(), &how)? {
            Some(staying) => Ok(Answer::ok(staying)),
            None => Ok(Answer::success(StatusCode::OK)),
        }
    }

    fn log(&self, target: &Target, store: &mut Store) -> Result<Answer, Refused> {
        let pod = target.find(store)?;
        if pod["status"]["phase"].as_str().is_none_or(|phase| phase == "Pending") {
            let message = format!(
                "container in pod {:?} is waiting to start: ContainerCreating",
                target.name
            );
            return Err(Refused::bad_request(message));
        }
        let log = store.log_of(&target.namespace, &target.name);
        let number = |key: &str| self.parameter(key).and_then(|n| n.parse::<usize>().ok());
        let mut lines: Vec<&str> = log.split_inclusive('\n').collect();
        if let Some(tail) = number("tailLines") {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let mut text = lines.concat();
        if let Some(limit) = number("limitBytes") {
            text.truncate(text.floor_char_boundary(limit));
        }
        Ok(Answer::ok(Value::String(text)))
    }
}

impl Target {
    fn key(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }

    fn find(&self, store: &Store) -> Result<Value, Refused> {
        let found = store.get(self.kind.plural, &self.namespace, &self.name).cloned();
        found.ok_or_else(|| Refused::not_found(self.kind, &self.name))
    }
}

/// RFC 7386.
pub(crate) fn merge_patch(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(object) = into.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge_patch(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// A part of a URI without its percent signs.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
