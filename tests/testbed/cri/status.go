package cri

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (s *sandbox) state() cri.PodSandboxState {
	if look(s.ID).pid != 0 {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

func (s *sandbox) metadata() *cri.PodSandboxMetadata {
	return &cri.PodSandboxMetadata{Name: s.Name, Uid: s.UID, Namespace: s.Namespace,
		Attempt: s.Attempt}
}

func (c *container) metadata() *cri.ContainerMetadata {
	return &cri.ContainerMetadata{Name: c.Name, Attempt: c.Attempt}
}

func (c *container) state() (cri.ContainerState, process) {
	now := look(c.ID)
	switch {
	case now.exited != nil:
		return cri.ContainerState_CONTAINER_EXITED, now
	case now.pid != 0:
		return cri.ContainerState_CONTAINER_RUNNING, now
	}
	return cri.ContainerState_CONTAINER_CREATED, now
}

func matches(labels, selector map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func (r *runtime) PodSandboxStatus(_ context.Context, in *cri.PodSandboxStatusRequest) (
	*cri.PodSandboxStatusResponse, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	s, ok := r.sandboxes[in.PodSandboxId]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no sandbox %s", in.PodSandboxId)
	}
	mode := cri.NamespaceMode_POD
	network := &cri.PodSandboxNetworkStatus{Ip: s.IP}
	if s.HostNetwork {
		mode, network = cri.NamespaceMode_NODE, &cri.PodSandboxNetworkStatus{}
	}
	linux := &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{
		Options: &cri.NamespaceOption{Network: mode}}}
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Id: s.ID,
		Metadata: s.metadata(), State: s.state(), CreatedAt: s.Created.UnixNano(),
		Network: network, Linux: linux, Labels: s.Labels, Annotations: s.Annotations}}, nil
}

func (r *runtime) ListPodSandbox(_ context.Context, in *cri.ListPodSandboxRequest) (
	*cri.ListPodSandboxResponse, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	out, filter := &cri.ListPodSandboxResponse{}, in.Filter
	for _, s := range r.sandboxes {
		state := s.state()
		if filter.GetId() != "" && filter.Id != s.ID ||
			filter.GetState() != nil && filter.State.State != state ||
			!matches(s.Labels, filter.GetLabelSelector()) {
			continue
		}
		out.Items = append(out.Items, &cri.PodSandbox{Id: s.ID, Metadata: s.metadata(),
			State: state, CreatedAt: s.Created.UnixNano(), Labels: s.Labels,
			Annotations: s.Annotations})
	}
	return out, nil
}

func (r *runtime) ListContainers(_ context.Context, in *cri.ListContainersRequest) (
	*cri.ListContainersResponse, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	out, filter := &cri.ListContainersResponse{}, in.Filter
	for _, c := range r.containers {
		state, _ := c.state()
		if filter.GetId() != "" && filter.Id != c.ID ||
			filter.GetPodSandboxId() != "" && filter.PodSandboxId != c.Sandbox ||
			filter.GetState() != nil && filter.State.State != state ||
			!matches(c.Labels, filter.GetLabelSelector()) {
			continue
		}
		out.Containers = append(out.Containers, &cri.Container{Id: c.ID, PodSandboxId: c.Sandbox,
			Metadata: c.metadata(), Image: &cri.ImageSpec{Image: c.Image},
			ImageRef: imageID(c.Image), ImageId: imageID(c.Image), State: state,
			CreatedAt: c.Created.UnixNano(), Labels: c.Labels, Annotations: c.Annotations})
	}
	return out, nil
}

func (r *runtime) ContainerStatus(_ context.Context, in *cri.ContainerStatusRequest) (
	*cri.ContainerStatusResponse, error) {
	r.lock.Lock()
	defer r.lock.Unlock()
	c, ok := r.containers[in.ContainerId]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no container %s", in.ContainerId)
	}
	state, now := c.state()
	answer := &cri.ContainerStatus{Id: c.ID, Metadata: c.metadata(), State: state,
		CreatedAt: c.Created.UnixNano(), Image: &cri.ImageSpec{Image: c.Image},
		ImageRef: imageID(c.Image), ImageId: imageID(c.Image), Labels: c.Labels,
		Annotations: c.Annotations, LogPath: c.Log}
	if state != cri.ContainerState_CONTAINER_CREATED {
		answer.StartedAt = c.Started.UnixNano()
	}
	if now.exited != nil {
		answer.FinishedAt, answer.ExitCode = now.exited.At.UnixNano(), int32(now.exited.Code)
		answer.Reason = "Completed"
		if answer.ExitCode != 0 {
			answer.Reason = "Error"
		}
	}
	return &cri.ContainerStatusResponse{Status: answer}, nil
}
