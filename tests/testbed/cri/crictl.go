package cri

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const callTimeout = 2 * time.Minute

// Crictl is the part of crictl that kubespray's reset and people use.
func Crictl(args []string) error {
	timeout := 0
	if len(args) > 1 && args[0] == "-t" {
		timeout, _ = strconv.Atoi(strings.TrimSuffix(args[1], "s"))
		args = args[2:]
	}
	if len(args) == 0 {
		return fmt.Errorf("say ps, pods, stop, stopp, rm or rmp")
	}
	connection, err := grpc.NewClient("unix://"+Socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	client := cri.NewRuntimeServiceClient(connection)
	verb, quiet, all := args[0], slices.Contains(args, "-q"), slices.Contains(args, "-a")
	ids := slices.DeleteFunc(args[1:], func(arg string) bool { return strings.HasPrefix(arg, "-") })
	pods := slices.Contains([]string{"pods", "stopp", "rmp"}, verb)
	if all || verb == "ps" || verb == "pods" {
		if ids, err = list(ctx, client, pods, all, quiet || all && verb != "ps"); err != nil {
			return err
		}
	}
	for _, id := range ids {
		var err error
		switch verb {
		case "ps", "pods":
			fmt.Println(id)
		case "stop":
			request := &cri.StopContainerRequest{ContainerId: id, Timeout: int64(timeout)}
			_, err = client.StopContainer(ctx, request)
		case "rm":
			_, err = client.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
		case "stopp":
			_, err = client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
		case "rmp":
			_, err = client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
		default:
			err = fmt.Errorf("unknown command %s", verb)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list returns ids, or lines for people.
func list(ctx context.Context, client cri.RuntimeServiceClient, pods, all, quiet bool) (
	[]string, error) {
	var lines []string
	if pods {
		answer, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		for _, pod := range answer.GetItems() {
			line := pod.Id
			if !quiet {
				line = fmt.Sprint(pod.Id[:13], "  ", pod.State, "  ", pod.Metadata.Namespace, "/",
					pod.Metadata.Name)
			}
			lines = append(lines, line)
		}
		return lines, err
	}
	request := &cri.ListContainersRequest{}
	if !all {
		running := &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
		request.Filter = &cri.ContainerFilter{State: running}
	}
	answer, err := client.ListContainers(ctx, request)
	for _, c := range answer.GetContainers() {
		line := c.Id
		if !quiet {
			line = fmt.Sprint(c.Id[:13], "  ", c.State, "  ", c.Metadata.Name, "  ", c.Image.Image)
		}
		lines = append(lines, line)
	}
	return lines, err
}
