//! The files that people have made the host what it is with: kept off the host before it is wiped, so
//! that somebody can look up what was there. Nothing that looks like a secret leaves the host.

use rehull_proto::v1::{File, Files};

use super::Gaps;
use crate::host::Host;

/// Files, and directories whose files (not those below them) are kept. Domain reference 5.3, G2. Not
/// among them: keys, credentials, and the runtime's own settings, which may hold those of registries.
const KEPT: &[&str] = &[
    "/etc/hosts",
    "/etc/fstab",
    "/etc/resolv.conf",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/etc/modules-load.d",
    "/etc/security/limits.conf",
    "/etc/security/limits.d",
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/systemd/system",
    "/etc/sysconfig/network-scripts",
    "/etc/network/interfaces",
    "/etc/netplan",
    "/etc/systemd/network",
    "/etc/chrony.conf",
    "/etc/chrony/chrony.conf",
    "/etc/ntp.conf",
    "/etc/systemd/timesyncd.conf",
    "/root/.ssh/authorized_keys",
    "/etc/yum.repos.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
];

const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: usize = 32 * 1024;

/// All files together: a message of an agent is bounded, too.
const ALL_BYTES_MAX: usize = 128 * 1024;

/// Words of lines that may hold a secret, without what may stand between their parts.
const SECRETS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "privatekey",
    "presharedkey",
    "psk",
    "wirelesskey",
    "wepkey",
];

/// Whole names that a secret stands behind: of MACsec in a .netdev file and WireGuard in netplan (`key`,
/// `keys.private` and `keys.shared`), and of a mount in fstab (`pass`).
const NAMES: [&str; 4] = ["key", "private", "shared", "pass"];

/// What stands in the place of such a line.
const LEFT_OUT: &str = "(left out by rehull: it may hold a secret)";

/// Reads them; what is not there is no gap, what is too long is one.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> Files {
    let mut found: Vec<File> = Vec::new();
    let mut bytes = 0;
    for path in KEPT.iter().flat_map(|path| files(host, path, gaps)).collect::<Vec<_>>() {
        let text = match host.text(&path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.is_absence() => continue,
            Err(error) => {
                gaps.add("files", error);
                continue;
            }
        };
        let content = without_secrets(&text);
        if found.len() == FILES_MAX || bytes + content.len() > ALL_BYTES_MAX {
            gaps.add("files", format!("{path} and what comes after it: too much"));
            break;
        }
        bytes += content.len();
        let mode = host.mode(&path).unwrap_or_default();
        found.push(File { path, content, mode });
    }
    Files { found }
}

/// The files of a directory, or the file itself.
fn files(host: &Host, path: &str, gaps: &mut Gaps) -> Vec<String> {
    match host.names(path, FILES_MAX) {
        Ok(names) => {
            let paths = names.into_iter().map(|name| format!("{path}/{name}"));
            paths.filter(|path| host.is_file(path)).collect()
        }
        Err(error) if error.why.kind() == std::io::ErrorKind::NotADirectory => {
            vec![path.to_owned()]
        }
        Err(error) if error.is_absence() => Vec::new(),
        Err(error) => {
            gaps.add("files", error);
            Vec::new()
        }
    }
}

/// The text, with lines that may hold a secret replaced; whole keys too, and what such a line goes on with.
fn without_secrets(text: &str) -> String {
    let mut key = false;
    let mut goes_on = false;
    let mut above: Option<usize> = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        let indent = line.len() - line.trim_start().len();
        above = above.filter(|above| indent > *above);
        key |= lower.contains("-----begin");
        let secret = key || goes_on || above.is_some() || may_hold_secret(&lower);
        lines.push(if secret { LEFT_OUT } else { line });
        key &= !lower.contains("-----end");
        let end = line.trim_end();
        goes_on = secret && end.ends_with('\\');
        // In YAML the value may stand below its name.
        let value_below = secret && end.trim_end_matches(['-', '+']).ends_with([':', '|', '>']);
        above = above.or(value_below.then_some(indent));
    }
    lines.dedup_by(|one, other| one == other && *one == LEFT_OUT);
    let mut content = lines.join("\n");
    if text.ends_with('\n') {
        content.push('\n');
    }
    content
}

