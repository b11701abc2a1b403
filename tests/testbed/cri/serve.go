package cri

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"rehull.dev/testbed/podnet"
)

// Socket is where containerd listens.
const Socket = "/run/containerd/containerd.sock"

// Serve runs containerd until it is killed; what it knew before is read back first.
func Serve() error {
	sandboxes, err := load[sandbox]("sandboxes")
	if err != nil {
		return err
	}
	containers, err := load[container]("containers")
	if err != nil {
		return err
	}
	pods, err := podnet.HostRange()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(Socket), 0o711); err != nil {
		return err
	}
	_ = os.Remove(Socket) // left by a containerd that was killed
	listener, err := net.Listen("unix", Socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, &runtime{sandboxes: sandboxes, containers: containers,
		pods: pods, last: pods.Addr()})
	cri.RegisterImageServiceServer(server, &imageStore{pulled: map[string]bool{}})
	return server.Serve(listener)
}

// imageStore pulls whatever it is asked for, at once.
type imageStore struct {
	cri.UnimplementedImageServiceServer
	lock   sync.Mutex
	pulled map[string]bool
}

func imageID(image string) string {
	sum := sha256.Sum256([]byte(image))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(image string) *cri.Image {
	return &cri.Image{Id: imageID(image), RepoTags: []string{image}, Size: 1 << 20,
		Spec: &cri.ImageSpec{Image: image}}
}

func (s *imageStore) ListImages(context.Context, *cri.ListImagesRequest) (
	*cri.ListImagesResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	out := &cri.ListImagesResponse{}
	for image := range s.pulled {
		out.Images = append(out.Images, describe(image))
	}
	return out, nil
}

func (s *imageStore) ImageStatus(_ context.Context, in *cri.ImageStatusRequest) (
	*cri.ImageStatusResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for image := range s.pulled {
		if image == in.Image.Image || imageID(image) == in.Image.Image {
			return &cri.ImageStatusResponse{Image: describe(image)}, nil
		}
	}
	return &cri.ImageStatusResponse{}, nil
}

func (s *imageStore) PullImage(_ context.Context, in *cri.PullImageRequest) (
	*cri.PullImageResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.pulled[in.Image.Image] = true
	return &cri.PullImageResponse{ImageRef: imageID(in.Image.Image)}, nil
}

func (s *imageStore) RemoveImage(_ context.Context, in *cri.RemoveImageRequest) (
	*cri.RemoveImageResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.pulled, in.Image.Image)
	return &cri.RemoveImageResponse{}, nil
}

func (s *imageStore) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (
	*cri.ImageFsInfoResponse, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/var/lib", &fs); err != nil {
		return nil, err
	}
	usage := &cri.FilesystemUsage{Timestamp: time.Now().UnixNano(),
		FsId:       &cri.FilesystemIdentifier{Mountpoint: "/var/lib/containerd"},
		UsedBytes:  &cri.UInt64Value{Value: (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)},
		InodesUsed: &cri.UInt64Value{Value: fs.Files - fs.Ffree}}
	return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{usage},
		ContainerFilesystems: []*cri.FilesystemUsage{usage}}, nil
}
