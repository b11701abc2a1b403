package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/version/verflag"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubelet/kubeletconfig/configfiles"
	"k8s.io/kubernetes/pkg/util/filesystem"
	"k8s.io/kubernetes/pkg/util/oom"
)

// newKubelet is the real kubelet with three parts replaced, because a namespace on a shared
// machine has no cgroups of its own: the container manager, the OOM adjuster and cadvisor.
// Everything else (TLS bootstrap, authentication, volumes, probes, static pods) is its own code.
func newKubelet() *cobra.Command {
	flags := options.NewKubeletFlags()
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	flags.AddFlags(set)
	command := &cobra.Command{
		Use: "kubelet", DisableFlagParsing: true, SilenceUsage: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := set.Parse(args); err != nil {
				return err
			}
			verflag.PrintAndExitIfRequested()
			config, err := loadConfig(flags.KubeletConfigFile)
			if err != nil {
				return err
			}
			return run(&options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config})
		},
	}
	defaults, err := options.NewKubeletConfiguration()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Deprecated flags of the configuration are accepted but the file decides: kubeadm writes both.
	options.AddKubeletConfigFlags(set, defaults)
	options.AddGlobalFlags(set)
	set.Bool("help", false, "")
	return command
}

func loadConfig(path string) (*kubeletconfig.KubeletConfiguration, error) {
	ctx := context.Background()
	loader, err := configfiles.NewFsLoader(&filesystem.DefaultFs{}, path)
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration %s: %w", path, err)
	}
	config, err := loader.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("kubelet configuration %s: %w", path, err)
	}
	config.CgroupsPerQOS = false
	config.EnforceNodeAllocatable = nil
	config.EvictionHard = map[string]string{}
	config.FailSwapOn = false
	return config, nil
}

func run(server *options.KubeletServer) error {
	logs.InitLogs()
	ctx := genericapiserver.SetupSignalContext()
	gate := utilfeature.DefaultFeatureGate
	err := utilfeature.DefaultMutableFeatureGate.SetFromMap(server.FeatureGates)
	if err != nil {
		return err
	}
	deps, err := app.UnsecuredDependencies(ctx, server, gate)
	if err != nil {
		return err
	}
	deps.CAdvisorInterface = &hostMachine{}
	deps.ContainerManager = cm.NewStubContainerManager()
	deps.OOMAdjuster = oom.NewFakeOOMAdjuster()
	return app.Run(ctx, server, deps, gate)
}
