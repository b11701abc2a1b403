//! What would unblock something, as it is typed.

use rehull_shared::{
    evidence::{Check, Source},
    ids::ClusterName,
};

use super::{View, waits::blockers, words::of_check};
use crate::domain::{
    approval::items_in,
    gate::{Blocker, Gate},
    plan::{Access, Installer},
    state::{Extent, Kind, Migration, Node, Phase, Reinstall, Step, Subject},
};

/// Remedies shown at the most: who reads more than this has read none.
const REMEDIES_MAX: usize = 12;

/// What helps where nothing stands in the way.
const GOES_ON: &str = "nothing: it goes on by itself";

/// What helps when an agent does not answer.
const AGENT: [&str; 3] = [
    "ssh {address} systemctl status rehull-agent",
    "rehull agent list {cluster}",
    "rehull agent token {cluster} {node}  # if this system never enrolled, or was revoked",
];

/// What would unblock a subject: commands, as they are typed, and actions, most useful first. What
/// follows a `#` says why, and a shell skips it. Never empty: where nobody needs to do anything, it
/// says so.
pub(super) fn unblock(view: &View<'_>, migration: &Migration, subject: &Subject) -> Vec<String> {
    let Some(track) = migration.track(subject) else { return Vec::new() };
    let cluster = &migration.plan.cluster;
    let mut help = remedies(&blockers(view, migration, subject), migration, subject);
    match &track.phase {
        Phase::Held { why, resume } => retries(migration, subject, (why, *resume), &mut help),
        Phase::Reinstalling(reinstall) => {
            let manual = migration.plan.installer == Installer::Manual;
            let lines = reinstall_help(cluster, subject, manual, reinstall);
            help.extend(lines.iter().map(|text| filled(text, migration, subject)));
        }
        Phase::Planned if migration.track.phase != Phase::Working => {
            help.push(format!("rehull explain {cluster}  # the cluster comes before its nodes"));
        }
        Phase::Working | Phase::Planned => {
            let mut active = migration.nodes.iter().filter(|node| node.is_active());
            help.extend(active.next().map(|node| explain(cluster, node)));
        }
        Phase::Operating => {
            let lines = operation_help(migration, subject);
            help.extend(lines.iter().map(|text| filled(text, migration, subject)));
        }
        Phase::Ready { .. } | Phase::Asking { .. } | Phase::Done | Phase::Aborted => (),
    }
    help.extend(abort_help(migration, subject));
    if migration.paused_by.is_some() && !track.phase.is_over() {
        help.push(format!("rehull migrate resume {cluster}"));
    }
    if help.is_empty() {
        help.push(match &track.phase {
            Phase::Done => "nothing: it is done".to_owned(),
            Phase::Aborted => "nothing: it was given up".to_owned(),
            _ => GOES_ON.to_owned(),
        });
    }
    help
}

/// How something that is held can be given up, where that is still possible.
fn abort_help(migration: &Migration, subject: &Subject) -> Option<String> {
    let held = matches!(migration.track(subject)?.phase, Phase::Held { .. });
    let cluster = &migration.plan.cluster;
    match subject {
        Subject::Cluster => {
            let open = held && migration.aborted_by.is_none() && migration.out().next().is_none();
            open.then(|| format!("rehull migrate abort {cluster}  # give the migration up"))
        }
        Subject::Node(name) if held && migration.node(name)?.can_be_rolled_back() => Some(format!(
            "rehull migrate resolve {cluster} {name} --rollback-join: put it back with the system \
             that it still has"
        )),
        Subject::Node(name) => {
            let node = migration.node(name)?;
            let open = held && !node.is_out() && !node.is_given_up();
            open.then(|| {
                format!(
                    "rehull migrate abort {cluster} {name}  # put it back, and go on without it"
                )
            })
        }
    }
}

fn explain(cluster: &ClusterName, node: &Node) -> String {
    format!("rehull explain {cluster} {}", node.planned.name)
}

