package kubean

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Modes of the files that the pod sees.
const (
	modeProgram int32 = 0o700
	modeKey     int32 = 0o400
)

// configName is the ConfigMap with the operator's settings; keyOfKeys in it is the private key
// for inventory passwords.
const (
	configName = "kubean-config"
	keyOfKeys  = "sk"
)

// createJob starts the Job, or adopts whatever Job already has the name. It looks for it in the
// namespace of the inventory, but always creates it in the operator's.
func (o *Operator) createJob(ctx context.Context, r *run) (outcome, error) {
	if !r.op.Status.JobRef.Empty() {
		return next, nil
	}
	name := "kubean-" + r.op.Name + "-job"
	jobs := o.clients.core.BatchV1().Jobs(r.op.Spec.HostsConfRef.Namespace)
	job, err := jobs.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if job, err = o.newJob(ctx, r.op, name); err != nil {
			return next, err
		}
		job, err = o.clients.core.BatchV1().Jobs(job.Namespace).
			Create(ctx, job, metav1.CreateOptions{})
	}
	if err != nil {
		return next, err
	}
	r.op.Status.JobRef = &Ref{Namespace: job.Namespace, Name: job.Name}
	r.op.Status.StartTime = &metav1.Time{Time: time.Now()}
	r.op.Status.Status = Running
	r.op.Status.Action = r.op.Spec.Action.Action
	return again, o.clients.manager.UpdateOperationStatus(ctx, r.op)
}

func (o *Operator) newJob(ctx context.Context, op *Operation, name string) (*batchv1.Job, error) {
	account, err := o.serviceAccount(ctx)
	if err != nil {
		return nil, err
	}
	noRetry := int32(0)
	pod := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: account,
		Containers: []corev1.Container{o.container(ctx, op)},
	}
	mountMap(&pod, "entrypoint", op.Spec.EntrypointSHRef.Name, "/bin/entrypoint.sh", modeProgram)
	pod.Containers[0].VolumeMounts[0].ReadOnly = true
	mountMap(&pod, "hosts-conf", op.Spec.HostsConfRef.Name, "/conf/hosts.yml", 0)
	mountMap(&pod, "vars-conf", op.Spec.VarsConfRef.Name, "/conf/group_vars.yml", 0)
	if !op.Spec.SSHAuthRef.Empty() {
		mountKey(&pod, op.Spec.SSHAuthRef.Name)
	}
	if err := o.mountActions(ctx, op, &pod); err != nil {
		return nil, err
	}
	template := corev1.PodTemplateSpec{Spec: pod}
	if o.options.Version == N {
		template.Annotations = maps.Clone(op.Annotations)
	}
	job := &batchv1.Job{
		ObjectMeta: o.ownedMeta(op, name),
		Spec:       batchv1.JobSpec{BackoffLimit: &noRetry, Template: template},
	}
	if limit := op.Spec.ActiveDeadlineSeconds; limit != nil && *limit > 0 {
		job.Spec.ActiveDeadlineSeconds = limit
	}
	return job, nil
}

func (o *Operator) serviceAccount(ctx context.Context) (string, error) {
	found, err := o.clients.core.CoreV1().ServiceAccounts(o.options.Namespace).
		List(ctx, metav1.ListOptions{LabelSelector: "kubean.io/kubean-operator=sa"})
	if err != nil {
		return "", err
	}
	if len(found.Items) == 0 {
		return "", errors.New("no service account has the label kubean.io/kubean-operator=sa")
	}
	return found.Items[0].Name, nil
}

func (o *Operator) container(ctx context.Context, op *Operation) corev1.Container {
	made := corev1.Container{
		Name: "kubean", Command: []string{"/bin/entrypoint.sh"}, Image: o.image(ctx, op.Spec.Image),
		Env: []corev1.EnvVar{{Name: "CLUSTER_NAME", Value: op.Spec.Cluster}},
	}
	if o.options.Version == N {
		made.ImagePullPolicy = corev1.PullIfNotPresent
		made.Env = append(made.Env, corev1.EnvVar{
			Name: "VAULT_PRIVATE_KEY",
			ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: configName}, Key: keyOfKeys,
			}},
		})
		made.Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("1"),
				corev1.ResourceMemory: resource.MustParse("200Mi"),
			},
			Limits: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("2"),
				corev1.ResourceMemory: resource.MustParse("1Gi"),
			},
		}
	}
	own := op.Spec.Resources
	if own.Limits != nil || own.Requests != nil || own.Claims != nil {
		made.Resources = own
	}
	return made
}

// image adds a tag where there is no colon at all; a registry's port counts as one.
func (o *Operator) image(ctx context.Context, name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	if tag := o.clients.manifests.imageTag(ctx); tag != "" {
		return name + ":" + tag
	}
	return name + ":latest"
}

// mountActions mounts the playbooks and scripts that come from ConfigMaps. Volumes are named like
// their ConfigMap, so a name that is already taken silently means the other volume.
func (o *Operator) mountActions(ctx context.Context, op *Operation, pod *corev1.PodSpec) error {
	for _, action := range op.Spec.actions() {
		if action.builtin() {
			continue
		}
		ref := action.ActionSourceRef
		if ref.Empty() {
			return fmt.Errorf("%s comes from %q without reference",
				action.Action, *action.ActionSource)
		}
		if ref.Namespace != o.options.Namespace {
			err := o.copyConfigMap(ctx, op, ref, ref.Name)
			if err != nil && !apierrors.IsAlreadyExists(err) {
				return err
			}
		}
		folder := "/kubespray/"
		if action.ActionType == "shell" {
			folder = "/bin/"
		}
		mountMap(pod, ref.Name, ref.Name, folder+action.Action, modeProgram)
	}
	return nil
}

// mountMap mounts the key of a ConfigMap that is called like the file. Mode 0 is the default.
func mountMap(pod *corev1.PodSpec, volume, configMap, path string, mode int32) {
	known := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume
	})
	if !known {
		source := &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: configMap},
		}
		if mode != 0 {
			source.DefaultMode = &mode
		}
		pod.Volumes = append(pod.Volumes, corev1.Volume{
			Name: volume, VolumeSource: corev1.VolumeSource{ConfigMap: source},
		})
	}
	_, file := filepath.Split(path)
	pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts,
		corev1.VolumeMount{Name: volume, MountPath: path, SubPath: file})
}

func mountKey(pod *corev1.PodSpec, secret string) {
	mode := modeKey
	pod.Volumes = append(pod.Volumes, corev1.Volume{
		Name: "ssh-auth",
		VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: &mode},
		},
	})
	pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{
		Name: "ssh-auth", MountPath: "/auth/ssh-privatekey", SubPath: "ssh-privatekey",
		ReadOnly: true,
	})
}
