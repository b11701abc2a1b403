//! Names and numbers that are parsed once, at the border, and never again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}: {rule}")]
pub struct BadName {
    what: &'static str,
    value: String,
    rule: &'static str,
}

/// RFC 1123 subdomain, as Kubernetes checks the names of its objects: at most `limit` characters.
fn dns_name(what: &'static str, value: &str, limit: usize) -> Result<String, BadName> {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !bytes.is_empty()
            && bytes.len() <= 63
            && bytes.iter().all(|b| alnum(b) || *b == b'-')
            && bytes.first().is_some_and(alnum)
            && bytes.last().is_some_and(alnum)
    };
    if value.len() <= limit && value.split('.').all(label) {
        return Ok(value.to_owned());
    }
    Err(BadName {
        what,
        value: value.chars().take(80).collect(),
        rule: "lower case letters, digits, '-' and '.', as Kubernetes names its objects",
    })
}

/// Name of a Kubean `Cluster`; also the name of its event stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ClusterName(String);

/// Name of an inventory host, which is also the name of its Node object.
///
/// Only literal names: patterns, globs and groups of Ansible cannot be written with these letters
/// (failure F15 of the domain reference: a pattern in `-e node=` resets every host that it matches).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeName(String);

impl FromStr for ClusterName {
    type Err = BadName;
    fn from_str(value: &str) -> Result<Self, BadName> {
        dns_name("cluster name", value, 63).map(Self)
    }
}

impl FromStr for NodeName {
    type Err = BadName;
    fn from_str(value: &str) -> Result<Self, BadName> {
        dns_name("node name", value, 253).map(Self)
    }
}

impl TryFrom<String> for ClusterName {
    type Error = BadName;
    fn try_from(value: String) -> Result<Self, BadName> {
        value.parse()
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadName;
    fn try_from(value: String) -> Result<Self, BadName> {
        value.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One try at removing and re-adding one node; counted from 1, one more at each submission.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Attempt(pub u32);

/// One asking for evidence; counted for each node from 1. Answers to another round prove nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Round(pub u32);

/// Fencing number of the coordinator's leadership: agents and objects refuse a lower one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Which enrolment of a host: one more with each installation of an operating system.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_never_a_pattern() {
        for bad in ["", "n*", "kube_node", "a:b", "a,b", "!a", "N1", "-a", "a-", "a..b", "n[1:3]"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?} was taken for a host");
        }
        for good in ["n1", "centos-worker1", "a.b-c.d9"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good:?} is a host");
        }
    }
}
