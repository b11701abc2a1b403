//! Takes the API server of this host out of service and back in the kubelet's own way: a static pod
//! whose manifest is gone is ended, with its grace, and one whose manifest comes is started.

use std::{
    io,
    time::{Duration, Instant},
};

use rehull_proto::v1::{StopApiServer, order_done::Outcome};

use crate::{
    answer::Answer,
    checks::{apiservers, is_listened_on, kubelets},
    host::{Host, Unreadable},
    kill::names,
};

/// What an API server is started with, under kubeadm and kubespray alike.
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// Where it lies while it is out of service: outside the directory that the kubelet reads, on the same
/// file system, so that it is never in neither place, and gone with all the rest after a reset.
const ASIDE: &str = "/etc/kubernetes/rehull-kube-apiserver.yaml";

const MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// What an API server listens on unless it is told otherwise.
const PORT: u32 = 6443;

/// Longest time that an order may give the kubelet.
const PATIENCE_SECONDS_MAX: u32 = 300;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A manifest of an API server, and where it lies now.
pub(crate) struct Manifest {
    /// For words about its content.
    pub(crate) path: &'static str,
    text: String,
}

impl Manifest {
    /// The one in its place, or else the one laid aside: what it says of etcd holds all the same.
    pub(crate) fn read(host: &Host) -> Result<Self, Unreadable> {
        let read = |path| host.text(path, MANIFEST_BYTES_MAX).map(|text| Self { path, text });
        match read(MANIFEST) {
            Err(none) if none.is_absence() => match read(ASIDE) {
                Err(error) if error.is_absence() => Err(none),
                aside => aside,
            },
            found => found,
        }
    }

    /// What an argument `--name=` says.
    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        self.flags().find_map(|(flag, value)| (flag == name).then_some(value))
    }

    /// The files that it is started with, by the arguments that name one: keys, certificates and what
    /// encrypts Secrets. Paths are those of its container.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.flags()
            .filter(|(flag, value)| {
                let names_one = flag.ends_with("file") || flag.ends_with("config");
                names_one && *flag != "log-file" && value.starts_with('/')
            })
            .map(|(_, path)| path)
    }

    /// What of the host is mounted into its container.
    pub(crate) fn mounted(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(|line| {
            let path = line.trim().trim_start_matches("- ").strip_prefix("path:")?;
            Some(path.trim().trim_matches(['"', '\'']))
        })
    }

    fn flags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| {
            let word = line.trim().trim_start_matches("- ").trim_matches(['"', '\'']);
            word.strip_prefix("--")?.split_once('=')
        })
    }

    fn port(&self) -> Result<u32, Unreadable> {
        let Some(port) = self.flag("secure-port") else { return Ok(PORT) };
        let nonsense = |_| Unreadable::nonsense(self.path, format!("--secure-port={port}"));
        port.parse::<u16>().map(u32::from).map_err(nonsense)
    }
}

/// Lays the manifest aside, if it is not yet, and returns the wait until nothing of the API server is left.
/// It lies aside before the wait is begun, or a start that comes next could be carried out first. The
/// places of the manifest are all that is remembered: the same order again goes on where it was.
pub(crate) fn stop(
    host: &Host,
    order: &StopApiServer,
) -> impl Future<Output = Answer> + Send + use<> {
    let patience = Duration::from_secs(order.patience_seconds.into());
    let laid_aside = match order.patience_seconds {
        0..=PATIENCE_SECONDS_MAX => lay_aside(host),
        asked => Err(Answer::refused(format!(
            "{asked} s of patience, {PATIENCE_SECONDS_MAX} s is the most"
        ))),
    };
    let host = host.clone();
    async move {
        match laid_aside {
            Ok(Some(port)) => wait(&host, port, patience).await,
            Ok(None) => {
                answer(Outcome::Done, "no API server runs here, and no manifest is in place")
            }
            Err(answer) => answer,
        }
    }
}

