//! Arguments of playbooks: a closed grammar.
//!
//! The operator pastes them into a shell script, unquoted. Every form below is therefore safe as it
//! stands, on one line (errata E20), and names exactly one host where it names any (E7, E8).

use rehull_shared::ids::NodeName;

/// One argument of a playbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The one host that is removed.
    Node(NodeName),
    /// The one host to which a play is limited.
    Limit(NodeName),
    /// The running version of Kubernetes, so that nothing is upgraded on the way (E16).
    KubeVersion(KubeVersion),
    /// Lines for the package manager of the target.
    RepoList(Vec<RepoLine>),
    /// All control planes and members of etcd: what joins one needs the facts of all of them.
    LimitControlPlanes,
    /// One host after the other, in handlers, too: what restarts on all hosts restarts on one of them.
    OneByOne,
    /// What kubespray asserts of an inventory with two systems in it is wrong; gates assert it (E15).
    IgnoreAssertErrors,
    /// Tasks of a network that is there already (domain reference 1, S3).
    SkipMultus,
    /// An upgrade to the running version drains nobody.
    NoDrain,
}

/// A version as kubespray takes it: `v1.27.5`, or `1.31.6` from kubespray 2.27 on (E16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeVersion(String);

/// One line of a package repository, with nothing in it that a shell, YAML or Jinja would read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoLine(String);

/// A value that cannot be an argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArg {
    /// No version.
    #[error("{0:?} is not a version of Kubernetes such as v1.27.5")]
    Version(String),
    /// No line of a repository.
    #[error("{0:?} is not a line of a repository: letters, digits, blanks and .,:/_=@%+~-[] only")]
    RepoLine(String),
}

/// Longest line of a repository, in bytes.
const REPO_LINE_MAX: usize = 500;

impl TryFrom<&str> for KubeVersion {
    type Error = BadArg;
    fn try_from(text: &str) -> Result<Self, BadArg> {
        let numbers: Vec<&str> = text.strip_prefix('v').unwrap_or(text).split('.').collect();
        let number = |part: &&str| {
            (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        match numbers.len() == 3 && numbers.iter().all(number) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadArg::Version(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<&str> for RepoLine {
    type Error = BadArg;
    fn try_from(text: &str) -> Result<Self, BadArg> {
        let fits = |c: char| c.is_ascii_alphanumeric() || " .,:/_=@%+~-[]".contains(c);
        match !text.trim().is_empty() && text.len() <= REPO_LINE_MAX && text.chars().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadArg::RepoLine(text.chars().take(80).collect())),
        }
    }
}

impl std::fmt::Display for Arg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Arg::Node(node) => write!(f, "-e node={node}"),
            Arg::Limit(node) => write!(f, "--limit={node}"),
            Arg::LimitControlPlanes => write!(f, "--limit=etcd,kube_control_plane"),
            Arg::OneByOne => write!(f, "--forks=1"),
            Arg::IgnoreAssertErrors => write!(f, "-e ignore_assert_errors=yes"),
            Arg::SkipMultus => write!(f, "--skip-tags=multus"),
            // As YAML: a bare `false` would be a text, which is true (E22).
            Arg::NoDrain => write!(f, "-e \"{{drain_nodes: false}}\""),
            Arg::KubeVersion(KubeVersion(version)) => write!(f, "-e kube_version={version}"),
            Arg::RepoList(lines) => {
                // A YAML list for Ansible in double quotes for the shell: RepoLine has neither.
                let lines: Vec<String> = lines.iter().map(|line| format!("'{}'", line.0)).collect();
                write!(f, "-e \"{{repo_list: [{}]}}\"", lines.join(","))
            }
        }
    }
}

/// Arguments on one line; `None` if there are none.
pub fn line(args: &[Arg]) -> Option<String> {
    let words: Vec<String> = args.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_shell_hands_over_exactly_what_was_meant() {
        let lines = [
            "deb [trusted=yes] http://minio:9000/kubean/ubuntu jammy main",
            "deb [trusted=yes] http://minio:9000/kubean/ubuntu-iso jammy main restricted",
        ];
        let repos = lines.map(|line| RepoLine::try_from(line).unwrap()).to_vec();
        let args = [
            Arg::Limit(node("worker-1.rack")),
            Arg::Node(node("worker1")),
            Arg::KubeVersion(KubeVersion::try_from("v1.27.5").unwrap()),
            Arg::RepoList(repos),
            Arg::LimitControlPlanes,
            Arg::OneByOne,
            Arg::NoDrain,
        ];
        let script = format!("printf '%s\\n' {}", line(&args).unwrap());
        let ran = std::process::Command::new("bash").args(["-euc", &script]).output().unwrap();
        let words = String::from_utf8(ran.stdout).unwrap();
        let list = format!("{{repo_list: ['{}','{}']}}", lines[0], lines[1]);
        let meant = [
            "--limit=worker-1.rack",
            "-e",
            "node=worker1",
            "-e",
            "kube_version=v1.27.5",
            "-e",
            &list,
            "--limit=etcd,kube_control_plane",
            "--forks=1",
            "-e",
            "{drain_nodes: false}",
        ];
        assert_eq!(words.lines().collect::<Vec<_>>(), meant);
        // And Ansible reads the last word as YAML, because it begins with a brace.
        let read: std::collections::BTreeMap<String, Vec<String>> =
            serde_saphyr::from_str(&list).unwrap();
        assert_eq!(read["repo_list"], lines);
    }

    #[test]
    fn nothing_that_a_shell_yaml_or_jinja_reads_gets_into_a_line() {
        for bad in [
            "",
            " ",
            "deb $(reboot)",
            "deb `reboot`",
            "deb \"x",
            "deb 'x",
            "deb \\x",
            "deb x; reboot",
            "deb x\nreboot",
            "deb x & y",
            "deb {{ lookup('pipe', 'id') }}",
            "deb x # y",
            "deb x | y",
            "deb <x",
            "deb !x",
            "deb x*",
        ] {
            assert!(RepoLine::try_from(bad).is_err(), "{bad:?} was taken");
        }
        for bad in ["", "1.27", "v1.27.5.1", "latest", "v1.27.x", "v1.27.5 -e x=1", "v1..5"] {
            assert!(KubeVersion::try_from(bad).is_err(), "{bad:?} was taken");
        }
        assert!(KubeVersion::try_from("1.31.6").is_ok(), "newer kubespray has no v");
    }
}
