//! What a server says: an object, or a `Status` with the words that a real one uses.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::Kind;

/// An answer of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub code: StatusCode,
    /// An object, or a text.
    pub body: Value,
}

/// A refusal of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Refused {
    /// A refusal with a code, the reason that goes with it, and words.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// No such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", of_group(kind));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// No such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// There is such an object already.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", of_group(kind));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// The object is not the one that was meant.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", of_group(kind));
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The object breaks a rule of its kind.
    pub fn invalid(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is invalid: {why}", kind.kind);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(kind, name)
    }

    /// With causes, as evictions give them.
    pub(super) fn because(mut self, cause: &str, message: &str) -> Self {
        self.details = json!({ "causes": [{ "reason": cause, "message": message }] });
        self
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({ "name": name, "group": kind.group(), "kind": kind.plural });
        self
    }
}

fn of_group(kind: &Kind) -> String {
    match kind.group() {
        "" => kind.plural.to_owned(),
        group => format!("{}.{group}", kind.plural),
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": refused.message,
            "reason": refused.reason,
            "details": refused.details,
            "code": refused.code.as_u16(),
        });
        Self { code: refused.code, body }
    }
}

impl Answer {
    /// An object as it is.
    pub(super) fn ok(body: Value) -> Self {
        Self { code: StatusCode::OK, body }
    }

    /// An object that is new.
    pub(super) fn created(body: Value) -> Self {
        Self { code: StatusCode::CREATED, body }
    }

    /// Done, and nothing to show.
    pub(super) fn success(code: StatusCode) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "code": code.as_u16(),
        });
        Self { code, body }
    }
}
