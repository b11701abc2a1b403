package runner

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"golang.org/x/sys/unix"
)

// Pauses of a kubelet between tries of what a pod waits for.
const (
	mountRetryMin = 500 * time.Millisecond
	statusRetry   = time.Second
	// exitLost is the exit code of a container whose end nobody saw.
	exitLost = 137
)

// pod is the life of one pod on this node.
type pod struct {
	runner    *Runner
	namespace string
	name      string
	dir       string
	logPath   string
	ended     chan struct{} // closed when nothing of it runs any more

	mu      sync.Mutex
	doomed  chan struct{} // closed at the first deletion
	expired chan struct{} // closed when a deletion leaves no time
	killAt  time.Time     // when the earliest deletion's grace is over
	status  corev1.PodStatus
}

func newPod(r *Runner, object *corev1.Pod) *pod {
	id := fmt.Sprintf("%s_%s_%s", object.Namespace, object.Name, object.UID)
	return &pod{
		runner: r, namespace: object.Namespace, name: object.Name,
		dir:     filepath.Join(r.options.WorkDir, "pods", string(object.UID)),
		logPath: filepath.Join(r.options.WorkDir, "logs", id, "kubean", "0.log"),
		ended:   make(chan struct{}), doomed: make(chan struct{}), expired: make(chan struct{}),
		status: *object.Status.DeepCopy(),
	}
}

// delete asks the pod to end: now a polite signal, after grace the other one. A later deletion can
// only shorten the grace.
func (p *pod) delete(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeOnce(p.doomed)
	at := time.Now().Add(grace)
	if !p.killAt.IsZero() && !at.Before(p.killAt) {
		return
	}
	p.killAt = at
	time.AfterFunc(grace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		closeOnce(p.expired)
	})
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (p *pod) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// run takes the pod through its whole life.
func (p *pod) run(ctx context.Context, object *corev1.Pod) {
	switch {
	case object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed:
	case object.Status.Phase == corev1.PodRunning:
		// It ran under a runner that is gone, and died with it.
		p.finish(ctx, object, exitLost, "ContainerStatusUnknown")
	default:
		code, reason := p.live(ctx, object)
		if ctx.Err() != nil {
			break // the runner stops: whoever comes next finds the pod Running, and dead
		}
		p.finish(ctx, object, code, reason)
	}
	os.RemoveAll(p.dir)
	close(p.ended)
	select {
	case <-ctx.Done():
	case <-p.doomed:
		p.remove(ctx, object)
	}
}

// live mounts, starts and waits; it returns the exit code and the reason that a kubelet shows.
func (p *pod) live(ctx context.Context, object *corev1.Pod) (int, string) {
	p.report(ctx, object, waiting("ContainerCreating", ""))
	box := &sandbox{
		Hostname: object.Name, Root: filepath.Join(p.dir, "root"),
		Playbooks: p.runner.options.PlaybooksDir,
		Visible:   filepath.Dir(p.runner.options.AnsibleBin),
		Command:   object.Spec.Containers[0].Command,
	}
	ready := p.retry(ctx, func() (err error) {
		box.Mounts, err = p.runner.mountVolumes(ctx, object, filepath.Join(p.dir, "volumes"))
		if err != nil {
			p.complain(ctx, object, "FailedMount", err)
		}
		return err
	}) && p.retry(ctx, func() (err error) {
		box.Env, err = p.runner.environment(ctx, object)
		if err != nil {
			p.report(ctx, object, waiting("CreateContainerConfigError", err.Error()))
		}
		return err
	})
	if !ready {
		return exitLost, "ContainerStatusUnknown"
	}
	code, err := p.execute(ctx, object, box)
	switch {
	case err != nil:
		klog.ErrorS(err, "runner: pod not started", "pod", p.name)
		return exitCannotStart, "ContainerCannotRun"
	case code == 0:
		return 0, "Completed"
	}
	return code, "Error"
}

// retry repeats the step with growing pauses; false means that the pod was deleted meanwhile.
func (p *pod) retry(ctx context.Context, step func() error) bool {
	for pause := mountRetryMin; step() != nil; {
		select {
		case <-ctx.Done():
			return false
		case <-p.doomed:
			return false
		case <-time.After(pause):
		}
		pause = min(2*pause, p.runner.options.MountRetryMax)
	}
	return true
}

func (p *pod) execute(ctx context.Context, object *corev1.Pod, box *sandbox) (int, error) {
	if err := os.MkdirAll(box.Root, 0o755); err != nil {
		return 0, err
	}
	log, err := newLogFile(p.logPath)
	if err != nil {
		return 0, err
	}
	defer log.file.Close()
	stdout, stderr := &stream{log: log, name: "stdout"}, &stream{log: log, name: "stderr"}
	process, ended, err := box.start(stdout, stderr)
	if err != nil {
		return 0, err
	}
	p.report(ctx, object, corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()},
	})
	doomed := p.doomed
	for {
		select {
		case code := <-ended:
			stdout.close()
			stderr.close()
			return code, nil
		case <-doomed:
			// The shell is process 1 of its namespace and has no handler: it ignores this, and
			// lives until the grace is over, as in a real pod.
			process.Signal(unix.SIGTERM)
			doomed = nil
		case <-p.expired:
			process.Kill()
			return <-ended, nil
		case <-ctx.Done():
			process.Kill()
			return <-ended, nil
		}
	}
}

