package cri

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rpcTimeout bounds each call, as in the /etc/crictl.yaml that kubespray writes.
const rpcTimeout = 30 * time.Second

// Crictl is the part of crictl that kubespray's reset and people use. As in crictl 1.28, `-t` before
// the command is the limit of each call, not a container's grace: that is 0, so `stop` kills.
func Crictl(args []string) error {
	limit := rpcTimeout
	if len(args) > 1 && args[0] == "-t" {
		if given, err := time.ParseDuration(args[1]); err == nil {
			limit = given
		}
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
	client := cri.NewRuntimeServiceClient(connection)
	verb, quiet, all := args[0], slices.Contains(args, "-q"), slices.Contains(args, "-a")
	named, err := takeName(&args)
	if err != nil {
		return err
	}
	ids := slices.DeleteFunc(args[1:], func(arg string) bool { return strings.HasPrefix(arg, "-") })
	pods := slices.Contains([]string{"pods", "stopp", "rmp"}, verb)
	if all || verb == "ps" || verb == "pods" {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if ids, err = list(ctx, client, named, pods, all,
			quiet || all && verb != "ps"); err != nil {
			return err
		}
	}
	var failed error
	for _, id := range ids {
		err := one(client, limit, verb, id)
		if err != nil && !strings.HasPrefix(verb, "rm") {
			return err // a removal goes on with the others
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// takeName takes `--name` out of the arguments: an expression that matches some part of a name.
func takeName(args *[]string) (*regexp.Regexp, error) {
	at := slices.Index(*args, "--name")
	if at < 0 || at+1 == len(*args) {
		return regexp.MustCompile(""), nil
	}
	named, err := regexp.Compile((*args)[at+1])
	*args = slices.Delete(*args, at, at+2)
	return named, err
}

func one(client cri.RuntimeServiceClient, limit time.Duration, verb, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	switch verb {
	case "ps", "pods":
		fmt.Println(id)
	case "stop":
		_, err = client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id})
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
		return fmt.Errorf("%s %s: %w", verb, id, err)
	}
	return nil
}

// list returns ids, or lines for people.
func list(ctx context.Context, client cri.RuntimeServiceClient, named *regexp.Regexp,
	pods, all, quiet bool) ([]string, error) {
	var lines []string
	if pods {
		answer, err := client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		for _, pod := range answer.GetItems() {
			if !named.MatchString(pod.Metadata.Name) {
				continue
			}
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
		if !named.MatchString(c.Metadata.Name) {
			continue
		}
		line := c.Id
		if !quiet {
			line = fmt.Sprint(c.Id[:13], "  ", c.State, "  ", c.Metadata.Name, "  ", c.Image.Image)
		}
		lines = append(lines, line)
	}
	return lines, err
}
