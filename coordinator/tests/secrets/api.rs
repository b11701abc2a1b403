//! The API of a rehearsed cluster behind a port, so that a process can reach it by a kubeconfig.

use std::sync::{Arc, Mutex};

use http::{Request, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use kube::client::Body;
use rehull::rehearsal::api::Api;
use tokio::net::TcpListener;
use tower::ServiceExt;

/// Where it is, and what credentials it was shown.
pub(crate) struct Door {
    pub(crate) url: String,
    pub(crate) shown: Arc<Mutex<Vec<String>>>,
}

/// Serves an API for as long as the test runs.
pub(crate) async fn open(api: Api) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = shown.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (api, seen) = (api.clone(), seen.clone());
            let service = tower::service_fn(move |request: Request<Incoming>| {
                let (api, seen) = (api.clone(), seen.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    if let Some(value) = parts.headers.get(AUTHORIZATION) {
                        seen.lock().unwrap().push(value.to_str().unwrap().to_owned());
                    }
                    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                    api.oneshot(Request::from_parts(parts, Body::from(body.to_vec()))).await
                }
            });
            tokio::spawn(async move {
                let connection = Builder::new(TokioExecutor::new());
                let service = TowerToHyperService::new(service);
                _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Door { url, shown }
}
