package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"rehull.dev/testbed/podnet"
	"rehull.dev/testbed/shim"
)

// runtime answers the calls that a kubelet makes; the others say Unimplemented.
type runtime struct {
	cri.UnimplementedRuntimeServiceServer
	lock       sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
	pods       netip.Prefix // the node's range of pod addresses
	last       netip.Addr   // the one that was given last
}

func newID() string {
	var raw [32]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

func (r *runtime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "containerd",
		RuntimeVersion: "v1.7.5", RuntimeApiVersion: "v1"}, nil
}

func (r *runtime) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	network := &cri.RuntimeCondition{Type: "NetworkReady", Status: true}
	if files, _ := filepath.Glob("/etc/cni/net.d/*.conf*"); len(files) == 0 {
		network.Status, network.Reason = false, "NetworkPluginNotReady"
		network.Message = "Network plugin returns error: cni plugin not initialized"
	}
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
		{Type: "RuntimeReady", Status: true}, network}}}, nil
}

func (r *runtime) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (
	*cri.RuntimeConfigResponse, error) {
	linux := &cri.LinuxRuntimeConfiguration{CgroupDriver: cri.CgroupDriver_SYSTEMD}
	return &cri.RuntimeConfigResponse{Linux: linux}, nil
}

func (r *runtime) UpdateRuntimeConfig(context.Context, *cri.UpdateRuntimeConfigRequest) (
	*cri.UpdateRuntimeConfigResponse, error) {
	return &cri.UpdateRuntimeConfigResponse{}, nil
}

func (r *runtime) RunPodSandbox(_ context.Context, in *cri.RunPodSandboxRequest) (
	*cri.RunPodSandboxResponse, error) {
	config, meta := in.Config, in.Config.Metadata
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	s := &sandbox{ID: newID(), Name: meta.Name, UID: meta.Uid, Namespace: meta.Namespace,
		Attempt: meta.Attempt, Labels: config.Labels, Annotations: config.Annotations,
		LogDirectory: config.LogDirectory, Created: time.Now(),
		HostNetwork: options.GetNetwork() == cri.NamespaceMode_NODE}
	if err := writeResolver(s.ID, config.DnsConfig); err != nil {
		return nil, err
	}
	if !s.HostNetwork {
		if err := r.attach(s); err != nil {
			return nil, err
		}
	}
	if err := startShim(s.ID, s.network()); err != nil {
		return nil, errors.Join(err, podnet.Detach(s.ID))
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.sandboxes[s.ID] = s
	return &cri.RunPodSandboxResponse{PodSandboxId: s.ID}, save("sandboxes", s.ID, s)
}

// attach gives a pod a network of its own, one pod after the other: a card is what takes an address.
func (r *runtime) attach(s *sandbox) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	address, err := podnet.Free(r.pods, r.last)
	if err != nil {
		return err
	}
	r.last, s.IP = address, address.String()
	return podnet.Attach(s.ID, address)
}

func (r *runtime) StopPodSandbox(ctx context.Context, in *cri.StopPodSandboxRequest) (
	*cri.StopPodSandboxResponse, error) {
	for _, c := range r.of(in.PodSandboxId) {
		if err := end(ctx, c.ID, 0); err != nil {
			return nil, err
		}
	}
	if err := end(ctx, in.PodSandboxId, 0); err != nil {
		return nil, err
	}
	_ = ask(in.PodSandboxId, shim.Task{}) // a shim that is gone needs no order
	return &cri.StopPodSandboxResponse{}, podnet.Detach(in.PodSandboxId)
}

