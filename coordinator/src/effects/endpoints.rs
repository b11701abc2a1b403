//! Where a cluster sends those who join it, what upgrades it, and its kube-proxies: ConfigMaps that hold
//! YAML, of which one field is read, and replaced without touching another byte.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::yaml::Tree;

/// The way to the certificate authority in a kubeconfig.
const AUTHORITY: [&str; 3] = ["clusters", "cluster", "certificate-authority-data"];

/// One of them.
pub(crate) struct Place {
    /// Its namespace.
    pub(crate) namespace: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// The key of its data that holds the YAML.
    pub(crate) key: &'static str,
    /// The field in it, as it stands at the beginning of its line.
    field: &'static str,
    /// The way to it.
    path: &'static [&'static str],
    /// What stands before `host:port` in it.
    scheme: &'static str,
    /// Every cluster has it.
    pub(crate) everywhere: bool,
}

/// `cluster-info` is what a node reads that joins by a token (F57), `kubeadm-config` what kubeadm reads
/// when it joins or upgrades a control plane (F56): domain reference 3.4. `kube-proxy` is what the next
/// kube-proxy that starts asks; an upgrade limited to control planes makes that the last of them.
pub(crate) const PLACES: [Place; 3] = [
    Place {
        namespace: "kube-public",
        name: "cluster-info",
        key: "kubeconfig",
        field: "server:",
        path: &["clusters", "cluster", "server"],
        scheme: "https://",
        everywhere: true,
    },
    Place {
        namespace: "kube-system",
        name: "kubeadm-config",
        key: "ClusterConfiguration",
        field: "controlPlaneEndpoint:",
        path: &["controlPlaneEndpoint"],
        scheme: "",
        everywhere: true,
    },
    Place {
        namespace: "kube-system",
        name: "kube-proxy",
        key: "kubeconfig.conf",
        field: "server:",
        path: &["clusters", "cluster", "server"],
        scheme: "https://",
        everywhere: false,
    },
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {}/{}", self.namespace, self.name)
    }
}

impl Place {
    /// `host:port` to which it leads; `None` if it leads nowhere.
    ///
    /// # Errors
    /// If it is not understood, in words.
    pub(crate) fn leads_to(&self, map: &ConfigMap) -> Result<Option<String>, String> {
        let text = self.text(map)?;
        let tree = Tree::parse(text).map_err(|fault| format!("{}: {fault}", self.key))?;
        let Some(found) = at(&tree, self.path)? else { return Ok(None) };
        Ok(Some(found.strip_prefix(self.scheme).unwrap_or(&found).to_owned()))
    }

    /// The certificates of the authorities that it tells those to believe in who read it.
    ///
    /// # Errors
    /// If it is not understood, in words.
    pub(crate) fn authorities(
        &self,
        map: &ConfigMap,
    ) -> Result<Vec<CertificateDer<'static>>, String> {
        let tree =
            Tree::parse(self.text(map)?).map_err(|fault| format!("{}: {fault}", self.key))?;
        let [.., field] = AUTHORITY;
        let text = at(&tree, &AUTHORITY)?.ok_or_else(|| format!("it has no {field}"))?;
        let pem = STANDARD.decode(text).map_err(|_| format!("{field} is not base64"))?;
        certificates(&pem).map_err(|why| format!("{field}: {why}"))
    }

    /// Its YAML with another `host:port`, and otherwise byte for byte the same.
    ///
    /// # Errors
    /// If the field is not on one line of its own, so that this cannot be proved.
    pub(crate) fn led_to(&self, map: &ConfigMap, to: &str) -> Result<String, String> {
        let text = self.text(map)?;
        let is_field =
            |line: &&str| line.trim_start().trim_start_matches("- ").starts_with(self.field);
        let unsure =
            || format!("{}: {} must be on one line of its own, once", self.key, self.field);
        let lines: Vec<&str> = text.split_inclusive('\n').filter(is_field).collect();
        let [line] = lines.as_slice() else { return Err(unsure()) };
        let begin = line.find(self.field).expect("it is there") + self.field.len();
        let ending = &line[line.trim_end().len()..];
        let edited = format!("{} {}{to}{ending}", &line[..begin], self.scheme);
        let edited = text.replacen(*line, &edited, 1);
        let found = Tree::parse(&edited).map_err(|fault| format!("{}: {fault}", self.key))?;
        match at(&found, self.path)? == Some(format!("{}{to}", self.scheme)) {
            true => Ok(edited),
            false => Err(unsure()),
        }
    }

    fn text<'a>(&self, map: &'a ConfigMap) -> Result<&'a str, String> {
        let text = map.data.as_ref().and_then(|data| data.get(self.key));
        text.map(String::as_str).ok_or_else(|| format!("it has no key {:?}", self.key))
    }
}

/// The certificates in a text.
///
/// # Errors
/// Which of them is none, in words.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    found.map_err(|why| why.to_string())
}

