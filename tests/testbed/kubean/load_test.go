package kubean_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rehull.dev/testbed/kubean"
)

func webhookRefuses(t *testing.T, w *world) {
	s, other := w.story(t, "c34"), w.story(t, "c34-other")
	s.create(s.own("c34-old", "sleep=4"))
	for _, dryRun := range [][]string{nil, {metav1.DryRunAll}} {
		_, err := s.client.CreateOperation(s.ctx, s.bare("c34-new", ""),
			metav1.CreateOptions{DryRun: dryRun})
		status, ok := err.(apierrors.APIStatus)
		if !ok {
			t.Fatalf("not refused: %v", err)
		}
		equal(t, "code", status.Status().Code, http.StatusNotAcceptable)
		equal(t, "reason", status.Status().Reason, metav1.StatusReasonNotAcceptable)
		equal(t, "message", err, `admission webhook "kubean.io.webhook" denied the request: `+
			`Not Accept c34-new , because clusterOperation c34-old has not completed `+
			`which belongs to Cluster c34`)
	}
	other.create(other.own("c34-else", ""))
	s.reaches("c34-old", kubean.Succeeded, 20*time.Second)
	s.create(s.bare("c34-new", ""))
}

func webhookRaces(t *testing.T, w *world) {
	const rounds, creators = 10, 6
	s := w.blank(t, "c35")
	for round := range rounds {
		s.cluster = fmt.Sprintf("c35-%d", round) // without a Cluster nothing starts
		var admitted sync.WaitGroup
		results := make(chan error, creators)
		for i := range creators {
			admitted.Add(1)
			go func() {
				defer admitted.Done()
				op := s.bare(fmt.Sprintf("%s-%d", s.cluster, i), "")
				_, err := s.client.CreateOperation(s.ctx, op, metav1.CreateOptions{})
				results <- err
			}()
		}
		admitted.Wait()
		close(results)
		count := 0
		for err := range results {
			if err == nil {
				count++
			}
		}
		if count > 1 {
			return
		}
	}
	t.Errorf("in %d rounds of %d creates at once never more than one was admitted",
		rounds, creators)
}

// marks says when each operation was first seen in a state.
type marks map[string]time.Time

func (m marks) add(name string) {
	if _, seen := m[name]; !seen {
		m[name] = time.Now()
	}
}

func manyAreSlow(t *testing.T, w *world) {
	const many, clusters = 20, 4
	var s *story
	var names []string
	var ops []*kubean.Operation
	for c := range clusters {
		s = w.story(t, fmt.Sprintf("c37-%d", c))
		for i := range many / clusters {
			name := fmt.Sprintf("%s-op%d", s.cluster, i)
			names = append(names, name)
			ops = append(ops, s.own(name, "sleep=20"))
		}
	}
	time.Sleep(5 * time.Second) // the clusters' first cycle, and the next burst of requests
	start := time.Now()
	for _, op := range ops {
		s.create(op)
	}
	running, complete, ended := marks{}, marks{}, marks{}
	s.within(120*time.Second, "all end", func() bool {
		s.look(names, running, complete, ended)
		return len(ended) == many
	})
	var starts, ends []time.Duration
	for _, name := range names {
		starts = append(starts, running[name].Sub(start).Round(100*time.Millisecond))
		ends = append(ends, ended[name].Sub(complete[name]).Round(100*time.Millisecond))
	}
	slices.Sort(starts)
	slices.Sort(ends)
	t.Logf("create to Running: %v", starts)
	t.Logf("Job complete to Succeeded: %v", ends)
	if last := starts[many-1]; last < 15*time.Second || last > 75*time.Second {
		t.Errorf("the last one ran after %v; observed: 43 s", last)
	}
	if last := ends[many-1]; last < 3*time.Second || last > 30*time.Second {
		t.Errorf("the slowest end took %v; observed: 14 s", last)
	}
}

func (s *story) look(names []string, running, complete, ended marks) {
	jobs, err := s.Core.BatchV1().Jobs(space).List(s.ctx, metav1.ListOptions{})
	must(s.t, err)
	for _, job := range jobs.Items {
		name := strings.TrimSuffix(strings.TrimPrefix(job.Name, "kubean-"), "-job")
		if job.Status.CompletionTime != nil && slices.Contains(names, name) {
			complete.add(name)
		}
	}
	ops, err := s.client.ListOperations(s.ctx, "")
	must(s.t, err)
	for _, op := range ops {
		if !slices.Contains(names, op.Name) {
			continue
		}
		if op.Status.JobRef != nil {
			running.add(op.Name)
		}
		if op.Status.Status == kubean.Succeeded {
			ended.add(op.Name)
		}
	}
}

// restartedOperatorWaits stops the operator while one operation runs and another one comes.
func restartedOperatorWaits(t *testing.T, w *world, stop func()) (stopNext func()) {
	s := w.story(t, "c38")
	late := w.story(t, "c38-late")
	s.running("c38-op", "3")
	job := s.job("c38-op").UID
	stop()
	stopped := time.Now()
	late.create(late.own("c38-new", ""))
	stopNext = w.startOperator(kubean.Options{})
	s.stays(10*time.Second, "no progress", func() bool {
		return s.get("c38-op").Status.Status == kubean.Running &&
			s.get("c38-new").Status == kubean.OperationStatus{}
	})
	s.within(10*time.Second, "the next one leads", func() bool {
		return s.get("c38-new").Status != kubean.OperationStatus{}
	})
	t.Logf("%v without an operator", time.Since(stopped).Round(100*time.Millisecond))
	op := s.reaches("c38-op", kubean.Succeeded, 6*time.Second)
	equal(t, "end", op.Status.EndTime.UTC(), s.job("c38-op").Status.CompletionTime.UTC())
	equal(t, "Job", s.job("c38-op").UID, job)
	equal(t, "pods", len(s.pods("c38-op")), 1)
	s.reaches("c38-new", kubean.Succeeded, 15*time.Second)
	return stopNext
}

func (w *world) startWebhook() {
	w.background("webhook", func(ctx context.Context) error {
		return kubean.RunWebhook(ctx, w.Config, "127.0.0.1:0")
	})
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		config, err := w.Core.AdmissionregistrationV1().ValidatingWebhookConfigurations().
			Get(w.t.Context(), "kubean-admission-webhook", metav1.GetOptions{})
		if err == nil && len(config.Webhooks) == 1 {
			// The API server learns of it a moment later.
			time.Sleep(time.Second)
			return
		}
	}
	w.t.Fatal("the webhook configuration was not filled")
}
