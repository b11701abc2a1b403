package kubean

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// outcome is what a step of an operation's reconciliation asks for next.
type outcome int

const (
	next  outcome = iota // go on with the next step
	again                // something was written: the watch, or RetryAfter, brings us back
	poll                 // the Job runs: look again after PollEvery
	stop                 // nothing more to do until somebody changes the operation
)

// run is one pass over one operation.
type run struct {
	op      *Operation
	cluster *Cluster
}

// errArguments marks mistakes of the creator that end the operation as Failed.
var errArguments = errors.New("wrong arguments")

// reconcileOperation makes one pass. At most one thing is written in a pass, and the event of
// that write starts the next pass: an idle operator needs no pause between its steps.
func (o *Operator) reconcileOperation(
	ctx context.Context, name string,
) (time.Duration, error) {
	cached, found, err := o.ops.GetStore().GetByKey(name)
	if err != nil || !found {
		return 0, err
	}
	r := &run{op: copyOf(cached.(*Operation))}
	if r.op.terminal() {
		return 0, nil
	}
	for _, step := range []func(context.Context, *run) (outcome, error){
		o.watchActor, o.findCluster, o.failBadImage, o.failMissingData, o.ownByCluster,
		o.recordDigest, o.noticeEdits, o.backUp, o.writeEntrypoint, o.ownData, o.createJob,
		o.followJob, o.markCompleted,
	} {
		result, err := step(ctx, r)
		switch {
		case errors.Is(err, errArguments):
			return 0, err
		case err != nil:
			klog.InfoS("kubean: operation has to wait", "name", name, "err", err)
			return o.options.RetryAfter, nil
		case result == again:
			return o.options.RetryAfter, nil
		case result == poll:
			return o.options.PollEvery, nil
		case result == stop:
			return 0, nil
		}
	}
	return 0, nil
}

// fail writes Failed and nothing else. The real one only logs when that write is refused.
func (o *Operator) fail(ctx context.Context, r *run, why error) {
	klog.InfoS("kubean: operation fails", "name", r.op.Name, "why", why)
	r.op.Status.Status = Failed
	if err := o.clients.manager.UpdateOperationStatus(ctx, r.op); err != nil {
		klog.ErrorS(err, "kubean: Failed was not written", "name", r.op.Name)
	}
}

// watchActor names the running pod on the operation, and suspends the Job when the name on the
// operation is another pod's.
func (o *Operator) watchActor(ctx context.Context, r *run) (outcome, error) {
	if r.op.Status.JobRef.Empty() {
		return next, nil
	}
	jobs := o.clients.core.BatchV1().Jobs(r.op.Status.JobRef.Namespace)
	job, err := jobs.Get(ctx, r.op.Status.JobRef.Name, metav1.GetOptions{})
	if err != nil || (job.Spec.Suspend != nil && *job.Spec.Suspend) || jobEnd(job) != "" {
		return next, nil
	}
	pod, err := o.runningPod(ctx, job)
	if err != nil || pod == "" {
		return next, nil
	}
	switch r.op.Annotations[ActorNote] {
	case pod:
		return next, nil
	case "":
		metav1.SetMetaDataAnnotation(&r.op.ObjectMeta, ActorNote, pod)
		return again, o.clients.manager.UpdateOperation(ctx, r.op)
	default:
		suspend := true
		job.Spec.Suspend = &suspend
		_, err := jobs.Update(ctx, job, metav1.UpdateOptions{})
		return again, err
	}
}

func (o *Operator) runningPod(ctx context.Context, job *batchv1.Job) (string, error) {
	if job.Spec.Selector == nil {
		return "", nil
	}
	pods, err := o.clients.core.CoreV1().Pods(job.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			return pod.Name, nil
		}
	}
	return "", nil
}

func (o *Operator) findCluster(ctx context.Context, r *run) (outcome, error) {
	cluster, err := o.clients.clusters.GetCluster(ctx, r.op.Spec.Cluster)
	r.cluster = cluster
	return next, err
}

func (o *Operator) failBadImage(ctx context.Context, r *run) (outcome, error) {
	if validImage(r.op.Spec.Image) {
		return next, nil
	}
	o.fail(ctx, r, fmt.Errorf("image %q", r.op.Spec.Image))
	return stop, nil
}

func validImage(image string) bool {
	letters := []rune(image)
	if len(letters) == 0 || slices.Contains(letters, ' ') {
		return false
	}
	plain := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
	return plain(letters[0]) && plain(letters[len(letters)-1])
}

// ownByCluster makes the Cluster the controlling owner. After an edit of spec.cluster that is a
// second controller, which the API refuses: the operation is stuck where it is.
func (o *Operator) ownByCluster(ctx context.Context, r *run) (outcome, error) {
	if owned(r.op.OwnerReferences, r.cluster.UID) {
		return next, nil
	}
	kind := GroupVersion.WithKind("Cluster")
	r.op.OwnerReferences = append(r.op.OwnerReferences, *metav1.NewControllerRef(r.cluster, kind))
	return again, o.clients.manager.UpdateOperation(ctx, r.op)
}

func (o *Operator) recordDigest(ctx context.Context, r *run) (outcome, error) {
	if r.op.Status.Digest != "" {
		return next, nil
	}
	r.op.Status.Digest = digest(&r.op.Spec)
	return again, o.clients.manager.UpdateOperationStatus(ctx, r.op)
}

// digest covers neither extraArgs nor references nor sources: edits of those leave no trace.
func digest(spec *OperationSpec) string {
	text := "kubean" + spec.Cluster + spec.ActionType + strings.TrimSpace(spec.Action.Action) +
		spec.Image
	for _, hook := range slices.Concat(spec.PreHook, spec.PostHook) {
		text += hook.ActionType + strings.TrimSpace(hook.Action)
	}
	return fmt.Sprintf("%x", md5.Sum([]byte(text)))
}

func (o *Operator) noticeEdits(ctx context.Context, r *run) (outcome, error) {
	if r.op.Status.HasModified || r.op.Status.Digest == digest(&r.op.Spec) {
		return next, nil
	}
	r.op.Status.HasModified = true
	return again, o.clients.manager.UpdateOperationStatus(ctx, r.op)
}

// followJob turns the Job's end into the operation's. A Job that is gone has Failed.
func (o *Operator) followJob(ctx context.Context, r *run) (outcome, error) {
	ref := r.op.Status.JobRef
	job, err := o.clients.core.BatchV1().Jobs(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	end := Failed
	switch {
	case apierrors.IsNotFound(err):
		job = &batchv1.Job{}
	case err != nil:
		return next, err
	default:
		if end = jobEnd(job); end == "" {
			return poll, nil
		}
	}
	r.op.Status.Status = end
	if r.op.Status.EndTime = job.Status.CompletionTime; r.op.Status.EndTime == nil {
		// A Job that did not complete says no time: the operator's own clock, 0-5 s late.
		r.op.Status.EndTime = &metav1.Time{Time: time.Now()}
	}
	return next, o.clients.manager.UpdateOperationStatus(ctx, r.op)
}

// jobEnd is how the Job ended, "" while it has not. A suspended Job counts as failed.
func jobEnd(job *batchv1.Job) string {
	for _, condition := range job.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			continue
		}
		switch condition.Type {
		case batchv1.JobComplete:
			return Succeeded
		case batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuspended:
			return Failed
		}
	}
	return ""
}

func (o *Operator) markCompleted(ctx context.Context, r *run) (outcome, error) {
	metav1.SetMetaDataLabel(&r.op.ObjectMeta, CompletedLabel, "done")
	return stop, o.clients.manager.UpdateOperation(ctx, r.op)
}
