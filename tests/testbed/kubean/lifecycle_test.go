package kubean_test

import (
	"testing"
	"time"

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
	contains(t, s.log("c01-op"), "ansible-playbook -i /dev/fd/200 -b --become-user root "+
		"-e @/conf/group_vars.yml /kubespray/ping.yml")
}
