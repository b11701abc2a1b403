//! Enrolment: a host that holds an open token becomes the next generation of its node.

use rehull_shared::ids::{Generation, NodeName};

use super::Desk;
use crate::domain::{
    command::Refusal,
    event::Event,
    state::{Host, HostIdentity, Phase, Subject, Token},
};

impl Desk<'_> {
    /// Opens an invitation; a later one takes the place of an earlier one.
    pub(super) fn issue_token(&mut self, node: &NodeName, token: &Token, by: &str) {
        let (node, token, by) = (node.clone(), token.clone(), by.to_owned());
        self.write(Event::TokenIssued { node, token, by });
    }

    /// Lets a host in. The token is used up by it.
    pub(super) fn enrol(
        &mut self,
        node: &NodeName,
        token_sha256: &str,
        identity: &HostIdentity,
    ) -> Result<(), Refusal> {
        let refuse = |why| Refusal::Enrolment { node: node.clone(), why };
        let key = (self.cluster.clone(), node.clone());
        let unknown = Host::default();
        let host = self.scribe.fleet.hosts.get(&key).unwrap_or(&unknown);
        let token = host.token.as_ref().ok_or_else(|| {
            refuse("no token is open for it: it was never issued, or it has been used")
        })?;
        if token.sha256 != token_sha256 {
            return Err(refuse("this is not its token"));
        }
        if token.expires <= self.now() {
            return Err(refuse("its token has expired: issue a new one with `rehull agent token`"));
        }
        let generation = Generation(host.generation.0 + 1);
        let (name, identity) = (node.clone(), identity.clone());
        self.write(Event::AgentEnrolled { node: name, generation, identity });
        let phase = self.migration().and_then(|m| m.node(node)).map(|node| &node.track.phase);
        if let Some(Phase::Asking { gate, .. }) = phase {
            // What the system before has answered says nothing of this one.
            let gate = *gate;
            self.ask(&Subject::Node(node.clone()), gate);
        }
        Ok(())
    }
}