func (r *runtime) RemovePodSandbox(ctx context.Context, in *cri.RemovePodSandboxRequest) (
	*cri.RemovePodSandboxResponse, error) {
	stop := &cri.StopPodSandboxRequest{PodSandboxId: in.PodSandboxId}
	if _, err := r.StopPodSandbox(ctx, stop); err != nil {
		return nil, err
	}
	for _, c := range r.of(in.PodSandboxId) {
		remove := &cri.RemoveContainerRequest{ContainerId: c.ID}
		if _, err := r.RemoveContainer(ctx, remove); err != nil {
			return nil, err
		}
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	delete(r.sandboxes, in.PodSandboxId)
	forget("sandboxes", in.PodSandboxId)
	_ = os.RemoveAll(sandboxDir(in.PodSandboxId))
	return &cri.RemovePodSandboxResponse{}, nil
}

func (r *runtime) of(sandbox string) []*container {
	r.lock.Lock()
	defer r.lock.Unlock()
	var found []*container
	for _, c := range r.containers {
		if c.Sandbox == sandbox {
			found = append(found, c)
		}
	}
	return found
}

func (r *runtime) CreateContainer(_ context.Context, in *cri.CreateContainerRequest) (
	*cri.CreateContainerResponse, error) {
	config := in.Config
	r.lock.Lock()
	defer r.lock.Unlock()
	s, ok := r.sandboxes[in.PodSandboxId]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no sandbox %s", in.PodSandboxId)
	}
	var env []string
	for _, pair := range config.Envs {
		env = append(env, pair.Key+"="+pair.Value)
	}
	c := &container{ID: newID(), Sandbox: s.ID, Name: config.Metadata.Name,
		Attempt: config.Metadata.Attempt, Image: config.Image.GetImage(), Labels: config.Labels,
		Annotations: config.Annotations, Created: time.Now()}
	if image := config.Image.GetUserSpecifiedImage(); image != "" {
		c.Image = image
	}
	c.Task = program(c.ID, c.Image, append(config.Command, config.Args...), env)
	c.Task.Network, c.Task.Mounts = s.network(), mounts(s.ID, config.Mounts)
	if config.LogPath != "" && s.LogDirectory != "" {
		c.Log = filepath.Join(s.LogDirectory, config.LogPath)
		c.Task.Log = c.Log
	}
	r.containers[c.ID] = c
	return &cri.CreateContainerResponse{ContainerId: c.ID}, save("containers", c.ID, c)
}

func (r *runtime) StartContainer(_ context.Context, in *cri.StartContainerRequest) (
	*cri.StartContainerResponse, error) {
	r.lock.Lock()
	c, ok := r.containers[in.ContainerId]
	r.lock.Unlock()
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no container %s", in.ContainerId)
	}
	if err := ask(c.Sandbox, c.Task); err != nil {
		return nil, err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	c.Started = time.Now()
	return &cri.StartContainerResponse{}, save("containers", c.ID, c)
}

func (r *runtime) StopContainer(ctx context.Context, in *cri.StopContainerRequest) (
	*cri.StopContainerResponse, error) {
	grace := time.Duration(in.Timeout) * time.Second
	return &cri.StopContainerResponse{}, end(ctx, in.ContainerId, grace)
}

func (r *runtime) RemoveContainer(ctx context.Context, in *cri.RemoveContainerRequest) (
	*cri.RemoveContainerResponse, error) {
	if err := end(ctx, in.ContainerId, 0); err != nil {
		return nil, err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	delete(r.containers, in.ContainerId)
	forget("containers", in.ContainerId)
	return &cri.RemoveContainerResponse{}, nil
}

func (r *runtime) ReopenContainerLog(context.Context, *cri.ReopenContainerLogRequest) (
	*cri.ReopenContainerLogResponse, error) {
	return &cri.ReopenContainerLogResponse{}, nil // logs are too short to be rotated
}

func (r *runtime) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest) (
	*cri.ListPodSandboxStatsResponse, error) {
	return &cri.ListPodSandboxStatsResponse{}, nil
}

func (r *runtime) ListContainerStats(context.Context, *cri.ListContainerStatsRequest) (
	*cri.ListContainerStatsResponse, error) {
	return &cri.ListContainerStatsResponse{}, nil
}