/// Whether a line, in small letters, names a secret or has a URL with a user before its host.
fn may_hold_secret(line: &str) -> bool {
    let between = |c: char| c == '-' || c == '_' || c == ' ';
    let together = line.replace(between, "");
    let is_end = |c: char| c == '/' || c.is_whitespace();
    let mut hosts = line.split("://").skip(1).filter_map(|rest| rest.split(is_end).next());
    let mut names = line.match_indices([':', '=']).filter_map(|(at, _)| {
        let before = line[..at].trim_end().trim_end_matches(['"', '\'']);
        before.rsplit(|c: char| !c.is_alphanumeric() && !"-_.".contains(c)).next()
    });
    SECRETS.iter().any(|word| together.contains(word))
        || hosts.any(|host| host.contains('@'))
        || names.any(|name| NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::directory::Directory;

    #[test]
    fn files_are_kept_and_secrets_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        let cron = "0 3 * * * root backup --password=hunter2\n5 * * * * root logrotate\n";
        for (path, content) in [
            ("etc/hosts", "127.0.0.1 localhost\n"),
            ("etc/cron.d/backup", cron),
            ("etc/yum.repos.d/x.repo", "[x]\nbaseurl=http://me:hunter3@m/x\n"),
            ("etc/netplan/a.yaml", "-----BEGIN PRIVATE KEY-----\nhunter4\n-----END X-----\nb: 1\n"),
            ("etc/systemd/system/a.wants/b.service", "deeper\n"),
            ("etc/shadow", "root:hunter5\n"),
        ] {
            host.file(path, content).unwrap();
        }
        let mut gaps = Gaps::default();
        let files = look(&host.host(), &mut gaps);
        assert_eq!(gaps.0, []);
        let paths: Vec<&str> = files.found.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["/etc/hosts", "/etc/cron.d/backup", "/etc/netplan/a.yaml", "/etc/yum.repos.d/x.repo"]
        );
        let all: String = files.found.iter().map(|file| file.content.as_str()).collect();
        assert!(!all.contains("hunter"), "{all}");
        assert!(files.found[1].content.ends_with("root logrotate\n"));
        assert_eq!(files.found[2].content, format!("{LEFT_OUT}\nb: 1\n"));
        assert_eq!(files.found[0].mode & 0o777, files.found[0].mode);
        assert!(files.found[0].mode & 0o400 != 0);
    }

    #[test]
    fn a_secret_is_known_by_its_name_wherever_people_put_it() {
        for (secret, rest) in [
            ("[WireGuard]\nPrivateKey=hunter2\nListenPort=51820\n", "ListenPort=51820"),
            ("[WireGuardPeer]\nPresharedKey = hunter2\nEndpoint=a:1\n", "Endpoint=a:1"),
            ("[MACsecTransmitAssociation]\nKeyId=1\nKey=hunter2\n", "KeyId=1"),
            ("  wg0:\n    mode: wireguard\n    key: hunter2\n    port: 1\n", "port: 1"),
            ("    private-key: hunter2\n    mtu: 1\n", "mtu: 1"),
            ("  - keys:\n      public: x\n      shared: hunter2\n", "public: x"),
            ("  keys: {private: hunter2}\n  mtu: 1\n", "mtu: 1"),
            ("  \"key\": hunter2\n  mtu: 1\n", "mtu: 1"),
            ("  key: >-\n    hunter2\n    hunter2\n  mtu: 1\n", "mtu: 1"),
            ("iface wlan0 inet dhcp\n  wpa-psk hunter2\n", "inet dhcp"),
            ("//nas/x /x cifs user=me,pass=hunter2 0 0\n/dev/sda1 / xfs", "/dev/sda1"),
            ("x http://m/y http://me:hunter2@m/x\nfree\n", "free"),
            ("proxy=http://m,http://me:hunter2@m/x\nfree\n", "free"),
            ("ExecStart=/x --token \\\n  hunter2\nUser=x\n", "User=x"),
        ] {
            let kept = without_secrets(secret);
            assert!(!kept.contains("hunter2") && kept.contains(LEFT_OUT), "{kept}");
            assert!(kept.contains(rest), "{kept}");
        }
    }

    #[test]
    fn what_only_sounds_like_a_secret_is_kept() {
        let plain = "# <file system> <mount point> <type> <options> <dump> <pass>\n\
             gpgkey=https://m/keys/a.gpg\nkernel.keys.maxkeys = 2000\nkeyfile /etc/chrony.keys\n\
             PrivateTmp=true\nbaseurl=http://m/x\nsnapshot@daily http://m/a@b\n";
        assert_eq!(without_secrets(plain), plain);
    }

    #[test]
    fn what_is_too_much_is_named_and_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let host = Directory::new(dir.path());
        host.file("etc/hosts", "x".repeat(FILE_BYTES_MAX + 1)).unwrap();
        for number in 0..6 {
            let line = format!("{}\n", "y".repeat(FILE_BYTES_MAX - 10));
            host.file(&format!("etc/sysctl.d/{number}.conf"), &line).unwrap();
        }
        let mut gaps = Gaps::default();
        let files = look(&host.host(), &mut gaps);
        assert_eq!(files.found.len(), 4);
        let gaps: Vec<&str> = gaps.0.iter().map(|gap| gap.why.as_str()).collect();
        assert!(gaps[0].starts_with("/etc/hosts: longer than"), "{gaps:?}");
        assert!(gaps[1].starts_with("/etc/sysctl.d/4.conf and what comes after"), "{gaps:?}");
    }
}
