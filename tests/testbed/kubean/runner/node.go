package runner

import (
	"context"
	"time"

	coordination "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// beat is how often a kubelet renews its lease; after 40 s without one its node is not ready.
const beat = 10 * time.Second

// register makes the Node, with an address at which the API server finds the logs.
func (r *Runner) register(ctx context.Context) error {
	nodes := r.core.CoreV1().Nodes()
	name := r.options.NodeName
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
	}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		node, err = nodes.Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	size := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("8"),
		corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	now := metav1.Now()
	node.Status.Capacity, node.Status.Allocatable = size, size
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: r.host}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = r.port
	node.Status.NodeInfo.OperatingSystem = "linux"
	node.Status.NodeInfo.KubeletVersion = "v1.34.4"
	node.Status.NodeInfo.ContainerRuntimeVersion = "testbed://1"
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return err
	}
	return r.renew(ctx)
}

func (r *Runner) keepAlive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beat):
		}
		if err := r.renew(ctx); err != nil {
			klog.ErrorS(err, "runner: the node's lease was not renewed")
		}
	}
}

func (r *Runner) renew(ctx context.Context) error {
	leases := r.core.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NowMicro(), int32(4*beat/time.Second)
	spec := coordination.LeaseSpec{
		HolderIdentity: &r.options.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now,
	}
	lease, err := leases.Get(ctx, r.options.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		meta := metav1.ObjectMeta{Name: r.options.NodeName}
		_, err = leases.Create(ctx,
			&coordination.Lease{ObjectMeta: meta, Spec: spec}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec = spec
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// bind plays the scheduler for pods that nobody bound. A cordoned node takes none: that is how to
// have an operation whose pod cannot be scheduled.
func (r *Runner) bind(ctx context.Context, pod *corev1.Pod) {
	node, err := r.core.CoreV1().Nodes().Get(ctx, r.options.NodeName, metav1.GetOptions{})
	if err != nil || node.Spec.Unschedulable {
		return
	}
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: r.options.NodeName},
	}
	err = r.core.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		klog.ErrorS(err, "runner: not bound", "pod", pod.Name)
	}
}
