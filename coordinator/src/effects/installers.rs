//! Installers: programs of the site that reinstall a host. `deploy/installer.md` is the contract.
//!
//! One pass makes an invitation for the new system, asks the program how far it is, and has it
//! begin if it has not. What the program says proves nothing: the enrolment of the new system does.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use rehull_shared::{
    ids::{Attempt, NodeName},
    text::{bounded, hex, sha256_hex},
    time::Span,
};

use super::{Pass, Requests};
use crate::{
    clients::Trouble,
    domain::{
        command::{Report, Request},
        plan::Installer,
        state::Token,
    },
};

mod program;

pub use program::run_program;

/// One call of an installer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Path of the program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it finds in its environment, beside a plain `PATH`.
    pub env: BTreeMap<String, String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The last lines that it printed, both streams, bounded.
    pub tail: String,
}

/// Runs an installer to its end, and calls back with each line of its standard output.
pub type RunProgram = Arc<
    dyn Fn(
            Invocation,
            Arc<dyn Fn(String) + Send + Sync>,
        ) -> BoxFuture<'static, Result<Exit, Trouble>>
        + Send
        + Sync,
>;

/// What the program says by its exit code.
mod code {
    /// `status`: the new system is installed. `start`: begun, or done.
    pub(super) const DONE: i32 = 0;
    /// `status`: the work is under way.
    pub(super) const RUNNING: i32 = 10;
    /// `status`: this attempt has not begun.
    pub(super) const NOT_STARTED: i32 = 11;
}

/// An invitation outlives the reinstall that it is for by this much: clocks differ.
const TOKEN_SLACK: Span = Span::from_mins(30);

/// Longest words of progress, in bytes.
const WORDS_MAX: usize = 200;

impl Pass<'_> {
    /// Has the installer reinstall the host of a node.
    pub(super) async fn install(
        &self,
        node: &NodeName,
        attempt: Attempt,
    ) -> Result<Requests, Trouble> {
        let Installer::Command { program, args } = &self.migration.plan.installer else {
            return Ok(Requests::new());
        };
        if !self.context.installers.contains(program) {
            let why = "is not among installers of the coordinator's config.yaml: list it there, and \
                       start the coordinator again";
            return Err(Trouble::new(format!("installer {program}"), why));
        }
        let file = self.token_file(node);
        if let Some(issue) = self.invitation(node, &file)? {
            return Ok(vec![issue]); // open before the program can hand it to anybody
        }
        let call = |action| Invocation {
            program: program.clone(),
            args: args.clone(),
            env: self.environment(action, node, attempt, &file),
        };
        let (exit, told) = self.call(call("status")).await?;
        let mut requests = self.progress(node, told);
        match exit.code {
            Some(code::DONE) => requests.push(installer(node, 100, "installed", true)),
            Some(code::RUNNING) => (),
            Some(code::NOT_STARTED) => {
                let (exit, told) = self.call(call("start")).await?;
                if exit.code != Some(code::DONE) {
                    return Err(failed(program, "start", &exit));
                }
                let begun = told.or_else(|| Some((0, "begun".to_owned())));
                requests.extend(self.progress(node, begun));
            }
            _ => return Err(failed(program, "status", &exit)),
        }
        Ok(requests)
    }

    /// Calls the program, and gives its end and the last progress that it told.
    async fn call(&self, call: Invocation) -> Result<(Exit, Option<(u8, String)>), Trouble> {
        let told = Arc::new(Mutex::new(None));
        let listener = told.clone();
        let line = move |line: String| {
            if let Some(progress) = progress_of(&line) {
                *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
            }
        };
        let exit = (self.context.run_program)(call, Arc::new(line)).await?;
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((exit, told))
    }

    fn progress(&self, node: &NodeName, told: Option<(u8, String)>) -> Requests {
        told.map(|(percent, seen)| installer(node, percent, &seen, false)).into_iter().collect()
    }

    /// A request to open a new invitation, if the one in the file is not open, or not until this
    /// reinstall must be over: the program has handed it on by then, and is not called to begin again.
    fn invitation(&self, node: &NodeName, file: &Path) -> Result<Option<Request>, Trouble> {
        let key = (self.effect.cluster.clone(), node.clone());
        let open = self.fleet.hosts.get(&key).and_then(|host| host.token.as_ref());
        let kept = match fs::read_to_string(file) {
            Ok(secret) => Some(sha256_hex(secret.trim().as_bytes())),
            Err(why) if why.kind() == io::ErrorKind::NotFound => None,
            Err(why) => return Err(Trouble::new(file.display(), why)),
        };
        let (now, since) = (self.now(), self.node(node)?.track.since);
        let needed = since + self.migration.plan.policy.reinstall_deadline;
        let is_open = open.is_some_and(|token| {
            Some(&token.sha256) == kept.as_ref() && token.expires > needed.max(now)
        });
        if is_open {
            return Ok(None);
        }
        let secret = hex(&(self.context.draw)());
        write_secret(file, &secret).map_err(|why| Trouble::new(file.display(), why))?;
        let expires = now + self.migration.plan.policy.reinstall_deadline + TOKEN_SLACK;
        let token = Token { sha256: sha256_hex(secret.as_bytes()), expires };
        let (node, by) = (node.clone(), "installer".to_owned());
        Ok(Some(Request::IssueToken { node, token, by }))
    }

    fn token_file(&self, node: &NodeName) -> PathBuf {
        // No name of a cluster or a node has an underscore, so no two nodes share a file.
        self.context.dir.join("tokens").join(format!("{}_{node}", self.effect.cluster))
    }

    fn environment(
        &self,
        action: &str,
        node: &NodeName,
        attempt: Attempt,
        file: &Path,
    ) -> BTreeMap<String, String> {
        let planned = self.migration.node(node).map(|node| &node.planned);
        let address = planned.map_or_else(String::new, |planned| planned.address.clone());
        [
            ("REHULL_ACTION", action.to_owned()),
            ("REHULL_MIGRATION", self.migration.id.to_string()),
            ("REHULL_CLUSTER", self.effect.cluster.to_string()),
            ("REHULL_NODE", node.to_string()),
            ("REHULL_ADDRESS", address),
            ("REHULL_ATTEMPT", attempt.to_string()),
            ("REHULL_TARGET_OS", self.migration.plan.target.to_string()),
            ("REHULL_TOKEN_FILE", file.display().to_string()),
            ("REHULL_CA_SHA256", self.context.ca_sha256.clone()),
            ("REHULL_COORDINATOR", self.context.advertised.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

fn installer(node: &NodeName, percent: u8, seen: &str, done: bool) -> Request {
    let (node, seen) = (node.clone(), bounded(seen, WORDS_MAX));
    Request::Report(Report::Installer { node, percent, seen, done })
}

/// `progress <0-100> <words>`.
fn progress_of(line: &str) -> Option<(u8, String)> {
    let (percent, words) = line.strip_prefix("progress ")?.trim().split_once(' ')?;
    let percent: u8 = percent.parse().ok().filter(|percent| *percent <= 100)?;
    Some((percent, words.trim().to_owned()))
}

fn failed(program: &str, action: &str, exit: &Exit) -> Trouble {
    let how = exit.code.map_or("was ended by a signal".to_owned(), |code| format!("exits {code}"));
    let tail = bounded(&exit.tail, 1_000);
    Trouble::new(format!("installer {program}"), format!("{action} {how}: {tail}"))
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // No name of a cluster begins so: it is nobody's token.
    let name = path.file_name().unwrap_or_default();
    let fresh = folder.join(format!("_{}", name.display()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests;