func (p *pod) finish(ctx context.Context, object *corev1.Pod, code int, reason string) {
	started := metav1.Now()
	if len(p.status.ContainerStatuses) == 1 && p.status.ContainerStatuses[0].State.Running != nil {
		started = p.status.ContainerStatuses[0].State.Running.StartedAt
	}
	p.report(ctx, object, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, StartedAt: started, FinishedAt: metav1.Now(),
	}})
}

// remove ends the deletion: only a kubelet may take the last grace away.
func (p *pod) remove(ctx context.Context, object *corev1.Pod) {
	err := p.runner.core.CoreV1().Pods(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0),
		Preconditions:      metav1.NewUIDPreconditions(string(object.UID)),
	})
	if err != nil {
		klog.V(2).InfoS("runner: pod not removed", "pod", p.name, "err", err)
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
	}
}

// report writes the pod's status as a kubelet would for this state of its container. It tries
// until the API took it: a lost end would leave the Job running for ever.
func (p *pod) report(ctx context.Context, object *corev1.Pod, state corev1.ContainerState) {
	p.describe(object, state)
	pods := p.runner.core.CoreV1().Pods(p.namespace)
	for {
		fresh, err := pods.Get(ctx, p.name, metav1.GetOptions{})
		if err == nil && fresh.UID == object.UID {
			kept := slices.DeleteFunc(fresh.Status.Conditions, isOurs)
			fresh.Status = p.status
			fresh.Status.Conditions = slices.Concat(p.status.Conditions, kept)
			_, err = pods.UpdateStatus(ctx, fresh, metav1.UpdateOptions{})
		}
		if err == nil || apierrors.IsNotFound(err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(statusRetry):
		}
	}
}

// ownConditions are those that a kubelet writes; others (an eviction's) are kept.
var ownConditions = []corev1.PodConditionType{
	corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady,
}

func isOurs(condition corev1.PodCondition) bool {
	return slices.Contains(ownConditions, condition.Type)
}

func (p *pod) describe(object *corev1.Pod, state corev1.ContainerState) {
	container := object.Spec.Containers[0]
	shown := corev1.ContainerStatus{Name: container.Name, Image: container.Image, State: state}
	status := &p.status
	status.HostIP, status.HostIPs = p.runner.host, []corev1.HostIP{{IP: p.runner.host}}
	ready := corev1.ConditionFalse
	reason := ""
	switch {
	case state.Waiting != nil:
		status.Phase = corev1.PodPending
	case state.Running != nil:
		status.Phase, ready = corev1.PodRunning, corev1.ConditionTrue
		shown.Started, shown.Ready = ptr.To(true), true
	case state.Terminated.ExitCode == 0:
		status.Phase, reason = corev1.PodSucceeded, "PodCompleted"
	default:
		status.Phase, reason = corev1.PodFailed, "PodFailed"
	}
	if state.Waiting == nil {
		name, _, _ := strings.Cut(container.Image, "@")
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		shown.ImageID = fmt.Sprintf("%s@sha256:%x", name, sha256.Sum256([]byte(container.Image)))
		shown.ContainerID = "testbed://" + string(object.UID)
		status.PodIP, status.PodIPs = p.runner.host, []corev1.PodIP{{IP: p.runner.host}}
	}
	if status.StartTime == nil {
		status.StartTime = ptr.To(metav1.Now())
	}
	status.ContainerStatuses = []corev1.ContainerStatus{shown}
	status.Conditions = nil
	for _, kind := range ownConditions {
		condition := corev1.PodCondition{
			Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		}
		if kind == corev1.ContainersReady || kind == corev1.PodReady {
			condition.Status, condition.Reason = ready, reason
		}
		status.Conditions = append(status.Conditions, condition)
	}
}

// complain leaves an event, which is where a person looks when a pod does not start.
func (p *pod) complain(ctx context.Context, object *corev1.Pod, reason string, why error) {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: p.name + ".", Namespace: p.namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: p.namespace, Name: p.name, UID: object.UID,
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: why.Error(), Count: 1,
		FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: p.runner.options.NodeName},
	}
	_, err := p.runner.core.CoreV1().Events(p.namespace).Create(ctx, event, metav1.CreateOptions{})
	if err != nil {
		klog.V(2).InfoS("runner: event not written", "pod", p.name, "err", err)
	}
}
