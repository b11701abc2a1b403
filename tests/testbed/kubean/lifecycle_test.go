package kubean_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rehull.dev/testbed/kubean"
)

func ownRefsRunAtOnce(t *testing.T, w *world) {
	s := w.story(t, "c01")
	s.create(s.own("c01-op", ""))
	op := s.reaches("c01-op", kubean.Running, time.Second)
	equal(t, "job", op.Status.JobRef.Name, jobName("c01-op"))
	equal(t, "action", op.Status.Action, "ping.yml")
	if op.Status.StartTime == nil {
		t.Error("no startTime")
	}
	s.reaches("c01-op", kubean.Succeeded, 12*time.Second)
	log := s.log("c01-op")
	contains(t, log, "ansible-playbook -i /dev/fd/200 -b --become-user root "+
		"-e @/conf/group_vars.yml /kubespray/ping.yml")
	contains(t, log, "all: {own: 1}")
}

func acceptedSpecIsFilled(t *testing.T, w *world) {
	s := w.story(t, "c02")
	sent := `{"apiVersion": "kubean.io/v1alpha1", "kind": "ClusterOperation",
		"metadata": {"name": "c02-op"},
		"spec": {"cluster": "c02", "image": "registry.example/spray-job:v0.12.2",
			"actionType": "playbook", "action": "ping.yml",
			"preHook": [{"actionType": "playbook", "action": "facts.yml"}]}}`
	must(t, s.client.Post().Resource("clusteroperations").SetHeader("Content-Type",
		"application/json").Body([]byte(sent)).Do(s.ctx).Error())
	op := s.reaches("c02-op", kubean.Running, 3*time.Second)
	raw, err := s.client.Get().Resource("clusteroperations").Name("c02-op").DoRaw(s.ctx)
	must(t, err)
	var read struct{ Spec map[string]any }
	must(t, json.Unmarshal(raw, &read))
	equal(t, "resources", read.Spec["resources"], map[string]any{})
	equal(t, "extraArgs", read.Spec["extraArgs"], "")
	equal(t, "actionSource", read.Spec["actionSource"], "builtin")
	hook := read.Spec["preHook"].([]any)[0].(map[string]any)
	equal(t, "extraArgs of the hook", hook["extraArgs"], "")
	equal(t, "actionSource of the hook", hook["actionSource"], "builtin")
	equal(t, "entrypoint", op.Spec.EntrypointSHRef.Name, "c02-op-entrypoint")
	if op.Generation < 2 {
		t.Errorf("generation %d", op.Generation)
	}
}

