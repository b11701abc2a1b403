package kubean_test

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
)

// beyond are observations that the conformance list does not repeat.
var beyond = []item{
	{"a creator's entrypoint is used unseen and the label never comes", creatorsEntrypoint},
	{"an entrypoint map of the name is replaced, or stuck if immutable", entrypointIsReplaced},
	{"a hook map called like a built-in volume is not used", hookMapOfATakenName},
	{"a deadline ends the Job and the operation", deadlineFails},
	{"the Job carries exactly what Kubean's does", jobIsExact},
	{"a shell action drops its extra arguments", shellDropsArguments},
}

func creatorsEntrypoint(t *testing.T, w *world) {
	s := w.story(t, "b01")
	s.configMap("b01-script", map[string]string{"entrypoint.sh": "#!/bin/bash\necho mine"}, true)
	op := s.own("b01-op", "")
	op.Spec.Action.Action, op.Spec.EntrypointSHRef = "unknown.yml", ref("b01-script")
	s.create(op)
	s.reaches("b01-op", kubean.Succeeded, 15*time.Second)
	contains(t, s.log("b01-op"), "mine")
	s.within(time.Second, "hasCompleted", func() bool {
		return s.get("b01-op").Labels[kubean.CompletedLabel] == "done"
	})
	equal(t, "clusterName", s.get("b01-op").Labels[kubean.ClusterLabel], "")
}

func entrypointIsReplaced(t *testing.T, w *world) {
	s := w.story(t, "b02")
	old := map[string]string{"entrypoint.sh": "old"}
	s.configMap("b02-a-entrypoint", old, false)
	s.configMap("b02-b-entrypoint", old, true)
	s.create(s.own("b02-a", ""))
	s.create(s.own("b02-b", ""))
	made := s.reaches("b02-a", kubean.Running, time.Second)
	data := s.readMap("b02-a-entrypoint")
	contains(t, data.Data["entrypoint.sh"], "ansible-playbook")
	equal(t, "owner", data.OwnerReferences[0].UID, made.UID)
	s.stuck("b02-b")
}

func hookMapOfATakenName(t *testing.T, w *world) {
	s := w.story(t, "b03")
	s.configMap("hosts-conf", map[string]string{"clean.yml": "[]"}, false)
	s.create(s.withHook(s.own("b03-op", ""), "hosts-conf", "clean.yml"))
	s.reaches("b03-op", kubean.Running, time.Second)
	for _, volume := range s.job("b03-op").Spec.Template.Spec.Volumes {
		if volume.Name == "hosts-conf" {
			equal(t, "map", volume.ConfigMap.Name, "b03-op-h")
		}
	}
}

func deadlineFails(t *testing.T, w *world) {
	s := w.story(t, "b04")
	op := s.own("b04-op", "sleep=60")
	op.Spec.ActiveDeadlineSeconds = ptr.To[int64](3)
	s.create(op)
	s.reaches("b04-op", kubean.Failed, 12*time.Second)
	for _, condition := range s.job("b04-op").Status.Conditions {
		if condition.Type == batchv1.JobFailureTarget {
			equal(t, "reason", condition.Reason, "DeadlineExceeded")
			return
		}
	}
	t.Error("the Job has no failure")
}

func jobIsExact(t *testing.T, w *world) {
	s := w.story(t, "b05")
	s.configMap("b05-pb", map[string]string{"clean.yml": "[]"}, true)
	op := s.withHook(s.own("b05-op", ""), "b05-pb", "clean.yml")
	op.Spec.Image = "registry.example/spray-job"
	op.Annotations = map[string]string{"z": "1"}
	op.Spec.ActiveDeadlineSeconds = ptr.To[int64](7200)
	s.create(op)
	made := s.reaches("b05-op", kubean.Running, time.Second)
	job := s.job("b05-op")
	equal(t, "owner", job.OwnerReferences[0].UID, made.UID)
	equal(t, "controller", *job.OwnerReferences[0].Controller, true)
	equal(t, "annotations of the Job", len(job.Annotations), 0)
	equal(t, "backoffLimit, deadline",
		[]int64{int64(*job.Spec.BackoffLimit), *job.Spec.ActiveDeadlineSeconds}, []int64{0, 7200})
	equal(t, "annotations of the pod", job.Spec.Template.Annotations, map[string]string{"z": "1"})
	pod := job.Spec.Template.Spec
	equal(t, "account", pod.ServiceAccountName, "kubean")
	equal(t, "restart", pod.RestartPolicy, corev1.RestartPolicyNever)
	c := pod.Containers[0]
	equal(t, "container", []any{c.Name, c.Image, c.Command[0], c.ImagePullPolicy}, []any{
		"kubean", "registry.example/spray-job:latest", "/bin/entrypoint.sh", "IfNotPresent",
	})
	equal(t, "resources", c.Resources.Requests.Cpu().String()+c.Resources.Limits.Memory().String(),
		"11Gi")
	equal(t, "env", c.Env[0].Name+"="+c.Env[0].Value+" "+c.Env[1].ValueFrom.ConfigMapKeyRef.Key,
		"CLUSTER_NAME=b05 sk")
	var mounts []string
	for i, mount := range c.VolumeMounts {
		source := pod.Volumes[i].ConfigMap
		mounts = append(mounts, strings.Join([]string{
			mount.Name, mount.MountPath, mount.SubPath, source.Name,
			map[int32]string{0o700: "0700", 0o644: "0644"}[*source.DefaultMode],
		}, " "))
	}
	equal(t, "mounts", strings.Join(mounts, "\n"), strings.Join([]string{
		"entrypoint /bin/entrypoint.sh entrypoint.sh b05-op-entrypoint 0700",
		"hosts-conf /conf/hosts.yml hosts.yml b05-op-h 0644",
		"vars-conf /conf/group_vars.yml group_vars.yml b05-op-v 0644",
		"b05-pb /kubespray/clean.yml clean.yml b05-pb 0700",
	}, "\n"))
}

func shellDropsArguments(t *testing.T, w *world) {
	s := w.story(t, "b06")
	op := s.own("b06-op", "--never-seen")
	op.Spec.ActionType, op.Spec.Action.Action = "shell", "echo $CLUSTER_NAME"
	op.Spec.PreHook = []kubean.Action{
		{ActionType: "playbook", Action: "remove-node.yml", ExtraArgs: "-e node=n2"},
	}
	s.create(op)
	s.reaches("b06-op", kubean.Succeeded, 15*time.Second)
	log := s.log("b06-op")
	contains(t, log, "-e skip_confirmation=true /kubespray/remove-node.yml -e node=n2")
	contains(t, log, "\nb06\n")
	if strings.Contains(log, "never-seen") {
		t.Errorf("the arguments were used:\n%s", log)
	}
}
