package kubean

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Client reads and writes Kubean's kinds.
type Client struct{ rest.Interface }

// NewClient connects to Kubean's API group with the rate limits that cfg says.
func NewClient(cfg *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(GroupVersion.WithKind("ClusterOperation"), &Operation{})
	scheme.AddKnownTypeWithName(GroupVersion.WithKind("ClusterOperationList"), &OperationList{})
	scheme.AddKnownTypeWithName(GroupVersion.WithKind("Cluster"), &Cluster{})
	scheme.AddKnownTypeWithName(GroupVersion.WithKind("ClusterList"), &ClusterList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion = "/apis", &GroupVersion
	codecs := serializer.NewCodecFactory(scheme)
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	client, err := rest.RESTClientFor(cfg)
	return &Client{client}, err
}

// GetOperation reads one operation.
func (c *Client) GetOperation(ctx context.Context, name string) (*Operation, error) {
	op := &Operation{}
	return op, c.Get().Resource("clusteroperations").Name(name).Do(ctx).Into(op)
}

// ListOperations reads the operations that the label selector picks ("" for all).
func (c *Client) ListOperations(ctx context.Context, selector string) ([]Operation, error) {
	list := &OperationList{}
	err := c.Get().Resource("clusteroperations").
		VersionedParams(&metav1.ListOptions{LabelSelector: selector}, metav1.ParameterCodec).
		Do(ctx).Into(list)
	return list.Items, err
}

// CreateOperation creates the operation and returns what the server made of it.
func (c *Client) CreateOperation(
	ctx context.Context, op *Operation, options metav1.CreateOptions,
) (*Operation, error) {
	made := &Operation{}
	err := c.Post().Resource("clusteroperations").
		VersionedParams(&options, metav1.ParameterCodec).Body(op).Do(ctx).Into(made)
	return made, err
}

// UpdateOperation writes everything but the status; op becomes what the server returned, so what
// was only changed in memory and not accepted (labels, in a status write) is forgotten.
func (c *Client) UpdateOperation(ctx context.Context, op *Operation) error {
	return c.putOperation(ctx, op)
}

// UpdateOperationStatus writes the status only; see UpdateOperation.
func (c *Client) UpdateOperationStatus(ctx context.Context, op *Operation) error {
	return c.putOperation(ctx, op, "status")
}

func (c *Client) putOperation(ctx context.Context, op *Operation, sub ...string) error {
	fresh := &Operation{}
	err := c.Put().Resource("clusteroperations").Name(op.Name).SubResource(sub...).Body(op).
		Do(ctx).Into(fresh)
	if err == nil {
		*op = *fresh
	}
	return err
}

// DeleteOperation deletes one operation.
func (c *Client) DeleteOperation(
	ctx context.Context, name string, options metav1.DeleteOptions,
) error {
	return c.Delete().Resource("clusteroperations").Name(name).Body(&options).Do(ctx).Error()
}

// GetCluster reads one cluster.
func (c *Client) GetCluster(ctx context.Context, name string) (*Cluster, error) {
	cluster := &Cluster{}
	return cluster, c.Get().Resource("clusters").Name(name).Do(ctx).Into(cluster)
}

// CreateCluster creates a cluster.
func (c *Client) CreateCluster(ctx context.Context, cluster *Cluster) (*Cluster, error) {
	made := &Cluster{}
	return made, c.Post().Resource("clusters").Body(cluster).Do(ctx).Into(made)
}

// imageTag is what Kubean's own manifest says about the image's version, "" if there is none.
func (c *Client) imageTag(ctx context.Context) string {
	var manifest struct {
		Spec struct{ KubeanVersion string }
	}
	raw, err := c.Get().Resource("manifests").Name("manifest-global").Do(ctx).Raw()
	if err != nil || json.Unmarshal(raw, &manifest) != nil {
		return ""
	}
	return manifest.Spec.KubeanVersion
}

// clients are the operator's connections. They are several because their rate limits are: the
// manager's may do 100 requests a second, each other only client-go's default, and that is what
// makes the operator slow when many operations run.
type clients struct {
	manager    *Client              // reads of the cache, writes of operations and clusters
	clusters   *Client              // reads of clusters
	operations *Client              // lists and deletions by the cluster cycle
	manifests  *Client              // the image's tag
	core       kubernetes.Interface // ConfigMaps, Secrets, Pods, Jobs, leases
}

func newClients(cfg *rest.Config, options *Options) (*clients, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Impersonate.UserName = fmt.Sprintf("system:serviceaccount:%s:kubean", options.Namespace)
	cfg.Impersonate.Groups = []string{
		"system:serviceaccounts", "system:serviceaccounts:" + options.Namespace,
		"system:authenticated",
	}
	manager := rest.CopyConfig(cfg)
	manager.QPS, manager.Burst = 100, 100
	cfg.QPS, cfg.Burst = options.APIRate, options.APIBurst
	made := &clients{}
	var err error
	for _, part := range []struct {
		client **Client
		cfg    *rest.Config
	}{
		{&made.manager, manager}, {&made.clusters, cfg}, {&made.operations, cfg},
		{&made.manifests, cfg},
	} {
		if *part.client, err = NewClient(part.cfg); err != nil {
			return nil, err
		}
	}
	made.core, err = kubernetes.NewForConfig(cfg)
	return made, err
}