func statusComesInSteps(t *testing.T, w *world) {
	s := w.story(t, "c03")
	seen := s.follow("c03-op")
	raw, err := s.client.Post().Resource("clusteroperations").Body(s.own("c03-op", "")).
		SetHeader("Accept", "application/json").DoRaw(s.ctx)
	must(t, err)
	if !strings.Contains(string(raw), `"status":{"action":"","status":""}`) &&
		strings.Contains(string(raw), `"digest"`) {
		t.Errorf("a status from the start: %s", raw)
	}
	var steps []string
	for _, op := range seen.until(t, isRunning) {
		step := "nothing"
		if op.Status.Digest != "" {
			step = "digest " + op.Status.Status
		}
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	equal(t, "steps", strings.Join(steps, ", "), "nothing, digest , digest Running")
}

func labelComesWithEntrypoint(t *testing.T, w *world) {
	s := w.story(t, "c04")
	seen := s.follow("c04-op")
	s.create(s.own("c04-op", ""))
	for _, op := range seen.until(t, isRunning) {
		labelled := op.Labels[kubean.ClusterLabel] == "c04"
		if labelled != (op.Spec.EntrypointSHRef != nil) {
			t.Errorf("labels %v with entrypoint %v", op.Labels, op.Spec.EntrypointSHRef)
		}
	}
}

func missingRefsAreCopied(t *testing.T, w *world) {
	s := w.story(t, "c05")
	seen := s.follow("c05-op")
	s.create(s.bare("c05-op", ""))
	var steps []string
	last := int64(0)
	for _, op := range seen.until(t, isRunning) {
		if op.Generation == last {
			continue
		}
		last = op.Generation
		step := ""
		for _, ref := range []*kubean.Ref{
			op.Spec.HostsConfRef, op.Spec.VarsConfRef, op.Spec.EntrypointSHRef,
		} {
			step += map[bool]string{true: "-", false: "+"}[ref == nil]
		}
		steps = append(steps, step)
	}
	equal(t, "writes of refs", strings.Join(steps, " "), "--- +-- ++- +++")
	op := s.get("c05-op")
	name := op.Spec.HostsConfRef.Name
	if !regexp.MustCompile(`^c05-hosts-\d{13}$`).MatchString(name) {
		t.Errorf("copy is called %s", name)
	}
	made := s.readMap(name)
	equal(t, "owner", made.OwnerReferences[0].UID, op.UID)
	equal(t, "controller", *made.OwnerReferences[0].Controller, true)
	equal(t, "labels", len(made.Labels), 0)
}

func ownMapsGetTheOwner(t *testing.T, w *world) {
	s := w.story(t, "c06")
	op := s.withHook(s.own("c06-op", ""), "c06-pb", "clean.yml")
	s.configMap("c06-pb", map[string]string{"clean.yml": "[]"}, true)
	s.create(op)
	made := s.reaches("c06-op", kubean.Running, time.Second)
	for _, name := range []string{"c06-op-h", "c06-op-v", "c06-pb"} {
		data := s.readMap(name)
		equal(t, "owners of "+name, len(data.OwnerReferences), 1)
		equal(t, "owner of "+name, data.OwnerReferences[0].UID, made.UID)
		if data.OwnerReferences[0].Controller != nil {
			t.Errorf("%s has a controller", name)
		}
	}
}

// withHook adds a post hook whose playbook comes from a ConfigMap.
func (s *story) withHook(op *kubean.Operation, configMap, playbook string) *kubean.Operation {
	op.Spec.PostHook = append(op.Spec.PostHook, kubean.Action{
		ActionType: "playbook", Action: playbook, ActionSource: ptr.To("configmap"),
		ActionSourceRef: ref(configMap),
	})
	return op
}

func sharedHookDiesWithTheLast(t *testing.T, w *world) {
	s := w.story(t, "c07")
	s.configMap("c07-pb", map[string]string{"clean.yml": "[]"}, true)
	for _, name := range []string{"c07-a", "c07-b"} {
		s.create(s.withHook(s.own(name, ""), "c07-pb", "clean.yml"))
		s.reaches(name, kubean.Running, time.Second)
	}
	must(t, s.client.DeleteOperation(s.ctx, "c07-a", metav1.DeleteOptions{}))
	s.within(3*time.Second, "a's own map goes", func() bool { return !s.mapExists("c07-a-h") })
	s.stays(3*time.Second, "the shared map is there", func() bool { return s.mapExists("c07-pb") })
	must(t, s.client.DeleteOperation(s.ctx, "c07-b", metav1.DeleteOptions{}))
	s.within(5*time.Second, "the shared map goes", func() bool { return !s.mapExists("c07-pb") })
}

func clusterKeyIsCopiedAndUsed(t *testing.T, w *world) {
	s := w.blank(t, "c08")
	_, err := s.Core.CoreV1().Secrets(space).Create(s.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "c08-key"},
		Data:       map[string][]byte{"ssh-privatekey": []byte("key")},
	}, metav1.CreateOptions{})
	must(t, err)
	s.makeCluster(ref("c08-key"))
	op := s.bare("c08-op", "")
	op.Spec.PreHook = []kubean.Action{
		{ActionType: "shell", Action: "stat -L -c 'mode %a' /auth/ssh-privatekey"},
		{ActionType: "playbook", Action: "facts.yml"},
	}
	s.create(op)
	op = s.reaches("c08-op", kubean.Succeeded, 12*time.Second)
	if !regexp.MustCompile(`^c08-key-\d{13}$`).MatchString(op.Spec.SSHAuthRef.Name) {
		t.Errorf("copy is called %s", op.Spec.SSHAuthRef.Name)
	}
	job := s.job("c08-op")
	volumes := job.Spec.Template.Spec.Volumes
	equal(t, "mode", *volumes[len(volumes)-1].Secret.DefaultMode, 0o400)
	log := s.log("c08-op")
	contains(t, log, "mode 400")
	equal(t, "lines with the key",
		strings.Count(log, "--private-key /auth/ssh-privatekey /kubespray/"), 2)
}

