package kubean_test

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
)

// running creates an operation whose pod sleeps, and waits for the pod.
func (s *story) running(name, seconds string) *kubean.Operation {
	s.t.Helper()
	s.create(s.own(name, "sleep="+seconds))
	s.within(10*time.Second, "the pod of "+name+" runs", func() bool { return s.podRuns(name) })
	return s.reaches(name, kubean.Running, time.Second)
}

func editsWhileRunning(t *testing.T, w *world) {
	s := w.story(t, "c25")
	s.running("c25-op", "20")
	generation := s.job("c25-op").Generation
	s.edit("c25-op", func(op *kubean.Operation) { op.Spec.ExtraArgs = "sleep=1" })
	s.stays(3*time.Second, "no trace", func() bool { return !s.get("c25-op").Status.HasModified })
	s.edit("c25-op", func(op *kubean.Operation) { op.Spec.Image = "other:1" })
	s.within(time.Second, "hasModified", func() bool { return s.get("c25-op").Status.HasModified })
	s.edit("c25-op", func(op *kubean.Operation) { op.Spec.Image = image })
	s.stays(2*time.Second, "it stays", func() bool { return s.get("c25-op").Status.HasModified })
	equal(t, "generation of the Job", s.job("c25-op").Generation, generation)
}

func badImageWhileRunning(t *testing.T, w *world) {
	s := w.story(t, "c26")
	s.running("c26-op", "4")
	s.edit("c26-op", func(op *kubean.Operation) { op.Spec.Image = "bad image" })
	op := s.reaches("c26-op", kubean.Failed, time.Second)
	if op.Status.EndTime != nil {
		t.Error("an endTime")
	}
	if s.job("c26-op").Status.CompletionTime != nil {
		t.Error("the Job has ended already, the test says nothing")
	}
	s.within(15*time.Second, "the Job runs to its end", func() bool {
		return s.job("c26-op").Status.CompletionTime != nil
	})
	equal(t, "hasCompleted", s.get("c26-op").Labels[kubean.CompletedLabel], "")
}

func clusterEditIsStuck(t *testing.T, w *world) {
	w.story(t, "c27-other")
	s := w.story(t, "c27")
	s.running("c27-op", "2")
	s.edit("c27-op", func(op *kubean.Operation) { op.Spec.Cluster = "c27-other" })
	s.within(15*time.Second, "the Job ends", func() bool {
		return s.job("c27-op").Status.CompletionTime != nil
	})
	s.stays(8*time.Second, "Running", func() bool {
		return s.get("c27-op").Status.Status == kubean.Running
	})
}

func (s *story) gone(name string) bool {
	s.t.Helper()
	_, err := s.client.GetOperation(s.ctx, name)
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
	return err != nil
}

func backgroundDeletionLeavesThePod(t *testing.T, w *world) {
	s := w.story(t, "c28")
	s.running("c28-op", "60")
	must(t, s.client.DeleteOperation(s.ctx, "c28-op", metav1.DeleteOptions{}))
	s.within(2*time.Second, "operation, Job and maps go", func() bool {
		return s.gone("c28-op") && !s.jobExists("c28-op") && !s.mapExists("c28-op-h") &&
			!s.mapExists("c28-op-entrypoint")
	})
	s.stays(15*time.Second, "the pod lives on, terminating", func() bool {
		pods := s.pods("c28-op")
		return len(pods) == 1 && s.podRuns("c28-op")
	})
	if s.pod("c28-op").DeletionTimestamp == nil {
		t.Error("the pod is not terminating")
	}
	s.within(20*time.Second, "the grace is over", func() bool { return len(s.pods("c28-op")) == 0 })
}

func foregroundDeletionWaitsForThePod(t *testing.T, w *world) {
	s := w.story(t, "c29")
	s.running("c29-op", "60")
	must(t, s.client.DeleteOperation(s.ctx, "c29-op", metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationForeground),
	}))
	equal(t, "finalizers", s.get("c29-op").Finalizers, "[foregroundDeletion]")
	took := s.within(40*time.Second, "the operation goes", func() bool { return s.gone("c29-op") })
	equal(t, "pods left", len(s.pods("c29-op")), 0)
	if took < 20*time.Second {
		t.Errorf("gone after %v, before the pod's grace was over", took)
	}
}

func podNamesAreCut(t *testing.T, w *world) {
	s := w.story(t, "c39")
	name := "c39-" + strings.Repeat("x", 48)
	s.running(name, "1")
	pod := s.pod(name).Name
	if strings.HasPrefix(pod, jobName(name)) {
		t.Errorf("the pod's name %s is not cut", pod)
	}
	equal(t, "longest name", len(pod) <= 63, true)
}

func foreignStatusIsBelieved(t *testing.T, w *world) {
	s := w.story(t, "c41")
	op := s.running("c41-op", "3")
	for {
		op = s.get("c41-op")
		op.Status.Status = kubean.Succeeded
		if s.client.UpdateOperationStatus(s.ctx, op) == nil {
			break
		}
	}
	s.stays(8*time.Second, "never touched again", func() bool {
		return s.get("c41-op").ResourceVersion == op.ResourceVersion
	})
	if op.Status.EndTime != nil {
		t.Error("an endTime")
	}
}
