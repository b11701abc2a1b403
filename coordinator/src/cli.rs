//! What an operator types: the grammar, and which file answers.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use rehull_shared::{
    ids::{ClusterName, NodeName},
    time::Span,
};

use crate::{rehearsal::demo::Options, telemetry::Format};

mod ask;
mod backup;
mod client;
mod failure;
mod history;
mod init;
mod inventory;
mod manual;
mod output;
mod records;
mod rehearse;
mod serve;
mod watch;

pub use failure::Failure;
pub use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  refused by the rules, with the reason
  4  the coordinator cannot be reached
  5  `status --exit-code`, `rehearse`: something is, or would be, held and waits for a person;
     `etcd`: it is not healthy";

/// Exit code where something is held, or would be, or is not well.
const HELD: u8 = 5;

/// Replaces the operating system under running Kubernetes clusters, node by node, on evidence.
#[derive(Parser, Debug)]
#[command(name = "rehull", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

/// How the coordinator is reached.
#[derive(ClapArgs, Clone, Debug)]
struct Reach {
    /// Directory of the coordinator on this machine; operators reach it by the socket in it.
    #[arg(long, global = true, env = "REHULL_DIR", default_value = "/var/lib/rehull")]
    dir: PathBuf,
    /// Coordinator on another machine, host:port.
    #[arg(long, global = true, env = "REHULL_SERVER", requires = "cert")]
    server: Option<String>,
    /// An operator's certificate; its key lies beside it, as FILE.key for FILE.pem.
    #[arg(long, global = true, env = "REHULL_CERT")]
    cert: Option<PathBuf>,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Makes a coordinator: its certificate authority and its settings. Never overwrites one.
    Init {
        /// Where agents and operators will be listened for.
        #[arg(long, default_value = "0.0.0.0:7443")]
        listen: String,
        /// By which address hosts reach it, host:port; the one listened on if not given.
        #[arg(long)]
        advertise: Option<String>,
        /// Whom the first operator's certificate names; the log will, too.
        #[arg(long, env = "USER", default_value = "operator")]
        operator: String,
    },
    /// Runs the coordinator.
    Serve {
        /// Which log lines are written, as in `info,rehull=debug`.
        #[arg(long, env = "REHULL_LOG", default_value = "info")]
        log: String,
        /// How log lines look.
        #[arg(long, value_enum, default_value_t)]
        log_format: Format,
        /// Where traces go, OTLP over gRPC; beats the settings.
        #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
        otlp_endpoint: Option<String>,
    },
    /// Says what a Migration document would do, and what stands in its way now. Changes nothing.
    Plan {
        #[command(flatten)]
        document: Document,
    },
    /// Begins, pauses and resumes migrations, and answers what they ask of people.
    Migrate {
        #[command(subcommand)]
        command: Migrate,
    },
    /// How far everything is.
    Status {
        /// Only this cluster.
        cluster: Option<ClusterName>,
        /// Exit with 5 if something is held.
        #[arg(long)]
        exit_code: bool,
        /// Read the log in --dir, which no coordinator may hold.
        #[arg(long)]
        offline: bool,
    },
    /// The same, live.
    Watch {
        /// Only this cluster.
        cluster: Option<ClusterName>,
    },
    /// What a cluster or a node waits for, since when, on what evidence, and what would unblock it.
    Explain {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, the cluster itself.
        node: Option<NodeName>,
        /// Read the log in --dir, which no coordinator may hold.
        #[arg(long)]
        offline: bool,
    },
    /// How the etcd of a cluster is, asked through the agents of its control planes: members, leader,
    /// how many could be lost, whether the stores are equal. Exits with 5 if it is not healthy.
    Etcd {
        /// The cluster.
        cluster: ClusterName,
    },
    /// What has happened to a cluster or a node, in words, from the whole log.
    History {
        #[command(flatten)]
        wanted: history::Wanted,
    },
    /// Agents.
    Agent {
        #[command(subcommand)]
        command: Agent,
    },
    /// The event log.
    Log {
        #[command(subcommand)]
        command: Log,
    },
    /// Backups of control planes: etcd's snapshot, certificates and keys, encrypted.
    Backup {
        #[command(subcommand)]
        command: Backup,
    },
    /// Kubean's inventories, hosts.yml. Needs no coordinator.
    Inventory {
        #[command(subcommand)]
        command: Inventory,
    },
    /// Prints the gate table and the policy as Markdown.
    Gates,
    /// Prints what a shell needs to complete commands, as in
    /// `rehull completions bash > /etc/bash_completion.d/rehull`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes a manual page of every command, as in `rehull man --out /usr/local/share/man/man1`.
    Man {
        /// Directory of the pages, which must be there.
        #[arg(long)]
        out: PathBuf,
    },
    /// Rehearses a Migration document on a copy of its cluster, which is read once and not changed.
    /// Needs no coordinator.
    #[command(after_help = rehearse::known())]
    Rehearse {
        #[command(flatten)]
        document: Document,
        #[command(flatten)]
        wanted: rehearse::Wanted,
    },
    /// Rehearses a migration with faults in a simulated fleet: no root, no services.
    Demo {
        /// The same seed gives the same log, byte for byte.
        #[arg(long, default_value_t = 7)]
        seed: u64,
        /// Keep the log here.
        #[arg(long)]
        keep: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
enum Migrate {
    /// Begins the migration of a document.
    Start {
        #[command(flatten)]
        document: Document,
    },
    /// Begins no new step; what runs goes on to its next safe point.
    Pause {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Begins steps again.
    Resume {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Looks again at what is held; takes a hold back that has not taken effect.
    Retry {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, the cluster itself.
        node: Option<NodeName>,
        /// Do it again: a new attempt of the operation, or of the reinstall.
        #[arg(long)]
        resubmit: bool,
    },
    /// Holds a node at its next safe point; without one, lets no other node of the cluster begin.
    Hold {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, the cluster itself.
        node: Option<NodeName>,
        /// For what reason; everybody will read it.
        #[arg(long)]
        why: String,
    },
    /// Decides how something that is held goes on. `rehull explain` says what would help.
    Resolve {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, the cluster itself.
        node: Option<NodeName>,
        #[command(flatten)]
        decision: Decision,
        /// With --rollback-join: let the other nodes go on without this one.
        // `requires` gives way where a conflict forbids what it asks for, so the others are named.
        #[arg(long, requires = "rollback_join")]
        #[arg(conflicts_with_all = ["retry", "resubmit", "abort", "delete_node"])]
        go_on: bool,
    },
    /// Accepts what blocks, item by item: `rehull explain` and `rehull plan` show their numbers.
    Approve {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, for every node of the cluster.
        node: Option<NodeName>,
        /// The number of an item; may be given more than once.
        #[arg(long = "item", required = true)]
        items: Vec<String>,
        /// Why: everybody reads it, as long as the log is kept.
        #[arg(long)]
        why: String,
        /// For how long, at most 720h.
        #[arg(long = "for", default_value = "24h")]
        valid: Span,
        /// The node's name once more, for scripts; people are asked to type that of the first control
        /// plane.
        #[arg(long)]
        typed: Option<String>,
    },
    /// Takes approvals back. What has passed its gate with them is not undone.
    Disapprove {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, the cluster itself.
        node: Option<NodeName>,
        /// The number of an item; may be given more than once.
        #[arg(long = "item", required = true)]
        items: Vec<String>,
    },
    /// Gives up a node, or all of them: what was touched is put back. Only before the point of no
    /// return.
    Abort {
        /// The cluster.
        cluster: ClusterName,
        /// The node; without it, every node and the migration with them.
        node: Option<NodeName>,
    },
    /// Says that a host has been reinstalled by hand.
    ConfirmReinstalled {
        /// The cluster.
        cluster: ClusterName,
        /// The node.
        node: NodeName,
        /// The node's name once more, for scripts; people are asked to type it.
        #[arg(long)]
        typed: Option<String>,
    },
}

/// One way for something that is held to go on.
#[derive(ClapArgs, Debug)]
#[group(required = true, multiple = false)]
struct Decision {
    /// Look again.
    #[arg(long)]
    retry: bool,
    /// Do it again: a new attempt of the operation, or of the reinstall.
    #[arg(long)]
    resubmit: bool,
    /// Give it up, and put it back.
    #[arg(long)]
    abort: bool,
    /// Delete the Node object that outlived its removal: by UID, once its host is proved clean.
    #[arg(long, requires = "node")]
    delete_node: bool,
    /// Put a removed node back with the system that it still has; the others wait for a person.
    #[arg(long, requires = "node")]
    rollback_join: bool,
}

#[derive(ClapArgs, Debug)]
struct Document {
    /// A Migration document, YAML; `-` reads standard input.
    #[arg(long = "file", short = 'f')]
    file: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Agent {
    /// Invites a host to enrol: prints its token and configuration, once.
    Token {
        /// The cluster.
        cluster: ClusterName,
        /// The node.
        node: NodeName,
        /// How long the token is valid, at most 168h.
        #[arg(long, default_value = "1h")]
        valid: Span,
    },
    /// Makes the certificate of a host's agent, and an open invitation, worthless at once.
    Revoke {
        /// The cluster.
        cluster: ClusterName,
        /// The node.
        node: NodeName,
    },
    /// The agents and their last signs of life.
    List {
        /// Only this cluster.
        cluster: Option<ClusterName>,
    },
}

#[derive(Subcommand, Debug)]
enum Log {
    /// Checks every event of the log: numbers, hashes, and that the state follows.
    Verify,
    /// Prints every event as one line of JSON.
    Export,
    /// Prints what was recorded of a node or its host before it was touched, as JSON. `rehull history
    /// CLUSTER NODE --events SnapshotRecorded` says under which hashes.
    Record {
        /// The hash, or its beginning.
        hash: String,
        /// Only the content of this file of the host.
        path: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
enum Backup {
    /// Has the agent of a control plane send one.
    Take {
        /// The cluster.
        cluster: ClusterName,
        /// The control plane; without it, one whose member of etcd does not lead.
        node: Option<NodeName>,
    },
    /// The backups on this machine, the oldest first.
    List {
        /// Only of this cluster.
        cluster: Option<ClusterName>,
    },
    /// Checks that a backup is what it was when it was taken.
    Verify {
        /// Its directory.
        backup: PathBuf,
        /// A file with a key of age: decrypts it, too, and checks etcd's own hash.
        #[arg(long)]
        identity: Option<PathBuf>,
    },
    /// Makes an etcd of a backup, for a moment and for nobody else, and says what it holds.
    Prove {
        /// Its directory.
        backup: PathBuf,
        /// A file with a key of age.
        #[arg(long)]
        identity: PathBuf,
        /// The directory of etcdutl, etcd and etcdctl.
        #[arg(long, default_value = "/usr/local/bin")]
        programs: PathBuf,
        /// Tell it to the coordinator, so that control planes of its cluster may go.
        #[arg(long)]
        record: bool,
    },
    /// Decrypts a backup into a new directory. Needs no coordinator.
    Restore {
        /// Its directory.
        backup: PathBuf,
        /// A file with a key of age.
        #[arg(long)]
        identity: PathBuf,
        /// The directory that is made.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand, Debug)]
enum Inventory {
    /// Says what rehull understands of an inventory, or why it refuses it.
    Check {
        /// The inventory; `-` reads standard input.
        file: PathBuf,
    },
    /// Puts a control plane last in kube_control_plane, kube_node and etcd, and proves that nothing
    /// else changes. Prints the edit as a diff.
    Reorder {
        /// The inventory; `-` reads standard input.
        file: PathBuf,
        /// The control plane that comes last.
        #[arg(long)]
        last: NodeName,
        /// Write it, if the file is still what was read. What it was is kept beside it.
        #[arg(long)]
        write: bool,
    },
}

/// Does what was typed.
///
/// # Errors
/// A [`Failure`], which says what happened, to what, and what next, and has an exit code.
pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let Args { reach, command } = args;
    match command {
        Command::Init { listen, advertise, operator } => {
            init::init(&reach.dir, &listen, advertise, &operator)
        }
        Command::Serve { log, log_format, otlp_endpoint } => {
            serve::serve(&reach.dir, &log, log_format, otlp_endpoint).await
        }
        Command::Plan { document } => ask::plan(&reach, &document.file).await,
        Command::Migrate { command } => migrate(&reach, command).await,
        Command::Status { cluster, exit_code, offline: false } => {
            ask::status(&reach, cluster, exit_code).await
        }
        Command::Status { cluster, exit_code, offline: true } => {
            records::status(&reach, cluster.as_ref(), exit_code)
        }
        Command::Watch { cluster } => watch::watch(&reach, cluster).await,
        Command::Explain { cluster, node, offline: false } => {
            ask::explain(&reach, cluster, node).await
        }
        Command::Explain { cluster, node, offline: true } => {
            records::explain(&reach, &cluster, node.as_ref())
        }
        Command::Etcd { cluster } => ask::etcd(&reach, cluster).await,
        Command::History { wanted } => history::history(&reach, wanted).await,
        Command::Agent { command: Agent::Token { cluster, node, valid } } => {
            ask::token(&reach, cluster, node, valid).await
        }
        Command::Agent { command: Agent::Revoke { cluster, node } } => {
            ask::revoke(&reach, cluster, node).await
        }
        Command::Agent { command: Agent::List { cluster } } => ask::agents(&reach, cluster).await,
        Command::Log { command: Log::Verify } => records::verify(&reach).await,
        Command::Log { command: Log::Export } => records::export(&reach),
        Command::Log { command: Log::Record { hash, path } } => {
            records::record(&reach, &hash, path.as_deref())
        }
        Command::Backup { command } => backup::run(&reach, command).await,
        Command::Inventory { command: Inventory::Check { file } } => {
            inventory::check(&reach, &file)
        }
        Command::Inventory { command: Inventory::Reorder { file, last, write } } => {
            inventory::reorder(&reach, &file, &last, write)
        }
        Command::Gates => output::text(&crate::projection::table()),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { out } => manual::pages(&out),
        Command::Rehearse { document, wanted } => {
            rehearse::rehearse(&reach, &document.file, wanted).await
        }
        Command::Demo { seed, keep } => {
            crate::rehearsal::demo::run(&Options { seed, keep }).await.map_err(Failure::new)
        }
    }
}

async fn migrate(reach: &Reach, command: Migrate) -> Result<ExitCode, Failure> {
    match command {
        Migrate::Start { document } => ask::start(reach, &document.file).await,
        Migrate::Pause { cluster } => ask::pause(reach, cluster).await,
        Migrate::Resume { cluster } => ask::resume(reach, cluster).await,
        Migrate::Retry { cluster, node, resubmit } => {
            ask::retry(reach, cluster, node, resubmit).await
        }
        Migrate::Hold { cluster, node, why } => ask::hold(reach, cluster, node, why).await,
        Migrate::Resolve { cluster, node, decision, go_on } => match (decision, node) {
            (Decision { delete_node: true, .. }, Some(node)) => {
                ask::delete_node(reach, cluster, node).await
            }
            (Decision { rollback_join: true, .. }, Some(node)) => {
                ask::roll_back(reach, cluster, node, go_on).await
            }
            (Decision { abort: true, .. }, node) => ask::abort(reach, cluster, node).await,
            (Decision { resubmit, .. }, node) => ask::retry(reach, cluster, node, resubmit).await,
        },
        Migrate::Approve { cluster, node, items, why, valid, typed } => {
            let approved = ask::Approved { node, items, why, valid };
            ask::approve(reach, cluster, approved, typed).await
        }
        Migrate::Disapprove { cluster, node, items } => {
            ask::disapprove(reach, cluster, node, items).await
        }
        Migrate::Abort { cluster, node } => ask::abort(reach, cluster, node).await,
        Migrate::ConfirmReinstalled { cluster, node, typed } => {
            ask::confirm_reinstalled(reach, cluster, node, typed).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_operators_type_is_understood() {
        for line in [
            "init --listen 0.0.0.0:7443 --advertise rehull.example:7443 --dir /tmp/x",
            "serve --log debug --log-format json",
            "plan -f m.yaml -o json",
            "migrate start -f -",
            "migrate pause prod",
            "migrate resume prod",
            "migrate retry prod",
            "migrate retry prod worker1 --resubmit",
            "migrate hold prod worker1 --why maintenance",
            "migrate hold prod --why x",
            "migrate resolve prod --retry",
            "migrate resolve prod worker1 --resubmit",
            "migrate resolve prod worker1 --abort",
            "migrate resolve prod worker1 --delete-node",
            "migrate resolve prod worker1 --rollback-join",
            "migrate resolve prod worker1 --rollback-join --go-on",
            "migrate approve prod --item 0123456789ab --why agreed",
            "migrate approve prod worker1 --item 0123456789ab --item ba9876543210 --why x --for 2h",
            "migrate approve prod master1 --item 0123456789ab --why x --for 720h --typed master1",
            "migrate disapprove prod worker1 --item 0123456789ab",
            "migrate abort prod",
            "migrate abort prod worker1",
            "migrate confirm-reinstalled prod worker1 --typed worker1",
            "status --exit-code --output yaml",
            "--server c:7443 --cert op.pem status prod",
            "status --offline --dir /tmp/x",
            "watch prod",
            "explain prod worker1",
            "etcd prod -o json",
            "backup take prod master2",
            "backup list prod",
            "backup verify /b/prod/x --identity key.txt",
            "backup prove /b/prod/x --identity key.txt --programs /opt/etcd",
            "backup prove /b/prod/x --identity key.txt --record",
            "backup restore /b/prod/x --identity key.txt --out /tmp/x",
            "agent token prod worker1 --valid 2h",
            "agent list prod",
            "log verify --dir /tmp/x",
            "log export",
            "gates",
            "inventory check hosts.yml -o json",
            "inventory reorder hosts.yml --last master1 --write",
            "demo --seed 9 --keep /tmp/x",
            "rehearse -f m.yaml --fault wrong-os@worker1 --fault agent-lost --faults 2 -o json",
        ] {
            let words = ["rehull"].into_iter().chain(line.split(' '));
            assert!(Args::try_parse_from(words).is_ok(), "`rehull {line}` was not understood");
        }
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_asked() {
        for line in [
            "migrate pause",
            "rehearse -f m.yaml --fault broken",
            "rehearse -f m.yaml --fault wrong-os@Worker_1",
            "migrate retry Prod",
            "migrate hold prod worker1",
            "migrate approve prod worker1 --why x",
            "migrate approve prod worker1 --item 0123456789ab",
            "migrate resolve prod worker1",
            "migrate resolve prod --delete-node",
            "migrate resolve prod --rollback-join",
            "migrate resolve prod worker1 --retry --go-on",
            "migrate resolve prod worker1 --retry --abort",
            "migrate retry prod node_1",
            "agent token prod worker1 --valid soon",
            "--server c:7443 status",
            "explain prod a b",
            "inventory reorder hosts.yml",
            "backup restore /b/prod/x --out /tmp/x",
        ] {
            let words = ["rehull"].into_iter().chain(line.split(' '));
            let error = Args::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "`rehull {line}`");
        }
    }
}