fn remedies(why: &[Blocker], migration: &Migration, subject: &Subject) -> Vec<String> {
    let mut help: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        let text = filled(text, migration, subject);
        if !help.contains(&text) && help.len() < REMEDIES_MAX {
            help.push(text);
        }
    };
    // How far an operation got says most, and stands last: what follows from it would be cut off.
    let is_operation = |why: &&Blocker| matches!(why, Blocker::Operation { .. });
    let operations = why.iter().filter(is_operation);
    for why in operations.chain(why.iter().filter(|why| !is_operation(why))) {
        match why {
            Blocker::Contradicted { check, seen, .. } => {
                for item in items_in(seen) {
                    add(&format!(
                        "rehull migrate approve {{cluster}} {{node}} --item {item} --why '...'"
                    ));
                }
                of_check(*check).remedy.iter().for_each(|text| add(text));
            }
            // What is unknown may well be fine: first somebody must be able to say so.
            Blocker::Unknown { check, source, .. }
            | Blocker::Silent { check, source }
            | Blocker::Stale { check, source, .. } => {
                ask_source(*check, source).iter().for_each(|text| add(text));
            }
            Blocker::TooShort { .. } => add(GOES_ON),
            Blocker::NotEnrolled { .. } => {
                add("rehull agent token {cluster} {node}  # for the new system");
                add("ssh {address} journalctl -u rehull-agent  # why it did not enrol");
            }
            Blocker::Operation { name, extent, .. } => {
                let namespace = &migration.plan.namespace;
                match extent {
                    Extent::Reset => add(
                        "ssh {address}  # finish what it began: what the other reasons say is left",
                    ),
                    Extent::Unknown => {
                        add("ssh {address}  # look what it has done, before it is repeated")
                    }
                    Extent::NotStarted => {
                        add(&format!(
                            "kubectl {{management}} -n {namespace} get job,pod \
                             -l job-name=kubean-{name}-job"
                        ));
                    }
                    Extent::NotReset => add(
                        "rehull log export | grep {node}  # its archived log says why it failed",
                    ),
                }
            }
            Blocker::QuorumAtRisk { .. } => {
                add("rehull etcd {cluster}  # go on only when all that are there are well")
            }
            // Its words say what to look at, and stand above all this.
            Blocker::Trouble { .. } => (),
            Blocker::HeldBy { by, .. } => add(&format!("{by} knows whether it may go on")),
        }
    }
    help
}

/// What helps when a source does not answer.
fn ask_source(check: Check, source: &Source) -> Vec<String> {
    match source {
        Source::Agent(_) => AGENT.map(str::to_owned).into(),
        // It compares what an API server says with what the agent says.
        Source::ApiServer(_) if check == Check::NodeIsHost => AGENT.map(str::to_owned).into(),
        Source::ApiServer(address) => {
            vec![format!("kubectl --server=https://{address} get --raw=/readyz")]
        }
        Source::Management => {
            vec!["kubectl {management} get clusters.kubean.io {cluster}".to_owned()]
        }
        // They ask the agents of many hosts.
        Source::Coordinator
            if matches!(check, Check::OldRepositoriesServe | Check::ProxiesLeadToAll) =>
        {
            vec![
                "rehull agent list {cluster}  # every host that will be migrated needs one"
                    .to_owned(),
            ]
        }
        Source::ControlPlanes => vec![
            "rehull etcd {cluster}  # which of them is silent, and why".to_owned(),
            "rehull agent list {cluster}  # every control plane needs one".to_owned(),
        ],
        Source::Coordinator => {
            vec![format!("journalctl -u rehull | grep warn  # why it could not answer {check}")]
        }
    }
}

