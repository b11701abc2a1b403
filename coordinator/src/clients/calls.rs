//! Calls of API servers: bounded in time and size, and their failures in words for operators.

use std::{fmt, future::Future, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::{Status, response::reason},
};
use rehull_shared::text::{bounded, chain};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Trouble;

/// How long one call may take: an API server that needs longer cannot be relied on anyway.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Objects in one page of a list; what the API server's own clients ask for.
const PAGE: u32 = 500;

/// Pages of one list: 200,000 objects, more than a supported cluster has of any kind.
const PAGES_MAX: usize = 400;

/// Longest text of a failure that is kept, in bytes.
const WORDS_MAX: usize = 300;

/// Names in one message; the others are counted.
const NAMES_MAX: usize = 5;

/// What a 401 means: nothing in it says so.
const STRANGER: &str = "the credentials of the kubeconfig are not accepted: expired, revoked, or of \
                        another cluster";

/// What an unknown issuer means: TLS does not say it for kubeconfigs.
const OTHER_CA: &str = "the CA of the kubeconfig has not signed this server: it is of another \
                        cluster, or the CA has been replaced";

/// Why a call did not give what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The API server said no.
    Refused(Box<Status>),
    /// There was no answer, or none that can be understood.
    Silent(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => {
                let message = bounded(&status.message, WORDS_MAX);
                write!(f, "{} {}: {message}", status.code, status.reason)?;
                if status.code == 401 { write!(f, " ({STRANGER})") } else { Ok(()) }
            }
            Self::Silent(why) => f.write_str(why),
        }
    }
}

impl Failure {
    /// Whether the API server itself says that there is no such object: with its reason, and with
    /// the object's name. A 404 of a proxy in front of it, or of a path that the server does not
    /// know, has neither, and proves nothing.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused(status)
            if status.code == 404
                && status.reason == reason::NOT_FOUND
                && status.details.as_ref().is_some_and(|details| !details.name.is_empty()))
    }

    /// Whether the API server answers 404 in any way: also for a kind that it does not know.
    pub fn is_404(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// As a trouble with `what`.
    pub fn with(&self, what: impl fmt::Display) -> Trouble {
        Trouble::new(what, self)
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => {
                let words = bounded(&chain(&other), WORDS_MAX);
                match words.contains("UnknownIssuer") {
                    true => Self::Silent(format!("{words} ({OTHER_CA})")),
                    false => Self::Silent(words),
                }
            }
        }
    }
}

/// One call, cut short after 10 s.
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::Silent(format!("no answer within {} s", CALL_MAX.as_secs()))),
    }
}

/// The object of this name, or `None` if the API server itself says that there is none. The read
/// is a quorum read: it asks for no resource version.
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Failure>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    match call(api.get(name)).await {
        Ok(object) => Ok(Some(object)),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Writes a key of a ConfigMap, if that still is what was read.
pub async fn write_key(
    maps: &Api<ConfigMap>,
    read: &ConfigMap,
    key: &str,
    text: &str,
) -> Result<(), Failure> {
    let patch = json!({
        "metadata": {"resourceVersion": read.metadata.resource_version},
        "data": {key: text},
    });
    let how = PatchParams::default();
    call(maps.patch(&read.name_any(), &how, &Patch::Merge(&patch))).await.map(drop)
}

/// What `keep` keeps of all objects that match, page by page, so that memory holds one page.
pub async fn list<K, T>(
    api: &Api<K>,
    params: ListParams,
    mut keep: impl FnMut(K) -> Option<T>,
) -> Result<Vec<T>, Failure>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    let mut kept = Vec::new();
    let mut params = params.limit(PAGE);
    for _ in 0..PAGES_MAX {
        let page = call(api.list(&params)).await?;
        kept.extend(page.items.into_iter().filter_map(&mut keep));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(kept),
        }
    }
    Err(Failure::Silent(format!("a list does not end after {PAGES_MAX} pages")))
}

/// The first few names, and how many more there are.
pub fn few<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    at_most(NAMES_MAX, names)
}

/// The same, of so many.
pub fn at_most<T: fmt::Display>(most: usize, names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(most).map(|name| name.to_string()).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    #[test]
    fn a_404_of_a_proxy_is_no_absence() {
        let says = |text: &str, reason: &str| {
            Failure::Refused(Status::failure(text, reason).with_code(404).boxed())
        };
        let path = says("the server could not find the requested resource", reason::NOT_FOUND);
        assert!(path.is_404() && !path.is_absence());
        let details: StatusDetails = serde_json::from_str(r#"{"name": "n1"}"#).unwrap();
        let status = Status::failure("nodes \"n1\" not found", reason::NOT_FOUND);
        let object = status.with_code(404).with_details(details).boxed();
        assert!(Failure::Refused(object).is_absence());
        // What kube makes of a body that is no Status.
        let proxy = says("<html>404 page not found</html>", "Failed to parse error data");
        assert!(proxy.is_404() && !proxy.is_absence());
    }

    #[test]
    fn credentials_that_are_not_accepted_are_said_to_be_the_kubeconfigs() {
        let status = Status::failure("Unauthorized", reason::UNAUTHORIZED).with_code(401);
        let words = Failure::Refused(status.boxed()).to_string();
        assert!(words.contains("expired, revoked, or of another cluster"), "{words}");
    }

    #[test]
    fn few_names_are_shown_and_the_rest_counted() {
        assert_eq!(few(["a", "b"]), "a, b");
        assert_eq!(few(1..=7), "1, 2, 3, 4, 5 and 2 more");
    }

    #[test]
    fn a_failure_says_what_lies_behind_it() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let failure = Failure::from(kube::Error::Service(Box::new(io)));
        assert!(failure.to_string().contains("connection refused"), "{failure}");
        assert!(!failure.is_404());
    }
}
