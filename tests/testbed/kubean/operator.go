// Package kubean plays Kubean's operator and admission webhook as they were observed: the same
// writes in the same order, the same polls, the same faults.
package kubean

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Version is a generation of the operator whose behaviour differs.
type Version string

// N is the v0.37.0 line, O is v0.12.2.
const (
	N Version = "N"
	O Version = "O"
)

// operatorWorkers is how many operations are worked on at once; one worker serves clusters.
const operatorWorkers = 5

// Options are the operator's settings. The zero value of a field means what the real one does.
type Options struct {
	Namespace string
	Version   Version
	// RetryAfter is the pause after an error or a half-done step (3 s).
	RetryAfter time.Duration
	// PollEvery is the pause between two looks at a running Job (5 s).
	PollEvery time.Duration
	// CycleEvery is the pause between two rounds of conditions and retention (15 s).
	CycleEvery time.Duration
	// APIRate and APIBurst limit each API group's requests (client-go's 5/s, burst 10). A lower
	// rate makes the operator slow with fewer operations, a negative one never slow.
	APIRate  float32
	APIBurst int
}

func (o Options) withDefaults() Options {
	setDefault(&o.Namespace, "kubean-system")
	setDefault(&o.Version, N)
	setDefault(&o.RetryAfter, 3*time.Second)
	setDefault(&o.PollEvery, 5*time.Second)
	setDefault(&o.CycleEvery, 15*time.Second)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Operator reconciles operations and clusters while it leads.
type Operator struct {
	options Options
	clients *clients
	ops     cache.SharedIndexInformer
	known   cache.SharedIndexInformer
}

// NewOperator prepares an operator that acts with the rights of Kubean's service account.
func NewOperator(cfg *rest.Config, options Options) (*Operator, error) {
	options = options.withDefaults()
	made, err := newClients(cfg, &options)
	if err != nil {
		return nil, err
	}
	informer := func(resource string, kind runtime.Object) cache.SharedIndexInformer {
		source := cache.NewListWatchFromClient(
			made.manager.Interface, resource, metav1.NamespaceAll, fields.Everything())
		return cache.NewSharedIndexInformer(source, kind, 0, cache.Indexers{})
	}
	return &Operator{
		options: options, clients: made,
		ops:   informer("clusteroperations", &Operation{}),
		known: informer("clusters", &Cluster{}),
	}, nil
}

// Run leads when nobody else does, and works until outer ends. The lease is not given back: the
// next one waits until it has run out, about 16 s, as with the real one.
func (o *Operator) Run(outer context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	identity := host + "_" + string(uuid.NewUUID())
	lost := errors.New("kubean: the lease was lost")
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{
				Namespace: o.options.Namespace, Name: "kubean-controller",
			},
			Client:     o.clients.core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second,
		RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				if err := o.work(ctx); err != nil {
					cancel(err)
				}
			},
			OnStoppedLeading: func() { cancel(lost) },
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	if outer.Err() != nil {
		return nil // asked to end
	}
	return context.Cause(ctx)
}

// work runs the two controllers; it is only called while this process leads.
func (o *Operator) work(ctx context.Context) error {
	if o.options.Version == N {
		if err := o.ensureKeys(ctx); err != nil {
			return fmt.Errorf("kubean: keys for inventory passwords: %w", err)
		}
	}
	for _, part := range []struct {
		source  cache.SharedIndexInformer
		workers int
		step    func(context.Context, string) (time.Duration, error)
	}{
		{o.ops, operatorWorkers, o.reconcileOperation}, {o.known, 1, o.reconcileCluster},
	} {
		queue := workqueue.NewTypedRateLimitingQueue(
			workqueue.DefaultTypedControllerRateLimiter[string]())
		if _, err := part.source.AddEventHandler(enqueueInto(queue)); err != nil {
			return err
		}
		go part.source.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), part.source.HasSynced) {
			return nil
		}
		for range part.workers {
			go wait.UntilWithContext(ctx, func(ctx context.Context) {
				for o.serve(ctx, queue, part.step) {
				}
			}, time.Second)
		}
		context.AfterFunc(ctx, queue.ShutDown)
	}
	<-ctx.Done()
	return nil
}

type queue = workqueue.TypedRateLimitingInterface[string]

func enqueueInto(q queue) cache.ResourceEventHandler {
	add := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			q.Add(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, object any) { add(object) }, DeleteFunc: add,
	}
}

// serve takes one name from the queue and works on it; false ends the worker.
func (o *Operator) serve(
	ctx context.Context, q queue, step func(context.Context, string) (time.Duration, error),
) bool {
	name, closing := q.Get()
	if closing {
		return false
	}
	defer q.Done(name)
	again, err := step(ctx, name)
	switch {
	case err != nil:
		klog.InfoS("kubean: will try again", "name", name, "err", err)
		q.AddRateLimited(name)
	case again > 0:
		q.Forget(name)
		q.AddAfter(name, again)
	default:
		q.Forget(name)
	}
	return true
}
