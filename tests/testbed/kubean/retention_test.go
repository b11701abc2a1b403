package kubean_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
)

// keep is the number of operations of a cluster that the testbed's configuration keeps.
const keep = 5

// scored sets how dear an operation is to retention; lower is kept longer.
func scored(op *kubean.Operation, score int) *kubean.Operation {
	metav1.SetMetaDataAnnotation(&op.ObjectMeta, kubean.ScoreNote, strconv.Itoa(score))
	return op
}

// stuckOp never gets a Job: its source needs a reference that it does not have.
func (s *story) stuckOp(name string) *kubean.Operation {
	op := s.own(name, "")
	op.Spec.ActionSource = ptr.To("configmap")
	return op
}

// shown lists the Cluster's conditions, as name:status.
func (s *story) shown() string {
	s.t.Helper()
	cluster, err := s.client.GetCluster(s.ctx, s.cluster)
	must(s.t, err)
	var list []string
	for _, condition := range cluster.Status.Conditions {
		list = append(list, condition.ClusterOps+":"+condition.Status)
	}
	return strings.Join(list, " ")
}

func excessIsDeleted(t *testing.T, w *world) {
	s := w.story(t, "c30")
	s.create(s.own("c30-old", ""))
	s.reaches("c30-old", kubean.Succeeded, 15*time.Second)
	s.create(scored(s.own("c30-running", "sleep=60"), 5))
	s.create(s.stuckOp("c30-stuck"))
	s.reaches("c30-stuck", "", time.Second)
	s.reaches("c30-running", kubean.Running, 2*time.Second)
	for i := range keep {
		s.create(scored(s.own(fmt.Sprintf("c30-k%d", i), ""), -1))
	}
	s.within(20*time.Second, "old and stuck are deleted", func() bool {
		return s.gone("c30-old") && s.gone("c30-stuck")
	})
	s.within(5*time.Second, "with all that is theirs", func() bool {
		return !s.jobExists("c30-old") && len(s.pods("c30-old")) == 0 &&
			!s.mapExists("c30-old-h") && !s.mapExists("c30-old-entrypoint")
	})
	s.stays(8*time.Second, "the others stay", func() bool {
		return !s.gone("c30-running") && !s.gone("c30-k0") && !s.gone("c30-k4")
	})
}

func overfullMeansStale(t *testing.T, w *world) {
	s := w.story(t, "c31")
	for i := range keep {
		s.create(s.own(fmt.Sprintf("c31-%d", i), "sleep=60"))
	}
	s.within(20*time.Second, "conditions show all", func() bool {
		return strings.Count(s.shown(), ":Running") == keep
	})
	before := s.shown()
	s.create(s.own("c31-more", "sleep=60"))
	s.reaches("c31-more", kubean.Running, 2*time.Second)
	s.stays(12*time.Second, "the conditions are stale", func() bool { return s.shown() == before })
}

func unlabelledIsInvisible(t *testing.T, w *world) {
	s := w.story(t, "c32")
	bad := s.own("c32-bad", "")
	bad.Spec.Action.Action = "unknown.yml"
	s.create(bad)
	s.reaches("c32-bad", kubean.Failed, time.Second)
	for i := range keep + 1 {
		s.create(s.own(fmt.Sprintf("c32-%d", i), ""))
	}
	s.within(30*time.Second, "one is deleted and the rest shown", func() bool {
		return strings.Count(s.shown(), ":Succeeded") == keep
	})
	if strings.Contains(s.shown(), "bad") || s.gone("c32-bad") {
		t.Errorf("shown %s, gone %v", s.shown(), s.gone("c32-bad"))
	}
}

func conditionsAreOrdered(t *testing.T, w *world) {
	s := w.story(t, "c33")
	for _, op := range []*kubean.Operation{
		scored(s.own("c33-last", ""), 10), scored(s.own("c33-first", ""), -1),
		s.own("c33-old", ""), s.own("c33-new", ""), s.stuckOp("c33-stuck"),
	} {
		s.create(op)
		time.Sleep(1100 * time.Millisecond) // creation times have whole seconds
	}
	s.within(20*time.Second, "the order", func() bool {
		return s.shown() == "c33-first:Succeeded c33-stuck: c33-new:Succeeded "+
			"c33-old:Succeeded c33-last:Succeeded"
	})
}

func clusterDeletionTakesAll(t *testing.T, w *world) {
	s := w.story(t, "c40")
	s.create(s.own("c40-op", ""))
	s.reaches("c40-op", kubean.Succeeded, 15*time.Second)
	s.within(15*time.Second, "the Cluster owns its maps", func() bool {
		return len(s.readMap("c40-hosts").OwnerReferences) == 1
	})
	must(t, s.client.Delete().Resource("clusters").Name("c40").Do(s.ctx).Error())
	s.within(5*time.Second, "everything goes", func() bool {
		return s.gone("c40-op") && !s.jobExists("c40-op") && !s.mapExists("c40-hosts") &&
			!s.mapExists("c40-vars") && len(s.pods("c40-op")) == 0
	})
}

func withoutWebhookAnyNumberRuns(t *testing.T, w *world) {
	s := w.story(t, "c36")
	s.create(s.own("c36-a", "sleep=8"))
	s.create(s.own("c36-b", "sleep=8"))
	s.within(10*time.Second, "both run", func() bool {
		return s.podRuns("c36-a") && s.podRuns("c36-b")
	})
	equal(t, "phase", s.pod("c36-a").Status.Phase, corev1.PodRunning)
}
