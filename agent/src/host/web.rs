//! Answers of web servers: of package repositories, and only their beginnings.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rehull_shared::text::chain;

/// How long one answer may take, from the name to the last byte that is wanted.
const PATIENCE: Duration = Duration::from_secs(4);

/// A GET, by the certificates that the host trusts.
pub(super) async fn get(url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    match tokio::time::timeout(PATIENCE, fetch(url, bytes_max)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn fetch(url: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let uri = url.parse::<http::Uri>().map_err(|why| why.to_string())?;
    let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let request = http::Request::get(uri).body(Empty::<&[u8]>::new());
    let request = request.map_err(|why| why.to_string())?;
    let builder = Client::builder(TokioExecutor::new());
    // Certificates are read only for who needs them: there are many, and a host may have none.
    let answer = if https {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|why| format!("the host trusts no certificates: {why}"))?
            .https_only()
            .enable_http1()
            .build();
        builder.build(connector).request(request).await
    } else {
        builder.build(HttpConnector::new()).request(request).await
    };
    let answer = answer.map_err(|why| chain(&why))?;
    if answer.status() != http::StatusCode::OK {
        return Err(answer.status().to_string());
    }
    let mut body = answer.into_body();
    let mut content = Vec::new();
    while content.len() < bytes_max {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame.map_err(|why| chain(&why))?.into_data() {
            content.extend_from_slice(&data);
        }
    }
    content.truncate(bytes_max);
    Ok(content)
}
