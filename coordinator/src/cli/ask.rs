//! Commands that ask the coordinator something and print its answer.

use std::{
    fs,
    io::{IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};

use rehull_proto::v1::{
    EtcdRequest, ExplainRequest, Intent, ListAgentsRequest, PlanRequest, StartRequest,
    StatusRequest, StatusResponse, TokenRequest,
    intent::{
        Abort, Approve, ConfirmReinstalled, DeleteNode, Disapprove, Hold, Pause, Resume, Retry,
        RevokeAgent, RollBack, Wish,
    },
};
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::Span,
};

use super::{Failure, HELD, Reach, client::connect, output};

pub(super) async fn plan(reach: &Reach, file: &Path) -> Result<ExitCode, Failure> {
    let document = read(file)?;
    let answer = connect(reach).await?.plan(PlanRequest { document }).await;
    let answer = answer.map_err(|status| of_file(file, status))?.into_inner();
    output::print(reach.output, &answer, output::plan)
}

pub(super) async fn start(reach: &Reach, file: &Path) -> Result<ExitCode, Failure> {
    let document = read(file)?;
    let request = StartRequest { document, by: String::new() };
    let receipt = connect(reach).await?.start(request).await;
    let receipt = receipt.map_err(|status| of_file(file, status))?.into_inner();
    output::print(reach.output, &receipt, output::receipt)
}

pub(super) async fn pause(reach: &Reach, cluster: ClusterName) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::Pause(Pause {})).await
}

pub(super) async fn resume(reach: &Reach, cluster: ClusterName) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::Resume(Resume {})).await
}

pub(super) async fn retry(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
    resubmit: bool,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::Retry(Retry { node: named(node), resubmit })).await
}

pub(super) async fn hold(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
    why: String,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::Hold(Hold { node: named(node), why })).await
}

/// What is approved, by the words that were typed.
pub(super) struct Approved {
    pub(super) node: Option<NodeName>,
    pub(super) items: Vec<String>,
    pub(super) why: String,
    pub(super) valid: Span,
}

/// A person must have meant the first control plane: its name is typed twice.
pub(super) async fn approve(
    reach: &Reach,
    cluster: ClusterName,
    Approved { node, items, why, valid }: Approved,
    typed: Option<String>,
) -> Result<ExitCode, Failure> {
    let typed = match &node {
        Some(node) if is_first(reach, &cluster, node).await? => {
            let question = "Type the name of the first control plane to approve this";
            type_twice(node, typed, question, "approved")?;
            node.to_string()
        }
        _ => typed.unwrap_or_default(),
    };
    let (node, valid_seconds) = (named(node), valid.as_secs());
    submit(reach, cluster, Wish::Approve(Approve { node, items, why, valid_seconds, typed })).await
}

/// Whether a node is the first control plane of the inventory, as the coordinator knows it.
async fn is_first(reach: &Reach, cluster: &ClusterName, node: &NodeName) -> Result<bool, Failure> {
    let request = StatusRequest { cluster: cluster.to_string() };
    let status = connect(reach).await?.status(request).await?.into_inner();
    let mut nodes = status.clusters.iter().flat_map(|cluster| &cluster.nodes);
    Ok(nodes.any(|one| one.first_control_plane && one.node == node.as_str()))
}

pub(super) async fn disapprove(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
    items: Vec<String>,
) -> Result<ExitCode, Failure> {
    let node = named(node);
    submit(reach, cluster, Wish::Disapprove(Disapprove { node, items })).await
}

pub(super) async fn abort(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::Abort(Abort { node: named(node) })).await
}

pub(super) async fn delete_node(
    reach: &Reach,
    cluster: ClusterName,
    node: NodeName,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::DeleteNode(DeleteNode { node: node.into() })).await
}

pub(super) async fn roll_back(
    reach: &Reach,
    cluster: ClusterName,
    node: NodeName,
    go_on: bool,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::RollBack(RollBack { node: node.into(), go_on })).await
}

/// A person must have meant this very machine: its name is typed twice.
pub(super) async fn confirm_reinstalled(
    reach: &Reach,
    cluster: ClusterName,
    node: NodeName,
    typed: Option<String>,
) -> Result<ExitCode, Failure> {
    type_twice(&node, typed, "Type the name of the node that was reinstalled", "confirmed")?;
    let node = node.into();
    submit(reach, cluster, Wish::ConfirmReinstalled(ConfirmReinstalled { node })).await
}

