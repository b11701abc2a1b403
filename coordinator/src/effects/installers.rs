//! Installers: programs of the site that reinstall a host.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use rehull_shared::ids::{Attempt, NodeName};

use super::{Pass, Requests};
use crate::clients::Trouble;

/// One call of an installer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Path of the program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it finds in its environment, beside that of the coordinator's `PATH`.
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

/// Runs programs of this machine.
pub fn run_program() -> RunProgram {
    Arc::new(|_call, _line| Box::pin(async { Err(Trouble("unwritten".into())) }))
}

impl Pass<'_> {
    pub(super) async fn install(&self, _node: &NodeName, _a: Attempt) -> Result<Requests, Trouble> {
        Ok(Vec::new())
    }
}
