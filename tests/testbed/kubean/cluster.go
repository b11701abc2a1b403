package kubean

import (
	"context"
	"slices"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// Limits of how many operations of a cluster are kept.
const (
	keepDefault = 30
	keepMax     = 200
)

// reconcileCluster is one cycle: either old operations are deleted and the conditions are left as
// they were, or the conditions are refreshed.
func (o *Operator) reconcileCluster(
	ctx context.Context, name string,
) (time.Duration, error) {
	cached, found, err := o.known.GetStore().GetByKey(name)
	if err != nil || !found {
		return 0, err
	}
	cluster := copyOf(cached.(*Cluster))
	if err := o.cycle(ctx, cluster); err != nil {
		klog.InfoS("kubean: cluster has to wait", "name", name, "err", err)
	}
	return o.options.CycleEvery, nil
}

func (o *Operator) cycle(ctx context.Context, cluster *Cluster) error {
	keep := o.keep(ctx)
	ops, err := o.clients.operations.ListOperations(ctx, ClusterLabel+"="+cluster.Name)
	if err != nil {
		return err
	}
	byScoreThenNewest(ops)
	if len(ops) > keep {
		o.prune(ctx, ops[keep:])
		return nil
	}
	conditions := make([]Condition, 0, len(ops))
	for _, op := range ops {
		conditions = append(conditions, Condition{
			ClusterOps: op.Name, Status: op.Status.Status,
			StartTime: op.Status.StartTime, EndTime: op.Status.EndTime,
		})
	}
	if !slices.EqualFunc(cluster.Status.Conditions, conditions, sameCondition) {
		cluster.Status.Conditions = conditions
		err := o.clients.manager.Put().Resource("clusters").Name(cluster.Name).
			SubResource("status").Body(cluster).Do(ctx).Error()
		if err != nil {
			return err
		}
	}
	spec := cluster.Spec
	owner := *metav1.NewControllerRef(cluster, GroupVersion.WithKind("Cluster"))
	maps := []*Ref{spec.HostsConfRef, spec.VarsConfRef, spec.KubeConfRef, spec.PreCheckRef}
	return o.own(ctx, owner, maps, spec.SSHAuthRef)
}

// prune deletes all but the running ones: stuck and quite fresh operations too.
func (o *Operator) prune(ctx context.Context, excess []Operation) {
	for _, op := range excess {
		if op.Status.Status == Running {
			continue
		}
		err := o.clients.operations.DeleteOperation(ctx, op.Name, metav1.DeleteOptions{})
		klog.InfoS("kubean: retention deletes", "name", op.Name, "err", err)
	}
}

// keep reads the limit each time, so that a change acts in the next cycle.
func (o *Operator) keep(ctx context.Context) int {
	settings, err := o.clients.core.CoreV1().ConfigMaps(o.options.Namespace).
		Get(ctx, configName, metav1.GetOptions{})
	if err != nil {
		return keepDefault
	}
	n, err := strconv.Atoi(settings.Data["CLUSTER_OPERATIONS_BACKEND_LIMIT"])
	if err != nil || n <= 0 {
		return keepDefault
	}
	return min(n, keepMax)
}

// byScoreThenNewest sorts twice with an unstable sort, as the real one does: with more than 12
// operations of one score their order is not by time.
func byScoreThenNewest(ops []Operation) {
	sort.Slice(ops, func(i, j int) bool {
		return ops[i].CreationTimestamp.After(ops[j].CreationTimestamp.Time)
	})
	sort.Slice(ops, func(i, j int) bool { return score(&ops[i]) < score(&ops[j]) })
}

// score is 0 where the annotation is absent or no number.
func score(op *Operation) int {
	value, err := strconv.Atoi(op.Annotations[ScoreNote])
	if err != nil {
		return 0
	}
	return value
}

func sameCondition(a, b Condition) bool {
	return a.ClusterOps == b.ClusterOps && a.Status == b.Status &&
		a.StartTime.Equal(b.StartTime) && a.EndTime.Equal(b.EndTime)
}

// ensureKeys makes the key pair for inventory passwords once, as N does at its start: without it
// no pod could start, because each takes the private key into its environment.
func (o *Operator) ensureKeys(ctx context.Context) error {
	maps := o.clients.core.CoreV1().ConfigMaps(o.options.Namespace)
	settings, err := maps.Get(ctx, configName, metav1.GetOptions{})
	if err != nil || settings.Data[keyOfKeys] != "" {
		return err
	}
	private, public, err := keyPair()
	if err != nil {
		return err
	}
	if settings.Data == nil {
		settings.Data = map[string]string{}
	}
	settings.Data[keyOfKeys] = private
	if _, err := maps.Update(ctx, settings, metav1.UpdateOptions{}); err != nil {
		return err
	}
	made := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kubean-pubkey"}, Data: map[string]string{"pk": public},
	}
	_, err = maps.Create(ctx, made, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