/// Has the name of a node typed once more, at the terminal or as `--typed`; any other fails.
fn type_twice(
    node: &NodeName,
    typed: Option<String>,
    question: &str,
    done: &str,
) -> Result<(), Failure> {
    let typed = match typed {
        Some(typed) => typed,
        None if std::io::stdin().is_terminal() => {
            let mut terminal = std::io::stderr();
            write!(terminal, "{question}: ")?;
            terminal.flush()?;
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line.trim().to_owned()
        }
        None => return Err(Failure::usage("nobody can be asked here: give --typed NAME")),
    };
    match typed == node.as_str() {
        true => Ok(()),
        false => Err(Failure::usage(format!("{typed:?} is not {node}: nothing was {done}"))),
    }
}

pub(super) async fn submit(
    reach: &Reach,
    cluster: ClusterName,
    wish: Wish,
) -> Result<ExitCode, Failure> {
    let intent = Intent { cluster: cluster.into(), by: String::new(), wish: Some(wish) };
    let receipt = connect(reach).await?.submit(intent).await?.into_inner();
    output::print(reach.output, &receipt, output::receipt)
}

pub(super) async fn status(
    reach: &Reach,
    cluster: Option<ClusterName>,
    exit_code: bool,
) -> Result<ExitCode, Failure> {
    let request = StatusRequest { cluster: named(cluster) };
    let status = connect(reach).await?.status(request).await?.into_inner();
    print_status(reach, &status, exit_code)
}

pub(super) fn print_status(
    reach: &Reach,
    status: &StatusResponse,
    exit_code: bool,
) -> Result<ExitCode, Failure> {
    let done = output::print(reach.output, status, output::status)?;
    let mut clusters = status.clusters.iter();
    let held = clusters.any(|cluster| {
        cluster.state == "Held" || cluster.nodes.iter().any(|node| node.state == "Held")
    });
    Ok(if exit_code && held { ExitCode::from(HELD) } else { done })
}

pub(super) async fn explain(
    reach: &Reach,
    cluster: ClusterName,
    node: Option<NodeName>,
) -> Result<ExitCode, Failure> {
    let request = ExplainRequest { cluster: cluster.into(), node: named(node) };
    let answer = connect(reach).await?.explain(request).await?.into_inner();
    output::print(reach.output, &answer, output::explain)
}

pub(super) async fn token(
    reach: &Reach,
    cluster: ClusterName,
    node: NodeName,
    valid: Span,
) -> Result<ExitCode, Failure> {
    let request = TokenRequest {
        cluster: cluster.to_string(),
        node: node.to_string(),
        valid_seconds: valid.as_secs(),
        by: String::new(),
    };
    let token = connect(reach).await?.issue_token(request).await?.into_inner();
    output::print(reach.output, &token, |token| output::token(&cluster, &node, token))
}

pub(super) async fn revoke(
    reach: &Reach,
    cluster: ClusterName,
    node: NodeName,
) -> Result<ExitCode, Failure> {
    submit(reach, cluster, Wish::RevokeAgent(RevokeAgent { node: node.into() })).await
}

pub(super) async fn agents(
    reach: &Reach,
    cluster: Option<ClusterName>,
) -> Result<ExitCode, Failure> {
    let request = ListAgentsRequest { cluster: named(cluster) };
    let answer = connect(reach).await?.list_agents(request).await?.into_inner();
    output::print(reach.output, &answer, output::agents)
}

pub(super) async fn etcd(reach: &Reach, cluster: ClusterName) -> Result<ExitCode, Failure> {
    let request = EtcdRequest { cluster: cluster.into() };
    let answer = connect(reach).await?.etcd(request).await?.into_inner();
    output::print(reach.output, &answer, output::etcd)?;
    Ok(if answer.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(HELD) })
}

fn named<T: Into<String>>(name: Option<T>) -> String {
    name.map(Into::into).unwrap_or_default()
}

/// What the coordinator says of a document, with the file that it is in.
pub(super) fn of_file(file: &Path, status: tonic::Status) -> Failure {
    let of_document = status.code() == tonic::Code::InvalidArgument;
    let failure = Failure::from(status);
    if of_document { failure.of(display(file)) } else { failure }
}

/// How a file is called in words.
pub(super) fn display(file: &Path) -> String {
    if file.as_os_str() == "-" { "standard input".into() } else { file.display().to_string() }
}

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let fail = |error| Failure::new(format!("{}: {error}", display(file)));
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(fail)?;
        return Ok(text);
    }
    fs::read_to_string(file).map_err(fail)
}
