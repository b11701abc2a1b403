//! Stories of installers.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use rehull_shared::{ids::Attempt, text::sha256_hex, time::Span};

use super::*;
use crate::{
    domain::{
        effect::Work,
        state::{Host, Token},
    },
    effects::stage::{Stage, worker1},
};

async fn install(stage: &Stage) -> Result<Requests, String> {
    let work = Work::Install { node: worker1(), attempt: Attempt(2) };
    stage.pass(work).await.map_err(|trouble| trouble.to_string())
}

/// An invitation is open.
async fn invited() -> Stage {
    let mut stage = Stage::new();
    let requests = install(&stage).await.unwrap();
    let [Request::IssueToken { token, .. }] = &requests[..] else { panic!("{requests:?}") };
    open(&mut stage, token.clone());
    stage
}

fn open(stage: &mut Stage, token: Token) {
    let host = Host { token: Some(token), ..Host::default() };
    let hosts = Arc::make_mut(&mut stage.fleet.hosts);
    hosts.insert(("prod".parse().unwrap(), worker1()), host);
}

#[tokio::test]
async fn an_invitation_is_open_before_any_program_runs() {
    let mut stage = Stage::new();
    let requests = install(&stage).await.unwrap();
    let [Request::IssueToken { node, token, by }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((node, by.as_str()), (&worker1(), "installer"));
    assert!(stage.calls.lock().unwrap().is_empty());
    let file = stage.context.dir.join("tokens/prod_worker1");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!(secret, "07".repeat(32));
    assert_eq!(token.sha256, sha256_hex(secret.as_bytes()));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // A crash before the token was open: it is asked for again, not used.
    assert_eq!(install(&stage).await.unwrap(), requests);
    // Another one was opened since: the one in the file lets nobody in any more.
    open(&mut stage, Token { sha256: "other".into(), expires: token.expires });
    assert!(matches!(install(&stage).await.unwrap()[..], [Request::IssueToken { .. }]));
    // The right one, but not until the reinstall must be over.
    let since = (stage.context.clock)();
    stage.node("worker1").track.since = since;
    let soon = since + Span::from_mins(89);
    open(&mut stage, Token { sha256: token.sha256.clone(), expires: soon });
    assert!(matches!(install(&stage).await.unwrap()[..], [Request::IssueToken { .. }]));
    assert!(stage.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_program_is_asked_before_it_is_started_and_told_all_it_needs() {
    let stage = invited().await;
    let answers = [(vec![], 11), (vec!["progress 5 powered off", "noise", "progress 101 x"], 0)];
    stage.answers.lock().unwrap().extend(answers);
    let requests = install(&stage).await.unwrap();
    let [Request::Report(Report::Installer { percent: 5, seen, done: false, .. })] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!(seen, "powered off");
    let calls = stage.calls.lock().unwrap();
    let of = |key: &str| calls.iter().map(|call| call.env[key].as_str()).collect::<Vec<_>>();
    assert_eq!(of("REHULL_ACTION"), ["status", "start"]);
    assert_eq!(of("REHULL_NODE"), ["worker1"; 2]);
    assert_eq!(of("REHULL_ADDRESS"), ["10.0.0.11"; 2]);
    assert_eq!(of("REHULL_ATTEMPT"), ["2"; 2]);
    assert_eq!(of("REHULL_TARGET_OS"), ["ubuntu-22.04"; 2]);
    assert_eq!(of("REHULL_COORDINATOR"), ["coordinator:7443"; 2]);
    assert_eq!(of("REHULL_CA_SHA256"), ["ca"; 2]);
    assert!(of("REHULL_TOKEN_FILE")[0].ends_with("/tokens/prod_worker1"));
    assert!(calls.iter().all(|call| call.program == "/opt/reinstall" && call.env.len() == 10));
}

#[tokio::test]
async fn what_runs_is_not_started_again_and_what_is_done_is_said() {
    let stage = invited().await;
    stage.answers.lock().unwrap().extend([(vec!["progress 40 copying"], 10), (vec![], 0)]);
    let requests = install(&stage).await.unwrap();
    assert!(matches!(
        requests[..],
        [Request::Report(Report::Installer { percent: 40, done: false, .. })]
    ));
    let requests = install(&stage).await.unwrap();
    assert!(matches!(requests[..], [Request::Report(Report::Installer { done: true, .. })]));
    assert_eq!(stage.calls.lock().unwrap().len(), 2, "two looks and no start");
}

#[tokio::test]
async fn a_program_that_fails_is_quoted() {
    let stage = invited().await;
    let answers = [(vec!["no such BMC"], 3), (vec![], 11), (vec!["no route"], 1)];
    stage.answers.lock().unwrap().extend(answers);
    let trouble = install(&stage).await.unwrap_err();
    assert!(trouble.contains("status exits 3: no such BMC"), "{trouble}");
    let trouble = install(&stage).await.unwrap_err();
    assert!(trouble.contains("start exits 1: no route"), "{trouble}");
}

#[tokio::test]
async fn a_program_that_the_settings_do_not_list_is_not_run() {
    let mut stage = invited().await;
    stage.context.installers = vec!["/opt/other".into()];
    let why = install(&stage).await.unwrap_err();
    assert!(why.starts_with("installer /opt/reinstall: is not among installers of"), "{why}");
    assert!(stage.calls.lock().unwrap().is_empty());
}