/// The text at a path. A list on the way must have one entry.
fn at(tree: &Tree<'_>, path: &[&str]) -> Result<Option<String>, String> {
    let Some((key, rest)) = path.split_first() else {
        return Ok(tree.text().map(str::to_owned));
    };
    match tree {
        Tree::List(all) => match all.as_slice() {
            [one] => at(one, path),
            _ => Err(format!("there are {} entries where one {key} is expected", all.len())),
        },
        _ => tree.get(key).map_or(Ok(None), |below| at(below, rest)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        domain::{
            command::{Report, Request},
            effect::Work,
            plan::ControlPlane,
        },
        effects::stage::{Stage, worker1},
    };

    const INFO: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QUJD\n    \
                        server: https://10.0.0.1:6443\n  name: \"\"\nkind: Config\n";
    const CONFIG: &str = "apiServer:\n  timeout: 4m0s\ncontrolPlaneEndpoint: 10.0.0.1:6443 \nkind: \
                          ClusterConfiguration\n";

    fn map(key: &str, text: &str) -> ConfigMap {
        let data = Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
        ConfigMap { data, ..ConfigMap::default() }
    }

    #[test]
    fn one_field_is_read_and_replaced_and_nothing_else() {
        let [info, config, _] = PLACES;
        for (place, text, old, new) in [
            (&info, INFO, "https://10.0.0.1:6443", "https://10.0.0.2:6443"),
            (&config, CONFIG, "10.0.0.1:6443 ", "10.0.0.2:6443 "),
        ] {
            let map = map(place.key, text);
            assert_eq!(place.leads_to(&map).unwrap().as_deref(), Some("10.0.0.1:6443"));
            let edited = place.led_to(&map, "10.0.0.2:6443").unwrap();
            assert_eq!(edited, text.replace(old, new), "{place}");
        }
    }

    #[test]
    fn the_authorities_are_told_of_whom_those_believe_who_join() {
        let [info, ..] = PLACES;
        let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        let told = |pem: &str| {
            info.authorities(&map(info.key, &INFO.replace("QUJD", &STANDARD.encode(pem))))
        };
        // People have commented it.
        let pem = format!("# ours\n{}", made.cert.pem());
        assert_eq!(told(&pem).unwrap(), [made.cert.der().clone()]);
        assert!(told("").unwrap_err().contains("no certificate-authority-data"));
        let broken = info.authorities(&map(info.key, &INFO.replace("QUJD", "Q")));
        assert_eq!(broken.unwrap_err(), "certificate-authority-data is not base64");
        assert!(info.authorities(&map(info.key, "kind: Config\n")).is_err());
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let [info, config, _] = PLACES;
        let twice = INFO.replace("kind: Config", "- cluster: {server: x}\n");
        assert!(info.leads_to(&map(info.key, &twice)).is_err());
        let flow = "{controlPlaneEndpoint: \"10.0.0.1:6443\"}";
        let flow = map(config.key, flow);
        assert_eq!(config.leads_to(&flow).unwrap().as_deref(), Some("10.0.0.1:6443"));
        assert!(config.led_to(&flow, "10.0.0.2:6443").unwrap_err().contains("one line"));
        let none = map(config.key, "kind: ClusterConfiguration\n");
        assert_eq!(config.leads_to(&none).unwrap(), None);
        assert!(config.leads_to(&map("other", "")).unwrap_err().contains("no key"));
    }

    /// The objects of a stage whose node that goes is a control plane.
    fn stage() -> Stage {
        let mut stage = Stage::new();
        for (name, address) in [("worker1", "10.0.0.11"), ("worker2", "10.0.0.12")] {
            stage.migration().plan.control_planes.push(ControlPlane {
                name: name.parse().unwrap(),
                address: address.into(),
                api_server: format!("{address}:6443"),
            });
        }
        for (place, text) in PLACES.iter().zip([INFO, CONFIG]) {
            stage.workload.store().put(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": place.namespace, "name": place.name},
                "data": {place.key: text.replace("10.0.0.1:", "10.0.0.11:")}}));
        }
        stage
    }

    #[tokio::test]
    async fn what_leads_to_who_goes_is_changed_once_the_log_says_so() {
        let mut stage = stage();
        let work = || Work::MoveEndpoints { node: worker1() };
        let objects =
            ["ConfigMap kube-public/cluster-info", "ConfigMap kube-system/kubeadm-config"];
        assert_eq!(stage.has_logged(work()).await, objects);
        let writes =
            || stage.workload.calls().iter().filter(|call| call.starts_with("PATCH ")).count();
        assert_eq!(writes(), 0, "the log comes first");
        let requests = stage.pass(work()).await.unwrap();
        let moved = |request: &Request| match request {
            Request::Report(Report::EndpointMoved { object, from, to, .. }) => {
                assert_eq!((from.as_str(), to.as_str()), ("10.0.0.11:6443", "10.0.0.12:6443"));
                object.clone()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(requests.iter().map(moved).collect::<Vec<_>>(), objects);
        assert_eq!(writes(), 2);
        assert!(stage.pass(work()).await.unwrap().is_empty(), "they lead elsewhere");
        // One that cannot be changed does not keep the others, or what is told of them.
        let map = |key: &str, text: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text},
                "metadata": {"namespace": "kube-public", "name": "cluster-info"}})
        };
        stage.workload.store().put(map(
            "kubeconfig",
            "{clusters: [{cluster: {server: \"https://10.0.0.11:6443\"}}]}",
        ));
        assert!(stage.pass(work()).await.unwrap_err().to_string().contains("on one line"));
        stage.workload.store().edit("configmaps", "kube-system", "kubeadm-config", |config| {
            config["data"]["ClusterConfiguration"] =
                CONFIG.replace("10.0.0.1:", "10.0.0.11:").into();
        });
        assert_eq!(stage.has_logged(work()).await, ["ConfigMap kube-system/kubeadm-config"]);
    }
}
