package kubean

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A missing object is asked for this often before an operation fails for want of it.
const (
	dataTries = 5
	dataPause = 300 * time.Millisecond
)

// failMissingData looks for what would be copied from the Cluster. What an operation names itself
// is never looked for: it starts, and its pod waits.
func (o *Operator) failMissingData(ctx context.Context, r *run) (outcome, error) {
	spaces := map[string]bool{}
	for _, part := range []struct {
		own, source *Ref
		secret      bool
	}{
		{r.op.Spec.HostsConfRef, r.cluster.Spec.HostsConfRef, false},
		{r.op.Spec.VarsConfRef, r.cluster.Spec.VarsConfRef, false},
		{r.op.Spec.SSHAuthRef, r.cluster.Spec.SSHAuthRef, true},
	} {
		if !part.own.Empty() || (part.secret && part.source.Empty()) {
			continue
		}
		if part.source.Empty() || !o.exists(ctx, part.source, part.secret) {
			why := fmt.Errorf("data of cluster %s: %v not found", r.cluster.Name, part.source)
			o.fail(ctx, r, why)
			return stop, nil
		}
		spaces[part.source.Namespace] = true
	}
	if len(spaces) > 1 {
		o.fail(ctx, r, fmt.Errorf("data of cluster %s in several namespaces", r.cluster.Name))
		return stop, nil
	}
	return next, nil
}

// exists is false only when the API says so, again and again; another error counts as there.
func (o *Operator) exists(ctx context.Context, ref *Ref, secret bool) bool {
	for range dataTries {
		var err error
		if secret {
			_, err = o.clients.core.CoreV1().Secrets(ref.Namespace).
				Get(ctx, ref.Name, metav1.GetOptions{})
		} else {
			_, err = o.clients.core.CoreV1().ConfigMaps(ref.Namespace).
				Get(ctx, ref.Name, metav1.GetOptions{})
		}
		if !apierrors.IsNotFound(err) {
			return true
		}
		time.Sleep(dataPause)
	}
	return false
}

// backUp copies what the operation does not name itself, one copy a pass. The label is only set
// in memory here: it reaches the API with the next write of the operation, or never.
func (o *Operator) backUp(ctx context.Context, r *run) (outcome, error) {
	source := r.cluster.Spec
	if source.HostsConfRef.Empty() || source.VarsConfRef.Empty() {
		return next, fmt.Errorf("cluster %s names no data", r.cluster.Name)
	}
	metav1.SetMetaDataLabel(&r.op.ObjectMeta, ClusterLabel, r.cluster.Name)
	for _, part := range []struct {
		own    **Ref
		source *Ref
		copy   func(context.Context, *Operation, *Ref, string) error
	}{
		{&r.op.Spec.HostsConfRef, source.HostsConfRef, o.copyConfigMap},
		{&r.op.Spec.VarsConfRef, source.VarsConfRef, o.copyConfigMap},
		{&r.op.Spec.SSHAuthRef, source.SSHAuthRef, o.copySecret},
	} {
		if !(*part.own).Empty() || part.source.Empty() {
			continue
		}
		name := fmt.Sprintf("%s-%d", part.source.Name, time.Now().UnixMilli())
		if err := part.copy(ctx, r.op, part.source, name); err != nil {
			return next, err
		}
		*part.own = &Ref{Namespace: o.options.Namespace, Name: name}
		return again, o.clients.manager.UpdateOperation(ctx, r.op)
	}
	return next, nil
}

func (o *Operator) copyConfigMap(ctx context.Context, op *Operation, from *Ref, name string) error {
	old, err := o.clients.core.CoreV1().ConfigMaps(from.Namespace).
		Get(ctx, from.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	made := &corev1.ConfigMap{ObjectMeta: o.ownedMeta(op, name), Data: old.Data}
	_, err = o.clients.core.CoreV1().ConfigMaps(made.Namespace).
		Create(ctx, made, metav1.CreateOptions{})
	return err
}

func (o *Operator) copySecret(ctx context.Context, op *Operation, from *Ref, name string) error {
	old, err := o.clients.core.CoreV1().Secrets(from.Namespace).
		Get(ctx, from.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	made := &corev1.Secret{ObjectMeta: o.ownedMeta(op, name), Data: old.Data}
	_, err = o.clients.core.CoreV1().Secrets(made.Namespace).
		Create(ctx, made, metav1.CreateOptions{})
	return err
}

// ownedMeta names an object of the operator's namespace that the operation controls.
func (o *Operator) ownedMeta(op *Operation, name string) metav1.ObjectMeta {
	kind := GroupVersion.WithKind("ClusterOperation")
	return metav1.ObjectMeta{
		Namespace: o.options.Namespace, Name: name,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(op, kind)},
	}
}

// ownData adds the operation to the owners of every ConfigMap and Secret that it names, so that
// they go when it goes. What does not exist is passed over, and found at a later poll.
func (o *Operator) ownData(ctx context.Context, r *run) (outcome, error) {
	spec := &r.op.Spec
	refs := []*Ref{spec.HostsConfRef, spec.VarsConfRef, spec.EntrypointSHRef}
	for _, action := range spec.actions() {
		refs = append(refs, action.ActionSourceRef)
	}
	kind := GroupVersion.WithKind("ClusterOperation")
	owner := *metav1.NewControllerRef(r.op, kind)
	return next, o.own(ctx, owner, refs, spec.SSHAuthRef)
}

// own appends the owner: in N without controller, beside others; in O as controller, and only
// where there is no owner yet.
func (o *Operator) own(
	ctx context.Context, owner metav1.OwnerReference, maps []*Ref, secret *Ref,
) error {
	if o.options.Version == N {
		owner.Controller, owner.BlockOwnerDeletion = nil, nil
	}
	for _, ref := range maps {
		if ref.Empty() {
			continue
		}
		client := o.clients.core.CoreV1().ConfigMaps(ref.Namespace)
		object, err := client.Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && o.adds(&object.ObjectMeta, owner) {
			_, err = client.Update(ctx, object, metav1.UpdateOptions{})
		} else if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	if secret.Empty() {
		return nil
	}
	client := o.clients.core.CoreV1().Secrets(secret.Namespace)
	object, err := client.Get(ctx, secret.Name, metav1.GetOptions{})
	if err == nil && o.adds(&object.ObjectMeta, owner) {
		_, err = client.Update(ctx, object, metav1.UpdateOptions{})
	} else if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// adds changes the owners in memory and says whether there is something to write.
func (o *Operator) adds(meta *metav1.ObjectMeta, owner metav1.OwnerReference) bool {
	if owned(meta.OwnerReferences, owner.UID) ||
		(o.options.Version == O && len(meta.OwnerReferences) > 0) {
		return false
	}
	meta.OwnerReferences = append(meta.OwnerReferences, owner)
	return true
}

func owned(owners []metav1.OwnerReference, uid types.UID) bool {
	for _, owner := range owners {
		if owner.UID == uid {
			return true
		}
	}
	return false
}
