package runner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultFileMode is what the API server fills in where a volume names no mode.
const defaultFileMode os.FileMode = 0o644

// mountVolumes writes every ConfigMap and Secret that the pod mounts to files, and says which file
// is seen where. An error means that the pod has to wait. Projected tokens are left out: kubeconfig.yml
// alone talks to the management cluster, and has the machine's own ~/.kube/config for it.
func (r *Runner) mountVolumes(ctx context.Context, pod *corev1.Pod, dir string) ([]mount, error) {
	folders := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		data, mode, err := r.volumeData(ctx, pod.Namespace, &volume)
		if err != nil {
			return nil, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", volume.Name, err)
		}
		if data == nil {
			continue
		}
		folder := filepath.Join(dir, volume.Name)
		if err := writeFiles(folder, data, mode); err != nil {
			return nil, err
		}
		folders[volume.Name] = folder
	}
	var mounts []mount
	for _, wanted := range pod.Spec.Containers[0].VolumeMounts {
		folder, known := folders[wanted.Name]
		if !known {
			continue
		}
		source := filepath.Join(folder, wanted.SubPath)
		if _, err := os.Stat(source); os.IsNotExist(err) {
			// A key that is not there is no error: the kubelet makes an empty directory.
			if err := os.MkdirAll(source, 0o755); err != nil {
				return nil, err
			}
		}
		mounts = append(mounts, mount{source, wanted.MountPath})
	}
	return mounts, nil
}

func (r *Runner) volumeData(
	ctx context.Context, namespace string, volume *corev1.Volume,
) (map[string][]byte, os.FileMode, error) {
	data := map[string][]byte{}
	switch {
	case volume.ConfigMap != nil:
		found, err := r.core.CoreV1().ConfigMaps(namespace).
			Get(ctx, volume.ConfigMap.Name, metav1.GetOptions{})
		if err != nil {
			return nil, 0, err
		}
		for key, text := range found.Data {
			data[key] = []byte(text)
		}
		for key, bytes := range found.BinaryData {
			data[key] = bytes
		}
		return data, fileMode(volume.ConfigMap.DefaultMode), nil
	case volume.Secret != nil:
		found, err := r.core.CoreV1().Secrets(namespace).
			Get(ctx, volume.Secret.SecretName, metav1.GetOptions{})
		if err != nil {
			return nil, 0, err
		}
		return found.Data, fileMode(volume.Secret.DefaultMode), nil
	}
	return nil, 0, nil
}

func fileMode(mode *int32) os.FileMode {
	if mode == nil {
		return defaultFileMode
	}
	return os.FileMode(*mode)
}

func writeFiles(folder string, data map[string][]byte, mode os.FileMode) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for key, bytes := range data {
		path := filepath.Join(folder, key)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, bytes, mode); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// environment resolves the container's variables; an error means that it has to wait.
func (r *Runner) environment(ctx context.Context, pod *corev1.Pod) ([]string, error) {
	env := []string{
		"HOME=/root", "HOSTNAME=" + pod.Name, "LANG=C.UTF-8",
		"PATH=" + r.options.AnsibleBin +
			":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	for _, variable := range pod.Spec.Containers[0].Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil && from.ConfigMapKeyRef != nil {
			found, err := r.core.CoreV1().ConfigMaps(pod.Namespace).
				Get(ctx, from.ConfigMapKeyRef.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			text, known := found.Data[from.ConfigMapKeyRef.Key]
			if !known {
				return nil, fmt.Errorf("couldn't find key %s in ConfigMap %s/%s",
					from.ConfigMapKeyRef.Key, pod.Namespace, found.Name)
			}
			value = text
		}
		env = append(env, variable.Name+"="+value)
	}
	return env, nil
}
