//! The name in a client's certificate: a URI, written by the CA and read at the door.

use std::{fmt, str::FromStr};

use rehull_shared::ids::{ClusterName, Generation, NodeName};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `rehull://<cluster>/<node>/<generation>`
    Agent {
        /// Its cluster.
        cluster: ClusterName,
        /// Its node.
        node: NodeName,
        /// Which installation.
        generation: Generation,
    },
    /// `rehull://operator/<user>`
    Operator {
        /// As the system names them.
        user: String,
    },
}

/// A certificate without exactly one name of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names no agent and no operator of rehull")]
pub struct NotOurs;

const SCHEME: &str = "rehull://";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Agent { cluster, node, generation } => {
                write!(f, "{SCHEME}{cluster}/{node}/{generation}")
            }
            Name::Operator { user } => write!(f, "{SCHEME}operator/{user}"),
        }
    }
}

impl FromStr for Name {
    type Err = NotOurs;
    fn from_str(uri: &str) -> Result<Self, NotOurs> {
        let path = uri.strip_prefix(SCHEME).ok_or(NotOurs)?;
        // Two parts name an operator, three an agent: a cluster may well be called "operator".
        match path.split('/').collect::<Vec<_>>()[..] {
            ["operator", user] if !user.is_empty() => Ok(Name::Operator { user: user.to_owned() }),
            [cluster, node, generation] => Ok(Name::Agent {
                cluster: cluster.parse().map_err(|_| NotOurs)?,
                node: node.parse().map_err(|_| NotOurs)?,
                generation: Generation(generation.parse().map_err(|_| NotOurs)?),
            }),
            _ => Err(NotOurs),
        }
    }
}

impl Name {
    /// The name in a certificate (DER) whose signature TLS has checked.
    ///
    /// # Errors
    /// [`NotOurs`] if it has no name of ours, or more than one name.
    pub fn of_certificate(der: &[u8]) -> Result<Self, NotOurs> {
        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| NotOurs)?;
        let names = certificate.subject_alternative_name().map_err(|_| NotOurs)?.ok_or(NotOurs)?;
        match names.value.general_names[..] {
            [GeneralName::URI(uri)] => uri.parse(),
            _ => Err(NotOurs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is() {
        for uri in ["rehull://prod/worker1/7", "rehull://operator/anna", "rehull://operator/n1/1"] {
            assert_eq!(uri.parse::<Name>().unwrap().to_string(), uri);
        }
        for bad in [
            "rehull://prod/worker1",
            "rehull://prod/worker1/-1",
            "rehull://prod/WORKER/1",
            "rehull://operator/",
            "https://operator/anna",
            "rehull://prod/worker1/1/1",
        ] {
            assert_eq!(bad.parse::<Name>(), Err(NotOurs), "{bad}");
        }
    }
    #[test]
    fn a_certificate_with_a_second_name_is_nobody() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |names: &[&str]| {
            let mut params = rcgen::CertificateParams::default();
            let uri = |name: &&str| rcgen::SanType::URI((*name).try_into().unwrap());
            params.subject_alt_names = names.iter().map(uri).collect();
            Name::of_certificate(params.self_signed(&key).unwrap().der())
        };
        assert!(certificate(&["rehull://prod/worker1/1"]).is_ok());
        let two = ["rehull://prod/worker1/1", "rehull://operator/anna"];
        assert_eq!(certificate(&two), Err(NotOurs));
        assert_eq!(certificate(&[]), Err(NotOurs));
    }
}