fn filled(text: &str, migration: &Migration, subject: &Subject) -> String {
    let node = subject.node().and_then(|name| migration.node(name));
    let (name, address) = node.map_or(("<node>", "<address>"), |node| {
        (node.planned.name.as_str(), node.planned.address.as_str())
    });
    // `retry` of the cluster itself has no node: no word, and no space before it.
    let text =
        if node.is_none() { text.replace(" {cluster} {node}", " {cluster}") } else { text.into() };
    let text = match text.strip_prefix("kubectl {management} ") {
        Some(rest) if migration.plan.management.kubeconfig.is_none() && !rest.contains('#') => {
            format!("kubectl {rest}  # in the management cluster")
        }
        Some(rest) => format!("{} {rest}", kubectl(&migration.plan.management)),
        None => match text.strip_prefix("kubectl ") {
            Some(rest) => format!("{} {rest}", kubectl(&migration.plan.workload)),
            None => text,
        },
    };
    text.replace("{cluster}", migration.plan.cluster.as_str())
        .replace("{namespace}", &migration.plan.namespace)
        .replace("{node}", name)
        .replace("{address}", address)
}

/// The program with what the document says of how a cluster is reached.
fn kubectl(access: &Access) -> String {
    let file = access.kubeconfig.iter().map(|file| format!(" --kubeconfig {file}"));
    let context = access.context.iter().map(|context| format!(" --context {context}"));
    std::iter::once("kubectl".to_owned()).chain(file).chain(context).collect()
}

fn retries(
    migration: &Migration,
    subject: &Subject,
    (why, resume): (&[Blocker], Step),
    help: &mut Vec<String>,
) {
    let cluster = &migration.plan.cluster;
    let node = match subject {
        Subject::Cluster => String::new(),
        Subject::Node(node) => format!(" {node}"),
    };
    let rests =
        |why: &Blocker| matches!(why, Blocker::HeldBy { .. } | Blocker::QuorumAtRisk { .. });
    let on = match resume {
        Step::Submit(Kind::Remove) => "look again what the removal before did",
        _ if why.iter().any(rests) => "go on",
        _ => "look again",
    };
    help.push(format!("rehull migrate retry {cluster}{node}  # {on}"));
    let node_is_there =
        why.iter().any(|why| matches!(why, Blocker::Contradicted { check: Check::NodeAbsent, .. }));
    let again = resume == Step::Submit(Kind::Remove);
    if again || (resume == Step::Ask(Gate::Removal) && node_is_there) {
        help.push(format!(
            "rehull migrate resolve {cluster}{node} --delete-node  # delete the Node that was \
             recorded, and no other, once its host is proved to be clean"
        ));
    }
    if migration.can_be_resubmitted(subject, resume) {
        let what = match resume {
            Step::Ask(Gate::Removal | Gate::RejoinAdmission) | Step::Submit(_) => {
                "run the removal again"
            }
            Step::Ask(Gate::Join | Gate::Rejoin) => "run the join again",
            Step::Ask(Gate::Kubeconfig) => "renew the kubeconfig again",
            Step::Ask(Gate::Reordered) => "apply the order again",
            _ => "reinstall the host again",
        };
        help.push(format!("rehull migrate retry {cluster}{node} --resubmit  # {what}"));
    }
}

fn reinstall_help(
    cluster: &ClusterName,
    subject: &Subject,
    manual: bool,
    reinstall: &Reinstall,
) -> Vec<String> {
    let Subject::Node(node) = subject else { return Vec::new() };
    let token = format!("rehull agent token {cluster} {node}  # for the agent of the new system");
    match (manual, reinstall.announced_by.is_some()) {
        (true, false) => vec![
            token,
            format!("reinstall {node}, with its name, its address and that token"),
            format!("rehull migrate confirm-reinstalled {cluster} {node}"),
        ],
        _ => vec![
            token,
            "ssh {address} journalctl -u rehull-agent  # why the new system has not enrolled"
                .into(),
        ],
    }
}

fn operation_help(migration: &Migration, subject: &Subject) -> Vec<String> {
    let Subject::Node(node) = subject else { return Vec::new() };
    let Some(operation) = migration.node(node).and_then(Node::operation) else { return Vec::new() };
    let name = &operation.intent.name;
    vec![
        format!("kubectl {{management}} get clusteroperation {name}"),
        format!("kubectl {{management}} -n {{namespace}} logs job/kubean-{name}-job"),
        "nothing: when it ends, or its time is over, rehull looks at what it did".to_owned(),
    ]
}
