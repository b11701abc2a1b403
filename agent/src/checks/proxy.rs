//! The proxy of this host before the API servers (F28), as kubespray sets it up where nothing else
//! stands before them: nginx or HAProxy in a static pod.

use rehull_proto::v1::Proxy;
use rehull_shared::text::bounded;

use super::{
    Gaps, TEXT_BYTES_MAX,
    processes::{leftovers, present},
};
use crate::host::{Host, Unreadable};

const PART: &str = "proxy";

/// What kubespray calls the API servers in its templates (`roles/kubernetes/node/templates/loadbalancer`).
const SERVERS: &str = "kube_apiserver";

const CONFIG_BYTES_MAX: usize = 256 * 1024;
const SERVERS_MAX: usize = 64;

/// One kind of proxy.
struct Kind {
    /// `comm` of its processes.
    comm: &'static str,
    config: &'static str,
    /// The word before the name of a group of servers.
    group: &'static str,
    /// Which word of a line is the address.
    address: usize,
}

/// `server ADDRESS;` and `server NAME ADDRESS ...`.
const KINDS: [Kind; 2] = [
    Kind { comm: "nginx", config: "/etc/nginx/nginx.conf", group: "upstream", address: 1 },
    Kind { comm: "haproxy", config: "/etc/haproxy/haproxy.cfg", group: "backend", address: 2 },
];

/// The proxy that runs; an empty answer if none does.
pub(super) fn look(host: &Host, gaps: &mut Gaps) -> Option<Proxy> {
    gaps.keep(PART, find(host))
}

fn find(host: &Host) -> Result<Proxy, Unreadable> {
    let (processes, _) = leftovers(host)?;
    for kind in KINDS {
        let of_kind = processes.iter().filter(|one| one.in_pod && one.comm == kind.comm);
        // One that has read its configuration again has begun new processes for that.
        let Some(start_ticks) = of_kind.map(|one| one.start_ticks).max() else { continue };
        let Some(text) = present(host.text(kind.config, CONFIG_BYTES_MAX))? else { continue };
        let servers = servers(&text, &kind);
        if servers.is_empty() {
            continue; // it is a pod of somebody else
        }
        if servers.len() > SERVERS_MAX {
            let what = format!("{} servers, {SERVERS_MAX} is the most", servers.len());
            return Err(Unreadable::nonsense(kind.config, what));
        }
        return Ok(Proxy {
            config: kind.config.to_owned(),
            servers,
            started_ms: host.started_ms(start_ticks)?,
            changed_ms: host.changed_ms(kind.config)?,
        });
    }
    Ok(Proxy::default())
}

/// The servers of the group that is called [`SERVERS`], in their order.
fn servers(text: &str, kind: &Kind) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> =
            line.split([' ', '\t', ';', '{']).filter(|it| !it.is_empty()).collect();
        match words.as_slice() {
            [group, name, ..] if *group == kind.group => inside = *name == SERVERS,
            ["server", ..] if inside => {
                found.extend(words.get(kind.address).map(|at| bounded(at, TEXT_BYTES_MAX)));
            }
            ["}", ..] => inside = false,
            // Sections of HAProxy end where another one begins, at the beginning of a line.
            [_, ..] if !line.starts_with([' ', '\t']) => inside = false,
            _ => (),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "\
error_log stderr notice;
stream {
  upstream other { server 10.9.9.9:80; }
  upstream kube_apiserver {
    least_conn;
    server 10.0.0.11:6443; # the first
    server [fd00::12]:6443 max_fails=3;
    # server 10.0.0.13:6443;
    }
  server {
    listen        127.0.0.1:6443;
    proxy_pass    kube_apiserver;
  }
}
http {
  server {
    listen 127.0.0.1:8081;
  }
}
";

    const HAPROXY: &str = "\
frontend kube_api_frontend
  bind 127.0.0.1:6443
  default_backend kube_apiserver

backend kube_apiserver
  mode tcp
  default-server inter 15s
  server master1 10.0.0.11:6443 check check-ssl verify none
  server master2 10.0.0.12:6443 check check-ssl verify none

backend other
  server x 10.9.9.9:80
";

    #[test]
    fn the_servers_are_those_of_the_api_and_no_others() {
        let [nginx, haproxy] = KINDS;
        assert_eq!(servers(NGINX, &nginx), ["10.0.0.11:6443", "[fd00::12]:6443"]);
        assert_eq!(servers(HAPROXY, &haproxy), ["10.0.0.11:6443", "10.0.0.12:6443"]);
        assert_eq!(servers("http { server { listen 80; } }\n", &nginx), Vec::<String>::new());
    }
}
