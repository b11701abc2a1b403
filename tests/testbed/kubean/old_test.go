package kubean_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rehull.dev/testbed/kubean"
)

// oldOperatorDiffers checks what v0.12.2 does otherwise; the world's operator must be stopped.
func oldOperatorDiffers(t *testing.T, w *world) {
	must(t, kubean.Install(t.Context(), w.Config, space, kubean.O))
	err := w.Core.CoordinationV1().Leases(space).
		Delete(t.Context(), "kubean-controller", metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	w.startOperator(kubean.Options{Version: kubean.O, APIRate: -1})
	t.Run("entrypoint and Job", func(t *testing.T) { oldEntrypointAndJob(t, w) })
	t.Run("later playbooks are unknown", func(t *testing.T) { oldPlaybooks(t, w) })
	t.Run("refs in another namespace run", func(t *testing.T) { oldForeignRefs(t, w) })
	t.Run("a shared hook map has the first as its only owner", func(t *testing.T) {
		oldSharedHook(t, w)
	})
}

func oldEntrypointAndJob(t *testing.T, w *world) {
	s := w.story(t, "o1")
	op := s.own("o1-op", "-e a=b")
	op.Annotations = map[string]string{"z": "1"}
	s.create(op)
	s.reaches("o1-op", kubean.Running, 2*time.Second)
	data := s.readMap("o1-op-entrypoint")
	equal(t, "script", data.Data["entrypoint.sh"], strings.Join([]string{
		"#!/bin/bash", "", "set -o errexit", "set -o nounset", "set -o pipefail", "",
		"# preinstall", "", "# run kubespray",
		`ansible-playbook -i /conf/hosts.yml -b --become-user root -e "@/conf/group_vars.yml"` +
			" /kubespray/ping.yml -e a=b",
		"", "# postinstall",
	}, "\n"))
	template := s.job("o1-op").Spec.Template
	equal(t, "annotations of the pod", len(template.Annotations), 0)
	equal(t, "env", len(template.Spec.Containers[0].Env), 1)
	equal(t, "requests", len(template.Spec.Containers[0].Resources.Requests), 0)
	s.reaches("o1-op", kubean.Succeeded, 15*time.Second)
	contains(t, s.log("o1-op"), "all: {own: 1}")
}

func oldPlaybooks(t *testing.T, w *world) {
	s := w.story(t, "o2")
	op := s.own("o2-op", "")
	op.Spec.Action.Action = "facts.yml"
	s.create(op)
	s.reaches("o2-op", kubean.Failed, 2*time.Second)
}

func oldForeignRefs(t *testing.T, w *world) {
	s := w.story(t, "o3")
	_, err := s.Core.CoreV1().ConfigMaps("default").Create(s.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "o3-pb"}, Data: map[string]string{"clean.yml": "[]"},
	}, metav1.CreateOptions{})
	must(t, err)
	op := s.withHook(s.bare("o3-op", ""), "o3-pb", "clean.yml")
	op.Spec.PostHook[0].ActionSourceRef.Namespace = "default"
	op.Spec.HostsConfRef = &kubean.Ref{Namespace: "default", Name: "o3-h"}
	op.Spec.VarsConfRef = ref("o3-vars")
	s.create(op)
	s.reaches("o3-op", kubean.Running, 2*time.Second)
	equal(t, "the hook map is copied", s.mapExists("o3-pb"), true)
	s.within(5*time.Second, "a pod", func() bool { return len(s.pods("o3-op")) == 1 })
	s.stays(2*time.Second, "it waits", func() bool {
		return s.pod("o3-op").Status.Phase != corev1.PodRunning
	})
}

func oldSharedHook(t *testing.T, w *world) {
	s, other := w.story(t, "o4"), w.story(t, "o4-other")
	s.configMap("o4-pb", map[string]string{"clean.yml": "[]"}, true)
	s.create(s.withHook(s.own("o4-a", ""), "o4-pb", "clean.yml"))
	first := s.reaches("o4-a", kubean.Running, 2*time.Second)
	other.create(s.withHook(other.own("o4-b", ""), "o4-pb", "clean.yml"))
	other.reaches("o4-b", kubean.Running, 2*time.Second)
	data := s.readMap("o4-pb")
	equal(t, "owners", len(data.OwnerReferences), 1)
	equal(t, "owner", data.OwnerReferences[0].UID, first.UID)
	equal(t, "controller", *data.OwnerReferences[0].Controller, true)
}

// withoutAccountStuck takes the label from the service account and gives it back.
func withoutAccountStuck(t *testing.T, w *world) {
	s := w.story(t, "b07")
	label := func(value string) {
		_, err := s.Core.CoreV1().ServiceAccounts(space).Patch(s.ctx, "kubean",
			"application/merge-patch+json",
			[]byte(`{"metadata":{"labels":{"kubean.io/kubean-operator":`+value+`}}}`),
			metav1.PatchOptions{})
		must(t, err)
	}
	label("null")
	s.create(s.own("b07-op", ""))
	s.stuck("b07-op")
	label(`"sa"`)
	s.reaches("b07-op", kubean.Running, 4*time.Second)
}

// cordonedNodeTakesNone is the pod that cannot be scheduled.
func cordonedNodeTakesNone(t *testing.T, w *world) {
	s := w.story(t, "b08")
	cordon := func(value string) {
		_, err := s.Core.CoreV1().Nodes().Patch(s.ctx, "mgmt", "application/merge-patch+json",
			[]byte(`{"spec":{"unschedulable":`+value+`}}`), metav1.PatchOptions{})
		must(t, err)
	}
	cordon("true")
	s.create(s.own("b08-op", ""))
	op := s.reaches("b08-op", kubean.Running, 3*time.Second)
	s.stays(7*time.Second, "no pod runs", func() bool { return !s.podRuns("b08-op") })
	equal(t, "actor", op.Annotations[kubean.ActorNote], "")
	cordon("false")
	s.reaches("b08-op", kubean.Succeeded, 20*time.Second)
}
