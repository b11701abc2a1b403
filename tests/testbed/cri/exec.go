package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"rehull.dev/testbed/shim"
)

// execDelay bounds the wait for output that a background child of a command holds open.
const execDelay = time.Second

// ExecSync runs a command in a container's namespaces, as exec probes want it.
func (r *runtime) ExecSync(ctx context.Context, in *cri.ExecSyncRequest) (
	*cri.ExecSyncResponse, error) {
	r.lock.Lock()
	c, ok := r.containers[in.ContainerId]
	r.lock.Unlock()
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no container %s", in.ContainerId)
	}
	now := look(c.ID)
	if now.pid == 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s does not run", c.ID)
	}
	if in.Timeout > 0 {
		limit := time.Duration(in.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	line := []string{"--target", fmt.Sprint(now.pid), "--mount", "--net", "--pid", "--"}
	command := exec.CommandContext(ctx, "nsenter", append(line, in.Cmd...)...)
	command.Env = c.Task.Env
	// All of the group: nsenter waits for the command, a child of its own.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = execDelay
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	if ctx.Err() != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "%v did not end within %ds: %v", in.Cmd,
			in.Timeout, ctx.Err())
	}
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, err
	}
	return &cri.ExecSyncResponse{Stdout: out.Bytes(), Stderr: problems.Bytes(),
		ExitCode: int32(shim.ExitCode(command.ProcessState))}, nil
}
