//! An in-memory Kubernetes API, deep enough that a `kube::Client` cannot tell it from a server.
//!
//! ```text
//! kube::Api ─▶ kube::Client ─▶ Api (tower service) ─▶ whim ─▶ Call (route) ─▶ Store (objects)
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response, header::CONTENT_TYPE};
use kube::{Client, client::Body};
use rehull_shared::time::Timestamp;
use serde_json::Value;

use self::{
    answer::{Answer, Refused},
    call::Call,
    store::Store,
};

pub mod answer;
pub mod call;
mod collect;
mod eviction;
pub mod kinds;
mod select;
pub mod store;

pub(super) use select::object as selects;
pub(super) use store::kubernetes_time;

/// What time the server believes it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the world does with a request before the server sees it.
pub type Whim = Arc<dyn Fn(&Call) -> Turn + Send + Sync>;

/// What becomes of one request.
pub enum Turn {
    /// It is answered as it should be.
    Answer,
    /// It is answered after this much real time.
    Late(Duration),
    /// It is refused.
    Refuse(Refused),
    /// The connection breaks; nobody knows whether it was carried out (it was not).
    Break(String),
    /// Another server answers: a frozen copy, say, for a stale read.
    Elsewhere(Api),
}

/// One API server with its objects; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Api {
    store: Arc<Mutex<Store>>,
    whim: Arc<Mutex<Whim>>,
    calls: Arc<Mutex<Vec<String>>>,
    clock: Clock,
}

/// Calls remembered for tests; older ones are forgotten.
const CALLS_MAX: usize = 100_000;

impl Api {
    /// A server without objects. UIDs follow from `seed` and the order of creation.
    pub fn new(seed: &str, clock: Clock) -> Self {
        let whim: Whim = Arc::new(|_| Turn::Answer);
        Self {
            store: Arc::new(Mutex::new(Store::new(seed))),
            whim: Arc::new(Mutex::new(whim)),
            calls: Arc::default(),
            clock,
        }
    }

    /// A client of it. Must be made inside a tokio runtime.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// The same server, of which `whim` has the requests first that come this way.
    pub fn behind(&self, whim: Whim) -> Self {
        Self { whim: Arc::new(Mutex::new(whim)), ..self.clone() }
    }

    /// Has `whim` look at every request from here on.
    pub fn before(&self, whim: Whim) {
        *self.whim.lock().unwrap_or_else(PoisonError::into_inner) = whim;
    }

    /// Its objects, locked: for the simulation that lives beside the requests.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.set_now((self.clock)());
        store
    }

    /// A copy that nothing changes any more, unless it is written to itself.
    pub fn frozen(&self) -> Self {
        let store = self.store().clone();
        let frozen = Self::new("", self.clock.clone());
        *frozen.store.lock().unwrap_or_else(PoisonError::into_inner) = store;
        frozen
    }

    /// Method and path of every request so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
        let call = match Call::read(&parts, &body) {
            Ok(call) => call,
            Err(refused) => return Ok(response(refused.into())),
        };
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if calls.len() < CALLS_MAX {
                calls.push(format!("{} {}", call.method, call.path));
            }
        }
        let whim = self.whim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = match whim(&call) {
            Turn::Answer => call.carry_out(&mut self.store()),
            Turn::Late(delay) => {
                tokio::time::sleep(delay).await;
                call.carry_out(&mut self.store())
            }
            Turn::Refuse(refused) => refused.into(),
            Turn::Break(why) => return Err(std::io::Error::other(why)),
            Turn::Elsewhere(other) => call.carry_out(&mut other.store()),
        };
        Ok(response(answer))
    }
}

/// What `/version` says. Clients that look at it see a server of the rehearsed version.
fn version() -> Value {
    serde_json::json!({ "major": "1", "minor": "27", "gitVersion": "v1.27.5" })
}

fn response(answer: Answer) -> Response<Body> {
    let (kind, bytes) = match answer.body {
        Value::String(text) => ("text/plain", text.into_bytes()),
        object => ("application/json", object.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = answer.code;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

impl tower::Service<Request<Body>> for Api {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

#[cfg(test)]
mod tests;
