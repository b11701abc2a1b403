package kubean_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
	"rehull.dev/testbed/kubean/apitest"
	"rehull.dev/testbed/kubean/runner"
	"rehull.dev/testbed/lifeline"
)

const (
	space = "kubean-system"
	image = "registry.example/spray-job:v0.12.2"
)

// slack is added to every bound that comes from the observation: the machine is busy.
const slack = 4 * time.Second

func TestMain(m *testing.M) {
	runner.Main()
	lifeline.Hold()
	flag.Parse()
	// The items wait more than they work, but an operator with many at once is slow.
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// ansible stands in for ansible-playbook: it shows its arguments and inventory, and does what the
// extra arguments sleep= and rc= say.
const ansible = `#!/bin/bash
echo "ansible-playbook $*"
cat "$2"
for word; do
  case $word in
    sleep=*) sleep "${word#sleep=}" ;;
    rc=*) exit "${word#rc=}" ;;
  esac
done
`

// world is a management cluster with a double of Kubean in it.
type world struct {
	*apitest.Plane
	t      *testing.T
	client *kubean.Client
}

// startWorld has everything but the operator; quiet worlds stop it and start another one.
func startWorld(t *testing.T) *world {
	w := &world{Plane: apitest.Start(t, "../.cache/bin"), t: t}
	must(t, kubean.Install(t.Context(), w.Config, space, kubean.N))
	w.StartControllers()
	client, err := kubean.NewClient(w.Config)
	must(t, err)
	w.client = client
	bin, books := filepath.Join(w.Dir, "venv", "bin"), filepath.Join(w.Dir, "playbooks")
	must(t, os.MkdirAll(bin, 0o755))
	must(t, os.MkdirAll(books, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "ansible-playbook"), []byte(ansible), 0o755))
	w.background("kubelet", func(ctx context.Context) error {
		return runner.Run(ctx, w.Config, runner.Options{
			Namespace: space, Address: "127.0.0.1:0", PlaybooksDir: books, AnsibleBin: bin,
			WorkDir: filepath.Join(w.Dir, "work"), MountRetryMax: 2 * time.Second,
		})
	})
	return w
}

