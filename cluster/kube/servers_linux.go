package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info on /metrics
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"quantbench.dev/cluster/kube/deviceplugin"
)

// Building a cobra command registers flags and metrics globally, so each entry
// builds its command only when it is the one called.
func init() {
	programs["etcd"] = etcd
	programs["kube-apiserver"] = component(apiserver.NewAPIServerCommand)
	programs["kube-controller-manager"] = component(controllermanager.NewControllerManagerCommand)
	programs["kube-scheduler"] = component(func() *cobra.Command { return scheduler.NewSchedulerCommand() })
	programs["kube-proxy"] = component(proxy.NewProxyCommand)
	programs["kubelet"] = component(func() *cobra.Command {
		return kubelet.NewKubeletCommand(context.Background())
	})
	programs["nvidia-device-plugin"] = deviceplugin.Command
}

func component(command func() *cobra.Command) program {
	return func() int { return cli.Run(command()) }
}

func etcd() int {
	etcdmain.Main(os.Args) // ends the process when it fails
	return 0
}
