// Command kubean plays Kubean's operator, its admission webhook and the kubelet that runs the
// pods of its Jobs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"rehull.dev/testbed/kubean"
	"rehull.dev/testbed/kubean/runner"
)

func main() {
	runner.Main()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kubean:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var options kubean.Options
	var pods runner.Options
	kubeconfig := flag.String("kubeconfig", "", "administrator's kubeconfig of the cluster")
	namespace := flag.String("namespace", "kubean-system", "namespace of Kubean")
	version := flag.String("version", "N", "N: v0.37.0 line, O: v0.12.2")
	parts := flag.String("parts", "install,operator,webhook,kubelet", "what this process plays; "+
		"an operator of its own can be restarted while pods go on")
	webhook := flag.String("webhook-address", "", "host:port for admission, empty for none")
	rate := flag.Float64("api-rate", 0, "requests per second and API group, 0 for the real 5")
	flag.DurationVar(&options.PollEvery, "poll-every", 0, "pause between looks at a Job (5s)")
	flag.DurationVar(&options.CycleEvery, "cycle-every", 0, "pause between cluster cycles (15s)")
	flag.StringVar(&pods.NodeName, "node-name", "mgmt", "Node to register")
	flag.StringVar(&pods.Address, "node-address", "", "host:port that serves pod logs")
	flag.StringVar(&pods.PlaybooksDir, "playbooks", "", "what pods see in /kubespray")
	flag.StringVar(&pods.AnsibleBin, "ansible-bin", "", "directory of ansible-playbook")
	flag.StringVar(&pods.WorkDir, "work", "", "directory for the pods' files and logs")
	klog.InitFlags(nil)
	flag.Parse()
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	options.Namespace, pods.Namespace = *namespace, *namespace
	options.Version, options.APIRate = kubean.Version(*version), float32(*rate)
	if options.Version != kubean.N && options.Version != kubean.O {
		return fmt.Errorf("unknown version %q", *version)
	}
	return play(ctx, cfg, strings.Split(*parts, ","), options, pods, *webhook)
}

// play runs the parts until one fails or ctx ends.
func play(
	outer context.Context, cfg *rest.Config, parts []string, options kubean.Options,
	pods runner.Options, webhook string,
) error {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	var running []<-chan struct{}
	start := func(part func() error) {
		done := make(chan struct{})
		running = append(running, done)
		go func() {
			defer close(done)
			if err := part(); err != nil {
				cancel(err)
			}
		}()
	}
	for _, part := range parts {
		switch part {
		case "install":
			if err := kubean.Install(ctx, cfg, options.Namespace, options.Version); err != nil {
				return err
			}
		case "operator":
			operator, err := kubean.NewOperator(cfg, options)
			if err != nil {
				return err
			}
			start(func() error { return operator.Run(ctx) })
		case "webhook":
			if webhook != "" {
				start(func() error { return kubean.RunWebhook(ctx, cfg, webhook) })
			}
		case "kubelet":
			start(func() error { return runner.Run(ctx, cfg, pods) })
		default:
			return fmt.Errorf("unknown part %q", part)
		}
	}
	for _, done := range running {
		<-done
	}
	if outer.Err() != nil {
		return nil // asked to end
	}
	return context.Cause(ctx)
}
