// Package runner stands for the kubelet of the management cluster: it binds the pods of Kubean's
// Jobs to its node, runs their entrypoints in namespaces of their own, and serves their logs.
package runner

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"rehull.dev/testbed/kubean"
)

// resync is how often pods that could not be bound are tried again.
const resync = 2 * time.Second

// Options say where the runner works.
type Options struct {
	Namespace string
	// NodeName is the Node that it registers ("mgmt").
	NodeName string
	// Address is where logs are served, host:port; the default is this machine's address towards
	// the API server and the kubelet's port.
	Address string
	// PlaybooksDir is what the spray-job image has in /kubespray.
	PlaybooksDir string
	// AnsibleBin is the directory of ansible-playbook, usually a venv's bin.
	AnsibleBin string
	// WorkDir holds the pods' files and logs. Logs are kept when the pod is gone.
	WorkDir string
	// MountRetryMax bounds the growing pause between two tries to mount volumes (2 min 2 s).
	MountRetryMax time.Duration
}

// kubeletPort is the port that clients of a kubelet expect.
const kubeletPort = "10250"

// Runner runs pods.
type Runner struct {
	options Options
	core    kubernetes.Interface
	host    string
	port    int32

	mu   sync.Mutex
	pods map[types.UID]*pod
}

// Run registers the node and runs pods until outer ends; then all of them are killed.
func Run(outer context.Context, cfg *rest.Config, options Options) error {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = 100, 200
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if options.NodeName == "" {
		options.NodeName = "mgmt"
	}
	if options.MountRetryMax == 0 {
		options.MountRetryMax = 2*time.Minute + 2*time.Second
	}
	if options.Address == "" {
		if options.Address, err = addressTowards(cfg.Host); err != nil {
			return err
		}
	}
	for _, dir := range []*string{&options.WorkDir, &options.PlaybooksDir, &options.AnsibleBin} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(options.WorkDir, 0o755); err != nil {
		return err
	}
	r := &Runner{options: options, core: core, pods: map[types.UID]*pod{}}
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	if err := r.serve(ctx, cancel); err != nil {
		return err
	}
	if err := r.register(ctx); err != nil {
		return err
	}
	go r.keepAlive(ctx)
	r.watch(ctx)
	<-ctx.Done()
	r.wait()
	if outer.Err() != nil {
		return nil // asked to end
	}
	return context.Cause(ctx)
}

// addressTowards is the address that this machine uses to reach the API server.
func addressTowards(server string) (string, error) {
	target, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	conn, err := net.Dial("udp", target.Host) // sends nothing
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return net.JoinHostPort(host, kubeletPort), err
}

// serve answers what the API server asks of a kubelet.
func (r *Runner) serve(ctx context.Context, fail context.CancelCauseFunc) error {
	listener, err := net.Listen("tcp", r.options.Address)
	if err != nil {
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	r.host, r.port = address.IP.String(), int32(address.Port)
	certificate, _, err := kubean.SelfSigned(r.host)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", r.serveLog)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("ok"))
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.ServeTLS(listener, "", ""); ctx.Err() == nil {
			fail(err)
		}
	}()
	return nil
}

func (r *Runner) watch(ctx context.Context) {
	source := cache.NewListWatchFromClient(
		r.core.CoreV1().RESTClient(), "pods", r.options.Namespace, fields.Everything())
	informer := cache.NewSharedIndexInformer(source, &corev1.Pod{}, resync, cache.Indexers{})
	seen := func(object any) { r.see(ctx, object.(*corev1.Pod)) }
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: seen, UpdateFunc: func(_, object any) { seen(object) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			r.forget(object.(*corev1.Pod).UID)
		},
	})
	go informer.RunWithContext(ctx)
}

// see starts what is new and passes deletions on to what runs.
func (r *Runner) see(ctx context.Context, object *corev1.Pod) {
	if object.Spec.NodeName == "" {
		if object.DeletionTimestamp == nil {
			r.bind(ctx, object)
		}
		return
	}
	if object.Spec.NodeName != r.options.NodeName {
		return
	}
	r.mu.Lock()
	p := r.pods[object.UID]
	fresh := p == nil
	if fresh {
		p = newPod(r, object)
		r.pods[object.UID] = p
	}
	r.mu.Unlock()
	if fresh {
		go p.run(ctx, object.DeepCopy())
	}
	if object.DeletionTimestamp != nil {
		p.delete(time.Duration(*object.DeletionGracePeriodSeconds) * time.Second)
	}
}

// forget kills what still runs of a pod that the API no longer has.
func (r *Runner) forget(uid types.UID) {
	r.mu.Lock()
	p := r.pods[uid]
	delete(r.pods, uid)
	r.mu.Unlock()
	if p != nil {
		p.delete(0)
	}
}

func (r *Runner) findPod(namespace, name string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		if p.namespace == namespace && p.name == name {
			return p
		}
	}
	return nil
}

func (r *Runner) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		<-p.ended
	}
}
