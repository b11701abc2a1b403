//! What an operation means: the same after the operator has added what it always adds.

use rehull_shared::text::sha256_hex;

use super::{ClusterOperationSpec, Hook};

/// Hash of what an operation is to do. Fields that the API server or the operator fills in
/// (`actionSource: builtin`, `extraArgs: ""`, `resources: {}`, the entrypoint) change nothing.
pub fn spec_hash(spec: &ClusterOperationSpec) -> String {
    let plain = serde_json::to_string(&normal(spec)).expect("names and text can be written");
    sha256_hex(plain.as_bytes())
}

/// Whether `found` means what `ours` means. An ssh key that we did not name may have been filled in
/// from the Cluster meanwhile.
pub fn same_meaning(ours: &ClusterOperationSpec, found: &ClusterOperationSpec) -> bool {
    let mut found = normal(found);
    if ours.ssh_auth_ref.is_none() {
        found.ssh_auth_ref = None;
    }
    normal(ours) == found
}

fn normal(spec: &ClusterOperationSpec) -> ClusterOperationSpec {
    let mut spec = spec.clone();
    spec.action_source = source(spec.action_source);
    spec.extra_args = args(spec.extra_args);
    for hook in spec.pre_hook.iter_mut().chain(&mut spec.post_hook) {
        let Hook { action_source, extra_args, .. } = hook;
        *action_source = source(action_source.take());
        *extra_args = args(extra_args.take());
    }
    spec
}

fn source(source: Option<String>) -> Option<String> {
    source.filter(|source| !source.is_empty() && source != "builtin")
}

fn args(args: Option<String>) -> Option<String> {
    args.filter(|args| !args.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> ClusterOperationSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_the_operator_adds_changes_no_meaning_and_everything_else_does() {
        let sent = serde_json::json!({
            "cluster": "prod", "image": "r/spray-job:v1", "actionType": "playbook",
            "action": "remove-node.yml", "extraArgs": "-e node=n2",
            "hostsConfRef": {"namespace": "k", "name": "h"},
            "varsConfRef": {"namespace": "k", "name": "v"},
            "postHook": [{"actionType": "playbook", "action": "cluster-info.yml"}],
        });
        // As observed on the real operator, kubean-observed.md 1.
        let mut found = sent.clone();
        found["actionSource"] = "builtin".into();
        found["resources"] = serde_json::json!({});
        found["entrypointSHRef"] = serde_json::json!({"namespace": "k", "name": "e"});
        found["postHook"][0]["actionSource"] = "builtin".into();
        found["postHook"][0]["extraArgs"] = "".into();
        let (ours, found) = (read(sent), read(found));
        assert_eq!(spec_hash(&ours), spec_hash(&found));
        assert!(same_meaning(&ours, &found));

        type Change = fn(&mut ClusterOperationSpec);
        let changes: [Change; 7] = [
            |spec| spec.image.push('0'),
            |spec| spec.extra_args = Some("-e node=n3".into()),
            |spec| spec.extra_args = None,
            |spec| spec.action_source = Some("configmap".into()),
            |spec| spec.hosts_conf_ref = None,
            |spec| spec.post_hook.clear(),
            |spec| spec.active_deadline_seconds = Some(1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = found.clone();
            change(&mut other);
            assert!(!same_meaning(&ours, &other), "change {number} went unseen");
            assert_ne!(spec_hash(&ours), spec_hash(&other), "change {number} went unseen");
        }
    }

    #[test]
    fn an_ssh_key_is_forgiven_only_where_none_was_named() {
        let with = |name: &str| ClusterOperationSpec {
            ssh_auth_ref: Some(super::super::Ref { namespace: "k".into(), name: name.into() }),
            ..Default::default()
        };
        assert!(same_meaning(&Default::default(), &with("filled-in")));
        assert!(!same_meaning(&with("ours"), &with("other")));
        assert!(!same_meaning(&with("ours"), &Default::default()));
    }
}
