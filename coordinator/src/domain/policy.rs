//! Windows, soaks, deadlines and budgets as data, each with a floor under which only `unsafe` goes.

use rehull_shared::time::Span;
use serde::{Deserialize, Serialize};

/// How patient and how strict a migration is. Production values are the defaults.
///
/// Every field has a default, so that a log written before a field existed still reads: new ones come
/// last, because the log stores their values in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// How long an absence must be seen, without a break, before it counts.
    #[schemars(with = "String")]
    pub absence_window: Span,
    /// How long a kubelet's lease must stand still before it counts as stopped.
    #[schemars(with = "String")]
    pub lease_window: Span,
    /// How long a joined node must be Ready without a break.
    #[schemars(with = "String")]
    pub ready_window: Span,
    /// How long a node is watched before the next one starts.
    #[schemars(with = "String")]
    pub soak: Span,
    /// The same for the first node, the canary.
    #[schemars(with = "String")]
    pub canary_soak: Span,
    /// How old an answer may be when a gate is judged.
    #[schemars(with = "String")]
    pub evidence_max_age: Span,
    /// How long a gate may stay unanswered before the node is held.
    #[schemars(with = "String")]
    pub gate_deadline: Span,
    /// How long the eviction of the pods of one node may take.
    #[schemars(with = "String")]
    pub drain_deadline: Span,
    /// How long an operation may take to start; grows by 5 s with every other running operation of
    /// the management cluster, because the operator saturates (`kubean-observed.md` 4).
    #[schemars(with = "String")]
    pub start_deadline: Span,
    /// `activeDeadlineSeconds` of an operation; 5 min later its outcome is unknown.
    #[schemars(with = "String")]
    pub operation_deadline: Span,
    /// How long a reinstall may take, from its authorisation to the enrolment of the new system.
    #[schemars(with = "String")]
    pub reinstall_deadline: Span,
    /// Smallest remaining life of the certificates of a node.
    #[schemars(with = "String")]
    pub certificate_horizon: Span,
    /// Smallest free space of a fresh host, in GiB.
    pub disk_free_gib: u32,
    /// Nodes that are under way at the same time, behind the canary. Operations still run one after
    /// the other, and a node begins only if its pods fit on the rest together with those of the nodes
    /// before it.
    pub max_out: u32,
    /// How long to wait between two looks at the world for the same question.
    #[schemars(with = "String")]
    pub poll_interval: Span,
    /// Whether a Node object that outlives its removal is deleted without asking a person. By UID,
    /// and only when its host is proved to be clean, as always.
    pub delete_node: bool,
    /// How long each automatic attempt waits after the look at the one before. As many attempts as
    /// there are waits are made by themselves, and only if evidence shows that the operation has
    /// done nothing.
    #[schemars(with = "Vec<String>")]
    pub resubmit_after: Vec<Span>,
    /// How long a node is expected to take, until one of this migration has shown it: it begins only
    /// if its window is open for that long.
    #[schemars(with = "String")]
    pub node_length: Span,
    /// How long etcd may bear no loss, because a control plane is away, before people are warned.
    #[schemars(with = "String")]
    pub fragility_warning: Span,
    /// How long before they are paged.
    #[schemars(with = "String")]
    pub fragility_page: Span,
    /// How long etcd must have elected no leader before a control plane begins.
    #[schemars(with = "String")]
    pub etcd_quiet: Span,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            absence_window: Span::from_secs(90),
            lease_window: Span::from_secs(60),
            ready_window: Span::from_secs(60),
            soak: Span::from_mins(10),
            canary_soak: Span::from_mins(30),
            evidence_max_age: Span::from_secs(120),
            gate_deadline: Span::from_mins(15),
            drain_deadline: Span::from_mins(60),
            start_deadline: Span::from_secs(120),
            operation_deadline: Span::from_secs(7_200),
            reinstall_deadline: Span::from_mins(90),
            certificate_horizon: Span::from_secs(30 * 86_400),
            disk_free_gib: 20,
            max_out: 1,
            poll_interval: Span::from_secs(5),
            delete_node: false,
            resubmit_after: vec![Span::from_mins(5), Span::from_mins(15)],
            node_length: Span::from_mins(120),
            fragility_warning: Span::from_mins(60),
            fragility_page: Span::from_mins(120),
            etcd_quiet: Span::from_mins(10),
        }
    }
}

