//! The gate table for people: in the answer to `plan`, and as the documentation that is made of it.

use std::fmt::Write;

use rehull_proto::v1::PlannedGate;
use rehull_shared::evidence::Witness;

use super::{
    sentences::gate_name,
    words::{of_check, of_gate},
};
use crate::domain::{
    gate::{Age, Gate, Need, Window},
    plan::Role,
    policy::{FLOORS, Policy},
};

/// Every gate in the order of the path, with what it asks under this policy of nodes up to this role.
pub fn planned(policy: &Policy, role: Role) -> Vec<PlannedGate> {
    let gate = |gate: Gate| PlannedGate {
        name: format!("{gate:?}"),
        number: gate.number().map(|number| format!("G{number}")).unwrap_or_default(),
        needs: gate.needs_of(role).map(|need| line(need, policy)).collect(),
    };
    let asked = |gate: &Gate| gate.is_of(role);
    Gate::ALL.into_iter().filter(asked).map(gate).collect()
}

fn line(need: &Need, policy: &Policy) -> String {
    let mut line = format!("{} ({})", of_check(need.check).statement, witness(need.witness));
    let window = need.window.length(policy, false);
    if window.as_secs() > 0 {
        _ = write!(line, ", for {window}"); // a String takes everything
    }
    line
}

fn witness(witness: Witness) -> &'static str {
    match witness {
        Witness::Agent => "the agent",
        Witness::ApiServers => "every API server",
        Witness::Management => "the management API",
        Witness::Coordinator => "the coordinator's records",
        Witness::ControlPlanes => "the control planes together",
        Witness::OwnApiServer => "its own API server",
    }
}

/// The table as Markdown, with the default policy and its floors.
pub fn table() -> String {
    let policy = Policy::default();
    let mut out = String::from(
        "# Gates\n\nMade by `rehull gates` from the table that the judge reads. A gate is passed \
         when every witness of every row has\nconfirmed it in the current round, freshly, and for \
         as long as the row asks. Missing, late and unknown answers block.\n",
    );
    for gate in Gate::ALL {
        out += &format!("\n## {}: {}\n\n", gate_name(gate), of_gate(gate));
        out += &format!(
            "Held after {} without a pass.\n\n",
            gate.deadline(&policy, false, Role::Worker)
        );
        out += "| must be true | check | witness | at most | for | catches |\n";
        out += "|---|---|---|---|---|---|\n";
        for need in gate.needs() {
            out += &format!("{}\n", markdown(need, &policy));
        }
        for (of, needs) in [
            ("control planes", gate.control_plane_needs()),
            ("the first control plane", gate.first_needs()),
        ] {
            for need in needs {
                out += &format!(
                    "{}\n",
                    markdown(need, &policy).replacen("| ", &format!("| *{of}*: "), 1)
                );
            }
        }
    }
    out += "\n## Policy\n\nA value under its floor needs `spec.unsafe` with a reason.\n\n";
    out += "| field | default | floor | why |\n|---|---|---|---|\n";
    for row in FLOORS {
        let value = (row.value)(&policy);
        out += &format!("| `{}` | {value} | {} | {} |\n", row.field, row.floor, row.why);
    }
    out
}

fn markdown(need: &Need, policy: &Policy) -> String {
    let words = of_check(need.check);
    let window = match need.window {
        Window::Once => "one look".to_owned(),
        Window::Soak => {
            let canary = need.window.length(policy, true);
            format!("{} (canary, control planes {canary})", need.window.length(policy, false))
        }
        window => window.length(policy, false).to_string(),
    };
    let age = match need.age {
        Age::Brief => format!("{} old", Age::Brief.limit(policy)),
        Age::Usual => format!("{} old", Age::Usual.limit(policy)),
    };
    format!(
        "| {} | `{}` | {} | {age} | {window} | {} |",
        words.statement,
        need.check,
        witness(need.witness),
        words.failures
    )
}
