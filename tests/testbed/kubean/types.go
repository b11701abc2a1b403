package kubean

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is where Kubean's two kinds live.
var GroupVersion = schema.GroupVersion{Group: "kubean.io", Version: "v1alpha1"}

// Status words of an operation; "" means not started, or stuck.
const (
	Running   = "Running"
	Succeeded = "Succeeded"
	Failed    = "Failed"
)

// Labels and annotations that the operator writes or reads.
const (
	ClusterLabel   = "clusterName"
	CompletedLabel = "hasCompleted"
	ActorNote      = "kubean.io/actor"
	ScoreNote      = "kubean.io/eliminate-score"
)

// Ref names a ConfigMap, Secret or Job.
type Ref struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Empty is true for a reference that is absent or says nothing.
func (r *Ref) Empty() bool { return r == nil || r.Namespace == "" || r.Name == "" }

// Action is a hook, and the shape that the main action shares with hooks.
type Action struct {
	ActionType      string  `json:"actionType"`
	Action          string  `json:"action"`
	ActionSource    *string `json:"actionSource"`
	ActionSourceRef *Ref    `json:"actionSourceRef,omitempty"`
	// ExtraArgs is written even when empty: that is why an accepted operation reads back with it.
	ExtraArgs string `json:"extraArgs"`
}

// builtin is what an absent source means; any other word means a ConfigMap.
func (a *Action) builtin() bool { return a.ActionSource == nil || *a.ActionSource == "builtin" }

// OperationSpec is what the creator asks for, plus what the operator fills in.
type OperationSpec struct {
	Action                `json:",inline"`
	Cluster               string                      `json:"cluster"`
	Image                 string                      `json:"image"`
	HostsConfRef          *Ref                        `json:"hostsConfRef,omitempty"`
	VarsConfRef           *Ref                        `json:"varsConfRef,omitempty"`
	SSHAuthRef            *Ref                        `json:"sshAuthRef,omitempty"`
	EntrypointSHRef       *Ref                        `json:"entrypointSHRef,omitempty"`
	PreHook               []Action                    `json:"preHook,omitempty"`
	PostHook              []Action                    `json:"postHook,omitempty"`
	Resources             corev1.ResourceRequirements `json:"resources"`
	ActiveDeadlineSeconds *int64                      `json:"activeDeadlineSeconds,omitempty"`
}

// actions lists hooks and main action in the order in which they run.
func (s *OperationSpec) actions() []*Action {
	var all []*Action
	for i := range s.PreHook {
		all = append(all, &s.PreHook[i])
	}
	all = append(all, &s.Action)
	for i := range s.PostHook {
		all = append(all, &s.PostHook[i])
	}
	return all
}

// OperationStatus is the operator's account; nobody checks it against the world.
type OperationStatus struct {
	Action      string       `json:"action"`
	Status      string       `json:"status"`
	JobRef      *Ref         `json:"jobRef,omitempty"`
	StartTime   *metav1.Time `json:"startTime,omitempty"`
	EndTime     *metav1.Time `json:"endTime,omitempty"`
	Digest      string       `json:"digest,omitempty"`
	HasModified bool         `json:"hasModified,omitempty"`
}

// Operation is a ClusterOperation.
type Operation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              OperationSpec   `json:"spec"`
	Status            OperationStatus `json:"status,omitempty"`
}

func (op *Operation) terminal() bool {
	return op.Status.Status == Succeeded || op.Status.Status == Failed
}

// OperationList is what listing operations returns.
type OperationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Operation `json:"items"`
}

// ClusterSpec names what a cluster was built from.
type ClusterSpec struct {
	HostsConfRef *Ref `json:"hostsConfRef"`
	VarsConfRef  *Ref `json:"varsConfRef"`
	KubeConfRef  *Ref `json:"kubeconfRef,omitempty"`
	PreCheckRef  *Ref `json:"preCheckRef,omitempty"`
	SSHAuthRef   *Ref `json:"sshAuthRef,omitempty"`
}

// Condition is one labelled operation as its Cluster shows it.
type Condition struct {
	ClusterOps string       `json:"clusterOps"`
	Status     string       `json:"status"`
	StartTime  *metav1.Time `json:"startTime,omitempty"`
	EndTime    *metav1.Time `json:"endTime,omitempty"`
}

// ClusterStatus holds the conditions, refreshed by the cluster cycle.
type ClusterStatus struct {
	Conditions []Condition `json:"conditions"`
}

// Cluster is one cluster built by Kubean.
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClusterSpec   `json:"spec"`
	Status            ClusterStatus `json:"status,omitempty"`
}

// ClusterList is what listing clusters returns.
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cluster `json:"items"`
}

// DeepCopyObject makes the type usable with client-go.
func (op *Operation) DeepCopyObject() runtime.Object { return copyOf(op) }

// DeepCopyObject makes the type usable with client-go.
func (l *OperationList) DeepCopyObject() runtime.Object { return copyOf(l) }

// DeepCopyObject makes the type usable with client-go.
func (c *Cluster) DeepCopyObject() runtime.Object { return copyOf(c) }

// DeepCopyObject makes the type usable with client-go.
func (l *ClusterList) DeepCopyObject() runtime.Object { return copyOf(l) }

// copyOf goes through JSON: these objects are small and came from JSON.
func copyOf[T any](in *T) *T {
	out := new(T)
	text, err := json.Marshal(in)
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		panic("kubean: an object that came from JSON does not go back: " + err.Error())
	}
	return out
}