/// A value on the dangerous side of its floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderFloor {
    /// Name of the field, as in a document.
    pub field: String,
    /// The value asked for.
    pub value: String,
    /// The least dangerous value that needs no `unsafe`.
    pub floor: String,
}

impl std::fmt::Display for UnderFloor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {} (floor {})", self.field, self.value, self.floor)
    }
}

/// One row: field, value of a policy, floor, and why the floor is where it is.
pub struct Floor {
    /// Name of the field, as in a document.
    pub field: &'static str,
    /// The field of a policy.
    pub value: fn(&Policy) -> Span,
    /// No value under it without `unsafe`.
    pub floor: Span,
    /// Why there.
    pub why: &'static str,
}

/// The floors of the lengths of time, in the order of the fields. Read by the check, by `explain`
/// and by the documentation.
pub const FLOORS: &[Floor] = &[
    Floor {
        field: "absenceWindow",
        value: |p| p.absence_window,
        floor: Span::from_secs(90),
        why: "2 x node monitor grace of 40 s + 10 s of lease: a living kubelet would be back",
    },
    Floor {
        field: "leaseWindow",
        value: |p| p.lease_window,
        floor: Span::from_secs(60),
        why: "a kubelet renews every 10 s and retries for 40 s",
    },
    Floor {
        field: "readyWindow",
        value: |p| p.ready_window,
        floor: Span::from_secs(60),
        why: "a node that flaps is Ready between two flaps",
    },
    Floor {
        field: "soak",
        value: |p| p.soak,
        floor: Span::from_mins(5),
        why: "crash loops back off to 5 min before they are seen again",
    },
    Floor {
        field: "canarySoak",
        value: |p| p.canary_soak,
        floor: Span::from_mins(10),
        why: "the canary is the only warning that the others get",
    },
    Floor {
        field: "drainDeadline",
        value: |p| p.drain_deadline,
        floor: Span::from_mins(5),
        why: "pods may ask for minutes of grace",
    },
    Floor {
        field: "startDeadline",
        value: |p| p.start_deadline,
        floor: Span::from_secs(60),
        why: "20 operations at once start up to 45 s late",
    },
    Floor {
        field: "operationDeadline",
        value: |p| p.operation_deadline,
        floor: Span::from_mins(30),
        why: "a drain inside kubespray alone may take 25 min",
    },
    Floor {
        field: "certificateHorizon",
        value: |p| p.certificate_horizon,
        floor: Span::from_secs(7 * 86_400),
        why: "a migration of a large cluster lasts days",
    },
    Floor {
        field: "etcdQuiet",
        value: |p| p.etcd_quiet,
        floor: Span::from_mins(5),
        why: "members that lose each other now and then elect every few minutes",
    },
];

impl Policy {
    /// How long evidence alone makes the two operations of a node take: others of its cluster wait for
    /// them.
    pub fn operation_windows(&self) -> Span {
        self.absence_window.max(self.lease_window) + self.ready_window
    }

    /// Everything on the dangerous side of its floor; empty for a policy fit for production.
    pub fn under_floor(&self) -> Vec<UnderFloor> {
        let mut under: Vec<UnderFloor> = FLOORS
            .iter()
            .filter(|row| (row.value)(self) < row.floor)
            .map(|row| UnderFloor {
                field: row.field.to_owned(),
                value: (row.value)(self).to_string(),
                floor: row.floor.to_string(),
            })
            .collect();
        // An answer may be old by 10 min at the most: here the floor is a ceiling.
        if self.evidence_max_age > Span::from_mins(10) {
            under.push(UnderFloor {
                field: "evidenceMaxAge".to_owned(),
                value: self.evidence_max_age.to_string(),
                floor: "at most 10m".to_owned(),
            });
        }
        if let Some(wait) = self.resubmit_after.iter().find(|wait| **wait < Span::from_mins(1)) {
            under.push(UnderFloor {
                field: "resubmitAfter".to_owned(),
                value: wait.to_string(),
                floor: "1m".to_owned(),
            });
        }
        if self.disk_free_gib < 10 {
            under.push(UnderFloor {
                field: "diskFreeGib".to_owned(),
                value: self.disk_free_gib.to_string(),
                floor: "10".to_owned(),
            });
        }
        under
    }
}