func (s *story) job(op string) *batchv1.Job {
	s.t.Helper()
	job, err := s.Core.BatchV1().Jobs(space).Get(s.ctx, jobName(op), metav1.GetOptions{})
	must(s.t, err)
	return job
}

func actorComesWithThePod(t *testing.T, w *world) {
	s := w.story(t, "c09")
	s.create(s.own("c09-op", "sleep=9"))
	s.within(10*time.Second, "the pod runs", func() bool { return s.podRuns("c09-op") })
	s.within(6*time.Second, "the actor is named", func() bool {
		return s.get("c09-op").Annotations[kubean.ActorNote] == s.pod("c09-op").Name
	})
}

func completeBecomesSucceeded(t *testing.T, w *world) {
	s := w.story(t, "c10")
	s.create(s.own("c10-op", "sleep=1"))
	s.within(15*time.Second, "the Job ends", func() bool {
		return s.jobExists("c10-op") && s.job("c10-op").Status.CompletionTime != nil
	})
	op := s.reaches("c10-op", kubean.Succeeded, 5*time.Second)
	equal(t, "end", op.Status.EndTime.UTC(), s.job("c10-op").Status.CompletionTime.UTC())
	s.within(time.Second, "hasCompleted", func() bool {
		return s.get("c10-op").Labels[kubean.CompletedLabel] == "done"
	})
}

func failedJobBecomesFailed(t *testing.T, w *world) {
	s := w.story(t, "c11")
	s.create(s.own("c11-op", "rc=3"))
	var failed time.Time
	s.within(15*time.Second, "the Job fails", func() bool {
		if !s.jobExists("c11-op") {
			return false
		}
		for _, condition := range s.job("c11-op").Status.Conditions {
			if condition.Type == batchv1.JobFailed {
				failed = condition.LastTransitionTime.Time
			}
		}
		return !failed.IsZero()
	})
	op := s.reaches("c11-op", kubean.Failed, 5*time.Second)
	if op.Status.EndTime.Time.Before(failed) {
		t.Errorf("ended %v, the Job failed %v", op.Status.EndTime, failed)
	}
	pod := s.pod("c11-op")
	equal(t, "exit code", pod.Status.ContainerStatuses[0].State.Terminated.ExitCode, 3)
}

func deletedJobBecomesFailed(t *testing.T, w *world) {
	s := w.story(t, "c12")
	s.create(s.own("c12-op", "sleep=30"))
	s.within(10*time.Second, "the pod runs", func() bool { return s.podRuns("c12-op") })
	must(t, s.Core.BatchV1().Jobs(space).Delete(s.ctx, jobName("c12-op"), metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	}))
	op := s.reaches("c12-op", kubean.Failed, 5*time.Second)
	if op.Status.EndTime == nil {
		t.Error("no endTime")
	}
}

func suspendedJobBecomesFailed(t *testing.T, w *world) {
	s := w.story(t, "c13")
	s.create(s.own("c13-op", "sleep=30"))
	s.within(10*time.Second, "the pod runs", func() bool { return s.podRuns("c13-op") })
	_, err := s.Core.BatchV1().Jobs(space).Patch(s.ctx, jobName("c13-op"),
		"application/merge-patch+json", []byte(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
	must(t, err)
	s.reaches("c13-op", kubean.Failed, 8*time.Second)
}

func terminalIsFinal(t *testing.T, w *world) {
	s := w.story(t, "c14")
	s.create(s.own("c14-op", ""))
	s.within(15*time.Second, "it completes", func() bool {
		return s.get("c14-op").Labels[kubean.CompletedLabel] == "done"
	})
	edited := s.edit("c14-op", func(op *kubean.Operation) {
		op.Spec.Image, op.Spec.Action.Action = "other:1", "facts.yml"
		op.Labels, op.Annotations = nil, nil
	})
	s.stays(8*time.Second, "nobody else writes it", func() bool {
		return s.get("c14-op").ResourceVersion == edited.ResourceVersion
	})
}