// background runs a part until the test ends or the returned function is called.
func (w *world) background(name string, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil && ctx.Err() == nil {
			w.t.Errorf("%s ended: %v", name, err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) startOperator(options kubean.Options) (stop func()) {
	operator, err := kubean.NewOperator(w.Config, options)
	must(w.t, err)
	return w.background("operator", operator.Run)
}

// story is one item's view of the world: a Cluster of its own.
type story struct {
	*world
	t       *testing.T
	ctx     context.Context
	cluster string
}

// blank is a story whose Cluster does not exist.
func (w *world) blank(t *testing.T, cluster string) *story {
	return &story{world: w, t: t, ctx: t.Context(), cluster: cluster}
}

// story makes the Cluster and the ConfigMaps that it names.
func (w *world) story(t *testing.T, cluster string) *story {
	s := w.blank(t, cluster)
	s.makeCluster(nil)
	return s
}

func (s *story) makeCluster(key *kubean.Ref) {
	s.t.Helper()
	cluster := s.cluster
	s.configMap(cluster+"-hosts", map[string]string{"hosts.yml": "all: {}\n"}, false)
	s.configMap(cluster+"-vars", map[string]string{"group_vars.yml": "a: 1\n"}, false)
	_, err := s.client.CreateCluster(s.ctx, &kubean.Cluster{
		ObjectMeta: metav1.ObjectMeta{Name: s.cluster},
		Spec: kubean.ClusterSpec{
			HostsConfRef: ref(s.cluster + "-hosts"), VarsConfRef: ref(s.cluster + "-vars"),
			SSHAuthRef: key,
		},
	})
	must(s.t, err)
}

func ref(name string) *kubean.Ref { return &kubean.Ref{Namespace: space, Name: name} }

func (s *story) configMap(name string, data map[string]string, immutable bool) {
	s.t.Helper()
	_, err := s.Core.CoreV1().ConfigMaps(space).Create(s.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data, Immutable: ptr.To(immutable),
	}, metav1.CreateOptions{})
	must(s.t, err)
}

// bare is an operation without references of its own, ready to be created.
func (s *story) bare(name, args string) *kubean.Operation {
	op := &kubean.Operation{ObjectMeta: metav1.ObjectMeta{Name: name}}
	op.Spec.Cluster, op.Spec.Image = s.cluster, image
	op.Spec.ActionType, op.Spec.Action.Action, op.Spec.ExtraArgs = "playbook", "ping.yml", args
	return op
}

// own is an operation that names immutable ConfigMaps of its own, which it makes.
func (s *story) own(name, args string) *kubean.Operation {
	s.t.Helper()
	op := s.bare(name, args)
	s.configMap(name+"-h", map[string]string{"hosts.yml": "all: {own: 1}\n"}, true)
	s.configMap(name+"-v", map[string]string{"group_vars.yml": "b: 2\n"}, true)
	op.Spec.HostsConfRef, op.Spec.VarsConfRef = ref(name+"-h"), ref(name+"-v")
	return op
}

func (s *story) create(op *kubean.Operation) *kubean.Operation {
	s.t.Helper()
	made, err := s.client.CreateOperation(s.ctx, op, metav1.CreateOptions{})
	must(s.t, err)
	return made
}

func (s *story) get(name string) *kubean.Operation {
	s.t.Helper()
	op, err := s.client.GetOperation(s.ctx, name)
	must(s.t, err)
	return op
}

// edit changes an operation, whoever else writes it meanwhile.
func (s *story) edit(name string, change func(*kubean.Operation)) *kubean.Operation {
	s.t.Helper()
	var err error
	for range 20 {
		op := s.get(name)
		change(op)
		if err = s.client.UpdateOperation(s.ctx, op); err == nil {
			return op
		}
		time.Sleep(50 * time.Millisecond)
	}
	must(s.t, err)
	return nil
}

// within waits until the condition holds and says how long that took.
func (s *story) within(limit time.Duration, what string, holds func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > limit+slack {
			s.t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(start)
}

// reaches waits for a status of the operation and returns it then.
func (s *story) reaches(name, status string, limit time.Duration) *kubean.Operation {
	s.t.Helper()
	var op *kubean.Operation
	start := time.Now()
	for {
		op = s.get(name)
		if op.Status.Status == status && (status != "" || op.Status.Digest != "") {
			return op
		}
		if time.Since(start) > limit+slack {
			s.t.Fatalf("%s is %q and not %q after %v", name, op.Status.Status, status, limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stays demands that the condition holds for the whole time.
func (s *story) stays(span time.Duration, what string, holds func() bool) {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < span; time.Sleep(100 * time.Millisecond) {
		if !holds() {
			s.t.Fatalf("no longer after %v: %s", time.Since(start), what)
		}
	}
}

// stuck demands status "" with a digest, and no Job, for longer than a retry of the operator.
func (s *story) stuck(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.reaches(name, "", time.Second)
	}
	s.stays(5*time.Second, strings.Join(names, ", ")+" stuck", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			op := s.get(name)
			return op.Status.Status != "" || op.Status.JobRef != nil || s.jobExists(name)
		})
	})
}

func (s *story) jobExists(name string) bool {
	_, err := s.Core.BatchV1().Jobs(space).Get(s.ctx, jobName(name), metav1.GetOptions{})
	return err == nil
}

func (s *story) mapExists(name string) bool {
	_, err := s.Core.CoreV1().ConfigMaps(space).Get(s.ctx, name, metav1.GetOptions{})
	return err == nil
}

func (s *story) readMap(name string) *corev1.ConfigMap {
	s.t.Helper()
	data, err := s.Core.CoreV1().ConfigMaps(space).Get(s.ctx, name, metav1.GetOptions{})
	must(s.t, err)
	return data
}

func jobName(op string) string { return "kubean-" + op + "-job" }

// pods finds the operation's pods by label, as one has to: their names may be cut.
func (s *story) pods(op string) []corev1.Pod {
	s.t.Helper()
	list, err := s.Core.CoreV1().Pods(space).List(s.ctx, metav1.ListOptions{
		LabelSelector: "job-name=" + jobName(op),
	})
	must(s.t, err)
	return list.Items
}

// pod is the only pod of the operation.
func (s *story) pod(op string) corev1.Pod {
	s.t.Helper()
	pods := s.pods(op)
	if len(pods) != 1 {
		s.t.Fatalf("%s has %d pods", op, len(pods))
	}
	return pods[0]
}

func (s *story) podRuns(op string) bool {
	return slices.ContainsFunc(s.pods(op), func(pod corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodRunning
	})
}

func (s *story) log(op string) string {
	s.t.Helper()
	text, err := s.Core.CoreV1().Pods(space).
		GetLogs(s.pod(op).Name, &corev1.PodLogOptions{}).DoRaw(s.ctx)
	must(s.t, err)
	return string(text)
}

// history is every version of an operation that a watcher saw.
type history struct{ versions chan kubean.Operation }

// follow starts watching before the operation exists.
func (s *story) follow(name string) *history {
	s.t.Helper()
	stream, err := s.client.Get().Resource("clusteroperations").
		VersionedParams(&metav1.ListOptions{
			Watch: true, FieldSelector: "metadata.name=" + name,
		}, metav1.ParameterCodec).Watch(s.ctx)
	must(s.t, err)
	h := &history{make(chan kubean.Operation, 100)}
	go func() {
		for event := range stream.ResultChan() {
			if op, ok := event.Object.(*kubean.Operation); ok {
				h.versions <- *op
			}
		}
	}()
	return h
}

// until collects the versions up to the first that satisfies the condition.
func (h *history) until(t *testing.T, holds func(*kubean.Operation) bool) []kubean.Operation {
	t.Helper()
	var seen []kubean.Operation
	for {
		select {
		case op := <-h.versions:
			if seen = append(seen, op); holds(&op) {
				return seen
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not seen in %d versions", len(seen))
		}
	}
}

func isRunning(op *kubean.Operation) bool { return op.Status.Status == kubean.Running }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal compares what two values print.
func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if a, b := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); a != b {
		t.Errorf("%s: got %s, want %s", what, a, b)
	}
}

func contains(t testing.TB, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q not in:\n%s", part, text)
	}
}
