//! Killing in directories that look like hosts, and of a real process.

use tempfile::TempDir;

use super::*;
use crate::host::directory::Directory;

fn host() -> (TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let host = Directory::new(dir.path());
    host.process(1, "/sbin/init", 0, false).unwrap();
    host.process(50, "/usr/local/bin/kube-proxy", 500, true).unwrap();
    host.process(60, "/usr/bin/containerd-shim-runc-v2", 600, false).unwrap();
    host.listeners(&[]).unwrap();
    (dir, host)
}

fn seen(host: &Directory) -> Vec<Process> {
    leftovers(&host.host()).unwrap().0
}

async fn order(host: &Directory, processes: Vec<Process>) -> Answer {
    let order = KillLeftovers { id: "k".to_owned(), processes, grace_seconds: 1 };
    kill(&host.host(), &order).await
}

#[tokio::test]
async fn what_was_named_is_gone_and_proven_gone() {
    let (_dir, host) = host();
    let answer = order(&host, seen(&host)).await;
    assert_eq!(answer.outcome, Outcome::Done);
    assert_eq!(
        answer.seen,
        "named 2: kube-proxy 50, containerd-shim 60; 2 of them ran; TERM to 2; all gone; \
         no port of Kubernetes in use"
    );
    assert_eq!(seen(&host), []);
}

#[tokio::test]
async fn a_survivor_is_named_and_the_rest_is_gone() {
    let (_dir, host) = host();
    host.file("proc/50/immortal", "").unwrap();
    host.listeners(&[10249]).unwrap();
    let answer = order(&host, seen(&host)).await;
    assert_eq!(answer.outcome, Outcome::Failed);
    assert_eq!(answer.survivors.iter().map(|p| p.pid).collect::<Vec<_>>(), [50]);
    let end = "TERM to 2; KILL to 1; still there: kube-proxy 50; ports in use: 10249";
    assert!(answer.seen.ends_with(end), "{}", answer.seen);
}

#[tokio::test]
async fn nothing_is_killed_while_a_kubelet_runs() {
    let (_dir, host) = host();
    let named = seen(&host);
    host.process(70, "/usr/local/bin/kubelet", 700, false).unwrap();
    let answer = order(&host, named).await;
    assert_eq!(answer.outcome, Outcome::Refused);
    assert_eq!(answer.seen, "kubelet 70 runs and would start them again");
    assert_eq!(seen(&host).len(), 3);
}

#[tokio::test]
async fn a_pid_that_has_come_to_mean_another_process_is_left_alone() {
    let changes: [fn(&mut Process); 2] =
        [|process| process.start_ticks += 1, |process| process.exe = "/usr/bin/other".to_owned()];
    for change in changes {
        let (_dir, host) = host();
        let mut named = seen(&host);
        change(&mut named[0]);
        let answer = order(&host, named).await;
        assert_eq!(answer.outcome, Outcome::Done, "what was named is not there: {}", answer.seen);
        assert_eq!(seen(&host).iter().map(|p| p.pid).collect::<Vec<_>>(), [50]);
    }
}

#[tokio::test]
async fn a_program_that_was_deleted_from_disk_is_still_the_same_process() {
    let (_dir, host) = host();
    let named = seen(&host);
    host.file("proc/50/exe", "/usr/local/bin/kube-proxy (deleted)").unwrap();
    assert_eq!(order(&host, named).await.outcome, Outcome::Done);
    assert_eq!(seen(&host), []);
}

#[tokio::test]
async fn a_process_that_is_none_of_kubernetes_makes_the_whole_order_void() {
    let (_dir, host) = host();
    host.process(20, "/usr/sbin/sshd", 5, false).unwrap();
    let mut named = seen(&host);
    named.extend(look_at(&host.host(), 20).unwrap());
    let answer = order(&host, named).await;
    assert_eq!(answer.outcome, Outcome::Refused);
    assert_eq!(answer.seen, "sshd 20 is no process of Kubernetes");
    assert_eq!(seen(&host).len(), 2, "nothing was touched");
}

#[tokio::test]
async fn an_order_without_bounds_is_refused() {
    let (_dir, host) = host();
    let many = vec![Process::default(); FOUND_MAX + 1];
    assert_eq!(order(&host, many).await.outcome, Outcome::Refused);
    let init = Process { pid: 1, exe: "/sbin/init".to_owned(), ..Process::default() };
    let answer = order(&host, vec![init]).await;
    assert_eq!(answer.seen, "pid 1: not a pid that may be killed");
    let patient = KillLeftovers { grace_seconds: 121, ..KillLeftovers::default() };
    assert_eq!(kill(&host.host(), &patient).await.outcome, Outcome::Refused);
}

/// A real child under the name of a shim, that ignores TERM: it takes the grace and then KILL. The
/// machine is seen through a window that shows only this child, as kubelets may run beside the test.
#[tokio::test]
async fn a_real_process_that_ignores_term_is_killed_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let shim = dir.path().join("containerd-shim");
    std::fs::copy("/bin/sh", &shim).unwrap();
    let mut child = std::process::Command::new(&shim)
        .args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut ready).unwrap();
    let window = dir.path().join("window/proc");
    std::fs::create_dir_all(&window).unwrap();
    for name in ["net", &child.id().to_string()] {
        std::os::unix::fs::symlink(format!("/proc/{name}"), window.join(name)).unwrap();
    }
    let machine = Host::machine_through(window.parent().unwrap());
    let process = look_at(&machine, child.id()).unwrap().unwrap();
    assert_eq!(process.comm, "containerd-shim");
    let order = KillLeftovers { id: "k".to_owned(), processes: vec![process], grace_seconds: 1 };
    let began = Instant::now();
    let answer = kill(&machine, &order).await;
    let took = began.elapsed();
    child.wait().unwrap();
    assert_eq!(answer.outcome, Outcome::Done, "{}", answer.seen);
    assert!(answer.seen.contains("TERM to 1; KILL to 1; all gone"), "{}", answer.seen);
    assert!((1.0..5.0).contains(&took.as_secs_f64()), "{took:?}");
}
