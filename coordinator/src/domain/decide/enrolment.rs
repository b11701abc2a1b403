//! Enrolment: a host that holds an open token becomes the next generation of its node; and its
//! end, when a person no longer trusts it.

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
        // What the system before has answered says nothing of this one.
        self.forget_answers(node);
        Ok(())
    }

    /// Makes the certificate of a host's agent, and an open invitation, worthless.
    pub(super) fn revoke_agent(&mut self, node: &NodeName, by: &str) -> Result<(), Refusal> {
        let key = (self.cluster.clone(), node.clone());
        let host = self.scribe.fleet.hosts.get(&key).ok_or_else(|| Refusal::NotNow {
            subject: Subject::Node(node.clone()),
            phase: "unknown".to_owned(),
            why: "no host has been invited under this name: see `rehull agent list`".to_owned(),
        })?;
        if host.revoked && host.token.is_none() {
            return Ok(());
        }
        let (generation, node, by) = (host.generation, node.clone(), by.to_owned());
        self.write(Event::AgentRevoked { node: node.clone(), generation, by });
        // Who is no longer trusted is not believed for what it has said in the open round either.
        self.forget_answers(&node);
        Ok(())
    }

    /// Asks an open gate of a node again from the beginning.
    fn forget_answers(&mut self, node: &NodeName) {
        let phase = self.migration().and_then(|m| m.node(node)).map(|node| &node.track.phase);
        if let Some(Phase::Asking { gate, .. }) = phase {
            let gate = *gate;
            self.ask(&Subject::Node(node.clone()), gate);
        }
    }
}
