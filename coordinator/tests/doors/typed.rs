//! What an operator types: the program itself, against a coordinator behind its socket.

use std::{path::Path, process::Stdio};

use rehull_proto::v1::{
    HistoryRequest,
    intent::{Approve, Pause, Resume, Wish},
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};
use tonic::Code;

use crate::{
    house::{Coordinator, coordinator},
    operators::{DOCUMENT, intent, register, register_with, start, with_control_planes},
};

/// How a command ended.
pub(crate) struct Typed {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Types a command, with something on standard input.
async fn typed_with(dir: &Path, args: &[&str], input: &str) -> Typed {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rehull"))
        .args(args)
        .env("REHULL_DIR", dir)
        .env_remove("REHULL_SERVER")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    _ = stdin.write_all(input.as_bytes()).await; // it may not read
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Typed {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

pub(crate) async fn typed(dir: &Path, args: &[&str]) -> Typed {
    typed_with(dir, args, "").await
}

/// What is printed by a command that must do well.
async fn said(dir: &Path, args: &[&str]) -> String {
    let Typed { code, out, err } = typed(dir, args).await;
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

/// A coordinator whose migration was begun, paused and resumed.
async fn with_a_past() -> Coordinator {
    let coordinator = coordinator().await;
    register(&coordinator);
    coordinator.token().await;
    let mut operator = coordinator.operator().await;
    operator.start(start()).await.unwrap();
    operator.submit(intent(Wish::Pause(Pause {}))).await.unwrap();
    operator.submit(intent(Wish::Resume(Resume {}))).await.unwrap();
    coordinator
}

/// The entries of a history in JSON, one a line.
fn entries(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_history_is_the_same_from_the_coordinator_and_from_the_log_that_it_left() {
    let coordinator = with_a_past().await;
    let dir = coordinator.dir.path();
    let asks: [&[&str]; 5] = [
        &["history", "prod", "-o", "json"],
        &["history", "prod", "worker1", "-o", "json"],
        &["history", "prod", "--events", "MigrationPaused,MigrationResumed", "-o", "json"],
        &["history", "prod", "--since", "2000-01-01T00:00:00Z", "-o", "json"],
        &["history", "prod", "--since", "2999-01-01T00:00:00Z", "-o", "json"],
    ];
    let mut live = Vec::new();
    for args in asks {
        live.push(said(dir, args).await);
    }
    let all = entries(&live[0]);
    let meant = [
        "TokenIssued",
        "MigrationStarted",
        "NodePlanned",
        "NodePlanned",
        "EvidenceRequested",
        "MigrationPaused",
        "MigrationResumed",
    ];
    assert_eq!(names(&all), meant);
    assert!(all[5]["words"].as_str().unwrap().ends_with(" paused it."), "{all:#?}");
    assert_eq!(names(&entries(&live[1])), ["TokenIssued", "NodePlanned"]);
    assert_eq!(names(&entries(&live[2])), ["MigrationPaused", "MigrationResumed"]);
    assert_eq!(live[3], live[0]);
    assert_eq!(live[4], "");
    let table = said(dir, &["history", "prod", "worker1"]).await;
    assert!(table.contains("  #2      worker1: ") && table.lines().count() == 2, "{table}");
    let nothing = said(dir, &["history", "test"]).await;
    assert_eq!(nothing, "Nothing of that has happened.\n");
    let yaml = said(dir, &["history", "prod", "worker1", "-o", "yaml"]).await;
    assert_eq!(yaml.matches("event: ").count(), 2, "{yaml}");

    let mut operator = coordinator.operator().await;
    let request = HistoryRequest { since: "yesterday".into(), ..HistoryRequest::default() };
    let refused = operator.history(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    drop(operator);
    let misspelt = typed(dir, &["history", "prod", "--events", "Hold"]).await;
    assert!(misspelt.code == 2 && misspelt.err.contains("`Held`"), "{}", misspelt.err);
    // It holds the log.
    let locked = typed(dir, &["history", "prod", "--offline"]).await;
    assert!(locked.code == 1 && locked.err.contains("is open in"), "{}", locked.err);

    coordinator.stop();
    for (args, live) in asks.into_iter().zip(live) {
        let offline = said(dir, &[args, &["--offline"]].concat()).await;
        assert_eq!(offline, live, "{args:?}");
    }
}

#[tokio::test]
async fn a_fault_of_a_document_is_told_with_file_line_and_field() {
    let coordinator = coordinator().await;
    register(&coordinator);
    let dir = coordinator.dir.path();
    let file = dir.join("migration.yaml");
    let cases = [
        (DOCUMENT.replace("source:", "sauce:"), "line 8, column 3: spec.sauce: unknown field"),
        (
            DOCUMENT.replace("cluster: prod\n", "cluster: test\n"),
            "line 5, column 3: spec.cluster: ",
        ),
        (
            format!("{DOCUMENT}  nodes: {{include: [worker9]}}\n"),
            "line 15, column 11: spec.nodes.include: worker9 is not a host of the inventory",
        ),
        (
            DOCUMENT.replace("spray-job:v0.12.2", "spray-job"),
            "line 11, column 5: spec.operations.image: \"ghcr.io/kubean-io/spray-job\" has no tag",
        ),
        (
            format!("{DOCUMENT}  deletionProtection: {{hook: {{}}}}\n"),
            "line 15, column 3: spec.deletionProtection: deletionProtection of the coordinator's",
        ),
        (DOCUMENT.replace("  source:", "\tsource:"), "line 8"),
    ];
    for (document, words) in &cases {
        std::fs::write(&file, document).unwrap();
        for command in [&["plan"][..], &["migrate", "start"]] {
            let path = file.display().to_string();
            let refused = typed(dir, &[command, &["-f", &path]].concat()).await;
            let begin = format!("rehull: {path}: {words}");
            assert!(refused.err.starts_with(&begin), "{:?} does not begin {begin:?}", refused.err);
            assert_eq!((refused.code, refused.err.lines().count()), (3, 1), "{}", refused.err);
        }
    }
    let refused = typed_with(dir, &["plan", "-f", "-"], &cases[0].0).await;
    assert!(refused.err.starts_with("rehull: standard input: line 8"), "{}", refused.err);
    let missing = typed(dir, &["plan", "-f", "/nowhere.yaml"]).await;
    assert!(missing.err.starts_with("rehull: /nowhere.yaml: No such file"), "{}", missing.err);
    // Nothing of it has begun, and nothing was written.
    let status = said(dir, &["status"]).await;
    assert!(status.contains("No migration is known"), "{status}");
    let reads = |call: &String| call.starts_with("GET");
    assert!(coordinator.world.calls().iter().all(reads), "{:?}", coordinator.world.calls());
}

#[tokio::test]
async fn the_grammar_gives_completions_and_manual_pages() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(dir.path(), &["completions", shell]).await;
        assert!(script.contains("confirm-reinstalled"), "{shell}");
    }
    let out = dir.path().display().to_string();
    said(dir.path(), &["man", "--out", &out]).await;
    for page in ["rehull.1", "rehull-migrate.1", "rehull-migrate-retry.1", "rehull-history.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS") || text.contains(".SH NAME"), "{page}: {text}");
    }
    let failed = typed(dir.path(), &["man", "--out", "/nowhere"]).await;
    assert!(failed.code == 1 && failed.err.contains("/nowhere: "), "{}", failed.err);
}

#[tokio::test]
async fn approvals_for_the_first_control_plane_take_its_name_typed() {
    let coordinator = coordinator().await;
    let (document, inventory) = with_control_planes();
    register_with(&coordinator, &inventory);
    let dir = coordinator.dir.path();
    let file = dir.join("migration.yaml");
    std::fs::write(&file, document).unwrap();
    let file = file.display().to_string();
    let plan = said(dir, &["plan", "-f", &file]).await;
    let (_, offered) = plan.split_once("rehull migrate approve prod master1 --item ").unwrap();
    let item = offered.split(' ').next().unwrap();
    let found = format!("joins again (item {item})");
    assert!(plan.contains(&found), "{plan}");

    said(dir, &["migrate", "start", "-f", &file]).await;
    let approve = |node, typed: &'static [&'static str]| {
        let words = ["migrate", "approve", "prod", node, "--item", item, "--why", "tonight"];
        [&words[..], typed].concat()
    };
    for (more, words) in [
        (&[][..], "give --typed NAME"),
        (&["--typed", "master2"][..], "\"master2\" is not master1: nothing was approved"),
    ] {
        let refused = typed(dir, &approve("master1", more)).await;
        assert!(refused.code == 2 && refused.err.contains(words), "{}", refused.err);
    }
    // A client that asks nobody is refused by the coordinator.
    let (node, items, why) = ("master1".to_owned(), vec![item.to_owned()], "so".to_owned());
    let silent = Approve { node, items, why, valid_seconds: 0, typed: "master2".to_owned() };
    let mut operator = coordinator.operator().await;
    let refused = operator.submit(intent(Wish::Approve(silent))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");

    said(dir, &approve("master1", &["--typed", "master1"])).await;
    let told = said(dir, &["explain", "prod", "master1"]).await;
    assert!(told.contains(&format!("joins again (item {item}) by ")), "{told}");
    let plan = said(dir, &["plan", "-f", &file]).await;
    assert!(
        plan.contains("accepted by") && !plan.contains("migrate approve prod master1"),
        "{plan}"
    );
    // It is no item of the others.
    let other = typed(dir, &approve("master2", &[])).await;
    assert!(other.err.contains("nothing of master2 that could be accepted"), "{}", other.err);
}
