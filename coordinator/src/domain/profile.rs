//! The operating systems as data: one row each, and nothing else in rehull knows the name of one.

use serde::{Deserialize, Serialize};

/// Key of a row of [`PROFILES`], as written in a `Migration` document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileId(String);

/// What rehull must know of an operating system.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// Key, as in `ubuntu-22.04`.
    pub id: &'static str,
    /// `ID` of `/etc/os-release`.
    pub os_id: &'static str,
    /// `VERSION_ID` of `/etc/os-release`, or its major part where minor releases are one system.
    pub version_id: &'static str,
    /// How `nodeInfo.osImage` of a Node begins: `PRETTY_NAME` of `/etc/os-release`.
    pub os_image: &'static str,
    /// The package manager's lock that must be free before a join; empty if there is none.
    pub package_lock: &'static str,
    /// systemd units that filter packets when active.
    pub firewall_units: &'static [&'static str],
    /// A mounted file that says the resolver of the host is a local stub, with the real one beside
    /// it: pods must get the real one, or CoreDNS asks itself (F44). Empty if there is none.
    pub resolver: &'static str,
    /// One line of the package repository, for `enable-repo.yml`; `{url}` is replaced.
    pub repo_line: &'static str,
    /// The minor release of Kubean from which its spray-job images manage this system no more; `None`
    /// if all known ones do (domain reference 2.9).
    pub image_below: Option<(u32, u32)>,
}

/// Facts: domain reference 3.5; `enable-repo.yml` of Kubean for the repository lines.
pub const PROFILES: &[Profile] = &[
    Profile {
        id: "centos-7.9",
        os_id: "centos",
        version_id: "7",
        os_image: "CentOS Linux 7",
        package_lock: "/var/run/yum.pid",
        firewall_units: &["firewalld.service"],
        resolver: "",
        repo_line: "{url}",
        image_below: Some((0, 20)),
    },
    Profile {
        id: "ubuntu-22.04",
        os_id: "ubuntu",
        version_id: "22.04",
        os_image: "Ubuntu 22.04",
        package_lock: "/var/lib/dpkg/lock-frontend",
        firewall_units: &["ufw.service", "firewalld.service"],
        resolver: "/run/systemd/resolve/resolv.conf",
        repo_line: "deb [trusted=yes] {url}",
        image_below: None,
    },
    Profile {
        id: "rocky-9",
        os_id: "rocky",
        version_id: "9",
        os_image: "Rocky Linux 9",
        package_lock: "/var/lib/rpm/.rpm.lock",
        firewall_units: &["firewalld.service", "nftables.service"],
        resolver: "",
        repo_line: "{url}",
        image_below: None,
    },
];

/// No row has this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no OS profile is called {0:?}; known are: {known}", known = known())]
pub struct UnknownProfile(String);

fn known() -> String {
    PROFILES.iter().map(|profile| profile.id).collect::<Vec<_>>().join(", ")
}

impl TryFrom<String> for ProfileId {
    type Error = UnknownProfile;
    fn try_from(id: String) -> Result<Self, UnknownProfile> {
        match PROFILES.iter().any(|profile| profile.id == id) {
            true => Ok(Self(id)),
            false => Err(UnknownProfile(id)),
        }
    }
}

impl From<ProfileId> for String {
    fn from(id: ProfileId) -> Self {
        id.0
    }
}

impl std::fmt::Display for ProfileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl ProfileId {
    /// The row.
    pub fn profile(&self) -> &'static Profile {
        PROFILES
            .iter()
            .find(|profile| profile.id == self.0)
            .expect("a key is only made from a row that exists")
    }
}

impl Profile {
    /// Whether `/etc/os-release` with this `ID` and `VERSION_ID` is this operating system.
    pub fn matches(&self, os_id: &str, version_id: &str) -> bool {
        let rest = version_id.strip_prefix(self.version_id);
        self.os_id == os_id && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_known_by_name_and_release() {
        let is = |id: &str, os: &str, version: &str| {
            ProfileId(id.to_owned()).profile().matches(os, version)
        };
        assert!(is("centos-7.9", "centos", "7") && is("rocky-9", "rocky", "9.4"));
        assert!(is("ubuntu-22.04", "ubuntu", "22.04") && !is("ubuntu-22.04", "ubuntu", "24.04"));
        assert!(!is("rocky-9", "rocky", "90") && !is("rocky-9", "almalinux", "9.4"));
        assert!(!is("rocky-9", "rocky", "8.9") && !is("centos-7.9", "centos", ""));
    }
}
