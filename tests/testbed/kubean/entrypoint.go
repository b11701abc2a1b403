package kubean

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed inventory.sh
var inventoryBlock string

// playbooksO are the playbooks that v0.12.2 knows; playbooksN came later.
var (
	playbooksO = []string{
		"reset", "scale", "cluster", "remove-node", "upgrade-cluster", "ping", "enable-repo",
		"disable-firewalld", "kubeconfig", "cluster-info", "update-hosts", "remove-pkgs",
		"precheck", "renew-certs", "config-for-kube-vip",
	}
	playbooksN = []string{
		"facts", "config-insecure-registry", "enable-nf-conntrack", "mount-xfs-pquota",
		"set-containerd-registry-mirror", "disable-kernel-unattended-upgrade",
		"config-docker-cgroup-driver-for-kylinSP2", "ensure-kube-resolv-conf", "rh8-compat",
		"strip-kylin-version",
	}
)

// writeEntrypoint renders the pod's script, unless the creator brought one. An existing ConfigMap
// of the name is replaced, owners and labels too.
func (o *Operator) writeEntrypoint(ctx context.Context, r *run) (outcome, error) {
	if !r.op.Spec.EntrypointSHRef.Empty() {
		return next, nil
	}
	script, err := o.script(&r.op.Spec)
	if err != nil {
		o.fail(ctx, r, err)
		return stop, err
	}
	made := &corev1.ConfigMap{
		ObjectMeta: o.ownedMeta(r.op, r.op.Name+"-entrypoint"),
		Data:       map[string]string{"entrypoint.sh": script},
	}
	client := o.clients.core.CoreV1().ConfigMaps(made.Namespace)
	_, err = client.Create(ctx, made, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = client.Update(ctx, made, metav1.UpdateOptions{})
	}
	if err != nil {
		return next, err
	}
	r.op.Spec.EntrypointSHRef = &Ref{Namespace: made.Namespace, Name: made.Name}
	return again, o.clients.manager.UpdateOperation(ctx, r.op)
}

// script is the whole entrypoint; wrong words of the creator are errArguments.
func (o *Operator) script(spec *OperationSpec) (string, error) {
	pre, post := "pre operation", "post operation"
	if o.options.Version == O {
		pre, post = "preinstall", "postinstall"
	}
	text := "#!/bin/bash\n\nset -o errexit\nset -o nounset\nset -o pipefail\n"
	if o.options.Version == N {
		text += "\n# prerequisite\n" + inventoryBlock
	}
	for _, section := range []struct {
		title   string
		actions []Action
	}{
		{pre, spec.PreHook}, {"run kubespray", []Action{spec.Action}}, {post, spec.PostHook},
	} {
		text += "\n# " + section.title + "\n"
		for _, action := range section.actions {
			line, err := o.command(&action, !spec.SSHAuthRef.Empty())
			if err != nil {
				return "", err
			}
			text += line + "\n"
		}
	}
	return strings.TrimSpace(text), nil
}

// command is one line of the script. Extra arguments are neither quoted nor checked, and those of
// a shell action are dropped.
func (o *Operator) command(action *Action, withKey bool) (string, error) {
	switch action.ActionType {
	case "shell":
		return action.Action, nil
	case "playbook":
	default:
		return "", fmt.Errorf("%w: action type %q", errArguments, action.ActionType)
	}
	if action.builtin() && !o.knows(action.Action) {
		return "", fmt.Errorf("%w: playbook %q", errArguments, action.Action)
	}
	inventory := "/dev/fd/200"
	if o.options.Version == O {
		inventory = "/conf/hosts.yml"
	}
	words := []string{
		"ansible-playbook", "-i", inventory, "-b", "--become-user", "root",
		"-e", `"@/conf/group_vars.yml"`,
	}
	if withKey {
		words = append(words, "--private-key", "/auth/ssh-privatekey")
	}
	switch action.Action {
	case "reset.yml":
		words = append(words, "-e", `"reset_confirmation=yes"`)
	case "remove-node.yml":
		words = append(words, "-e", `"skip_confirmation=true"`)
	}
	words = append(words, "/kubespray/"+action.Action)
	if action.ExtraArgs != "" {
		words = append(words, action.ExtraArgs)
	}
	return strings.Join(words, " "), nil
}

func (o *Operator) knows(playbook string) bool {
	name, isYAML := strings.CutSuffix(playbook, ".yml")
	return isYAML && (slices.Contains(playbooksO, name) ||
		(o.options.Version == N && slices.Contains(playbooksN, name)))
}