/// The port that is to become free; `None` if nothing is left already.
fn lay_aside(host: &Host) -> Result<Option<u32>, Answer> {
    let manifest = match Manifest::read(host) {
        Ok(manifest) => Some(manifest),
        Err(error) if error.is_absence() => None,
        Err(error) => return Err(unreadable(error)),
    };
    let port = manifest.as_ref().map_or(Ok(PORT), Manifest::port).map_err(unreadable)?;
    let in_place = manifest.as_ref().is_some_and(|manifest| manifest.path == MANIFEST);
    let left = left(host, port).map_err(unreadable)?;
    if !in_place && left.is_none() {
        return Ok(None);
    }
    if manifest.is_none() {
        let left = left.unwrap_or_default();
        return Err(Answer::refused(format!(
            "{left}, but there is no {MANIFEST}: no kubelet has started it, so none would end it"
        )));
    }
    if kubelets(host).map_err(unreadable)?.is_empty() {
        return Err(Answer::refused(
            "no kubelet runs, and nobody else ends the API server: start kubelet.service first",
        ));
    }
    if in_place {
        host.rename(MANIFEST, ASIDE)
            .map_err(|error| answer(Outcome::Failed, not_moved(MANIFEST, ASIDE, &error)))?;
    }
    Ok(Some(port))
}

async fn wait(host: &Host, port: u32, patience: Duration) -> Answer {
    let began = Instant::now();
    loop {
        let waited = began.elapsed();
        // What cannot be read is not proven gone.
        let left = left(host, port).unwrap_or_else(|error| Some(error.to_string()));
        if host.exists(MANIFEST).unwrap_or(false) {
            return answer(Outcome::Failed, format!("{MANIFEST} is in place again"));
        }
        match left {
            None => {
                let waited = waited.as_secs_f64();
                let seen = format!(
                    "ended within {waited:.1} s, port {port} is free; the manifest is {ASIDE} now"
                );
                return answer(Outcome::Done, seen);
            }
            Some(left) if waited >= patience => {
                let seen = format!(
                    "after {} s still {left}; the manifest stays aside as {ASIDE}: look at the \
                     kubelet's journal, then stop it again or start it again",
                    patience.as_secs()
                );
                return answer(Outcome::Failed, seen);
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// What is there of an API server, in words; `None` if nothing is.
fn left(host: &Host, port: u32) -> Result<Option<String>, Unreadable> {
    let processes = apiservers(host)?;
    let listened_on = is_listened_on(host, port)?.then(|| format!("port {port} is listened on"));
    let running = (!processes.is_empty()).then(|| format!("{} runs", names(&processes)));
    let left: Vec<String> = running.into_iter().chain(listened_on).collect();
    Ok((!left.is_empty()).then(|| left.join(", ")))
}

/// Lays the manifest back.
pub(crate) fn start(host: &Host) -> Answer {
    let places = || Ok((host.exists(MANIFEST)?, host.exists(ASIDE)?));
    match places().map_err(unreadable) {
        Ok((true, _)) => answer(Outcome::Done, format!("{MANIFEST} is in place")),
        Ok((false, true)) => match host.rename(ASIDE, MANIFEST) {
            Ok(()) => answer(Outcome::Done, format!("{MANIFEST} is in place again")),
            Err(error) => answer(Outcome::Failed, not_moved(ASIDE, MANIFEST, &error)),
        },
        Ok((false, false)) => answer(
            Outcome::Failed,
            format!("neither {MANIFEST} nor {ASIDE} is there: take the manifest from a backup"),
        ),
        Err(answer) => answer,
    }
}

fn not_moved(from: &str, to: &str, error: &io::Error) -> String {
    let mut seen = format!("{from} cannot be made {to} for good: {error}");
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        // The unit lets the agent write into what was there when it started.
        seen += "; restart rehull-agent.service if it is older than /etc/kubernetes";
    }
    seen
}

fn answer(outcome: Outcome, seen: impl Into<String>) -> Answer {
    Answer { outcome, seen: seen.into(), survivors: Vec::new() }
}

/// Nothing was done: nothing is begun before everything is known.
fn unreadable(error: Unreadable) -> Answer {
    Answer::refused(error.to_string())
}

#[cfg(test)]
mod tests;
