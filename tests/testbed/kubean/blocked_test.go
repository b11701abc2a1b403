package kubean_test

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
)

func ownMapMissingMeansRunning(t *testing.T, w *world) {
	s := w.story(t, "c15")
	op := s.bare("c15-op", "")
	op.Spec.HostsConfRef, op.Spec.VarsConfRef = ref("c15-late"), ref("c15-vars")
	s.create(op)
	made := s.reaches("c15-op", kubean.Running, time.Second)
	s.within(5*time.Second, "the pod waits", func() bool {
		pods := s.pods("c15-op")
		return len(pods) == 1 && len(pods[0].Status.ContainerStatuses) == 1 &&
			pods[0].Status.ContainerStatuses[0].State.Waiting.Reason == "ContainerCreating"
	})
	s.stays(3*time.Second, "it waits", func() bool {
		return s.pod("c15-op").Status.Phase == corev1.PodPending
	})
	s.configMap("c15-late", map[string]string{"hosts.yml": "all: {late: 1}\n"}, true)
	s.reaches("c15-op", kubean.Succeeded, 20*time.Second)
	contains(t, s.log("c15-op"), "late")
	data := s.readMap("c15-late")
	if len(data.OwnerReferences) != 1 || data.OwnerReferences[0].UID != made.UID {
		t.Errorf("owners %v", data.OwnerReferences)
	}
}

func clusterMapMissingMeansFailed(t *testing.T, w *world) {
	s := w.story(t, "c16")
	must(t, s.Core.CoreV1().ConfigMaps(space).Delete(s.ctx, "c16-hosts", metav1.DeleteOptions{}))
	s.create(s.bare("c16-op", ""))
	op := s.reaches("c16-op", kubean.Failed, 5*time.Second)
	s.untouched(op)
}

// untouched demands that nothing but Failed was written.
func (s *story) untouched(op *kubean.Operation) {
	s.t.Helper()
	equal(s.t, "status", op.Status, kubean.OperationStatus{Status: kubean.Failed})
	equal(s.t, "generation", op.Generation, 1)
	equal(s.t, "owners", len(op.OwnerReferences), 0)
	equal(s.t, "labels", len(op.Labels), 0)
}

func unknownWordsMeanFailed(t *testing.T, w *world) {
	s := w.story(t, "c17")
	action := s.own("c17-action", "")
	action.Spec.Action.Action = "remove_node.yml"
	hook := s.own("c17-hook", "")
	hook.Spec.PostHook = []kubean.Action{{ActionType: "playbook", Action: "unknown.yml"}}
	kind := s.own("c17-type", "")
	kind.Spec.ActionType = "script"
	for _, op := range []*kubean.Operation{action, hook, kind} {
		s.create(op)
		made := s.reaches(op.Name, kubean.Failed, time.Second)
		equal(t, "owners", len(made.OwnerReferences), 1)
		want := kubean.OperationStatus{Status: kubean.Failed, Digest: made.Status.Digest}
		equal(t, "status", made.Status, want)
		if made.Status.Digest == "" {
			t.Error("no digest")
		}
		s.stays(time.Second, "no label", func() bool { return len(s.get(op.Name).Labels) == 0 })
	}
}

func badImageMeansFailed(t *testing.T, w *world) {
	s := w.story(t, "c18")
	for name, image := range map[string]string{
		"c18-empty": "", "c18-blank": "a b:1", "c18-first": "-a:1", "c18-last": "a:1-",
	} {
		op := s.own(name, "")
		op.Spec.Image = image
		s.create(op)
		s.untouched(s.reaches(name, kubean.Failed, time.Second))
	}
}

func noClusterMeansNoStatus(t *testing.T, w *world) {
	s := w.blank(t, "c19")
	s.create(s.own("c19-op", ""))
	s.stays(5*time.Second, "no status", func() bool {
		op := s.get("c19-op")
		return op.Status == kubean.OperationStatus{} && op.Generation == 1
	})
	s.makeCluster(nil)
	s.reaches("c19-op", kubean.Running, 4*time.Second)
}

func longNamesAreStuck(t *testing.T, w *world) {
	s := w.story(t, "c20")
	fits := "c20-" + strings.Repeat("a", 48)
	s.create(s.own(fits, ""))
	s.create(s.own(fits+"b", ""))
	s.reaches(fits, kubean.Running, time.Second)
	s.stuck(fits + "b")
	if !s.mapExists(fits + "b-entrypoint") {
		t.Error("no entrypoint")
	}
}

func refusedJobsAreStuck(t *testing.T, w *world) {
	s := w.story(t, "c21")
	s.configMap("c21-pb", map[string]string{"clean.yml": "[]"}, true)
	s.configMap("c21.dot", map[string]string{"clean.yml": "[]"}, true)
	twice := s.withHook(s.withHook(s.own("c21-twice", ""), "c21-pb", "clean.yml"),
		"c21-pb", "clean.yml")
	dotted := s.withHook(s.own("c21-dot", ""), "c21.dot", "clean.yml")
	source := s.own("c21-source", "")
	source.Spec.ActionSource = ptr.To("configmap")
	word := s.own("c21-word", "")
	word.Spec.ActionSource = ptr.To("git")
	for _, op := range []*kubean.Operation{twice, dotted, source, word} {
		s.create(op)
	}
	s.stuck("c21-twice", "c21-dot", "c21-source", "c21-word")
}

func otherNamespaceIsStuck(t *testing.T, w *world) {
	s := w.story(t, "c22")
	op := s.own("c22-op", "")
	op.Spec.HostsConfRef.Namespace = "default"
	s.create(op)
	s.stuck("c22-op")
	equal(t, "label", s.get("c22-op").Labels[kubean.ClusterLabel], "c22")
}

func foreignJobIsAdopted(t *testing.T, w *world) {
	s := w.story(t, "c23")
	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: jobName("c23-op")}}
	foreign.Spec.Template.Spec = corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{
			Name: "other", Image: "other:1", Command: []string{"/bin/true"},
		}},
	}
	_, err := s.Core.BatchV1().Jobs(space).Create(s.ctx, foreign, metav1.CreateOptions{})
	must(t, err)
	s.within(15*time.Second, "the foreign Job ends", func() bool {
		return s.job("c23-op").Status.CompletionTime != nil
	})
	before := s.job("c23-op")
	time.Sleep(2 * time.Second)
	s.create(s.own("c23-op", ""))
	op := s.reaches("c23-op", kubean.Succeeded, 3*time.Second)
	if !op.Status.EndTime.Before(op.Status.StartTime) {
		t.Errorf("started %v, ended %v", op.Status.StartTime, op.Status.EndTime)
	}
	equal(t, "version of the Job", s.job("c23-op").ResourceVersion, before.ResourceVersion)
}

func presetActorSuspends(t *testing.T, w *world) {
	s := w.story(t, "c24")
	op := s.own("c24-op", "sleep=40")
	op.Annotations = map[string]string{kubean.ActorNote: "another-pod"}
	s.create(op)
	s.reaches("c24-op", kubean.Failed, 15*time.Second)
	equal(t, "suspended", *s.job("c24-op").Spec.Suspend, true)
	s.within(5*time.Second, "the pod is killed", func() bool {
		for _, pod := range s.pods("c24-op") {
			if pod.DeletionTimestamp == nil {
				return false
			}
		}
		return true
	})
}
