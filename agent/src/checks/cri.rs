//! The one question to the container runtime: how many pod sandboxes are ready (CRI v1).

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::host::Host;

const SOCKET: &str = "/run/containerd/containerd.sock";

/// A runtime that hangs must not hold up a round: then cgroups answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Some kilobytes for each of the 110 to 500 pods of a host.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

const READY: i32 = 0;

/// The part of `runtime.v1` that is used; field numbers are those of the CRI.
#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandbox {
    #[prost(int32, tag = "3")]
    state: i32,
}

/// `None` if no runtime answers.
pub(super) async fn ready_pods(host: &Host) -> Option<u32> {
    let socket = host.path(SOCKET);
    if !socket.exists() {
        return None;
    }
    let answer = timeout(PATIENCE, ask(socket)).await.ok()?.ok()?;
    let ready = answer.items.iter().filter(|pod| pod.state == READY).count();
    u32::try_from(ready).ok()
}

async fn ask(socket: PathBuf) -> Result<ListPodSandboxResponse, Box<dyn std::error::Error>> {
    let connect = move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    };
    let channel = Endpoint::from_static("http://containerd")
        .connect_with_connector(tower::service_fn(connect))
        .await?;
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    client.ready().await?;
    let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/ListPodSandbox");
    let codec: ProstCodec<_, ListPodSandboxResponse> = ProstCodec::default();
    let request = tonic::Request::new(ListPodSandboxRequest {});
    Ok(client.unary(request, path, codec).await?.into_inner())
}
