package deviceplugin

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Command runs the plugin with os.Args until SIGTERM or SIGINT; the exit status is 0 then, 1 for a failure, and 2 for
// wrong arguments.
func Command() int {
	flags := flag.NewFlagSet("nvidia-device-plugin", flag.ContinueOnError)
	root := flags.String("root", "/", "folder that holds the machine's dev, proc and usr")
	folder := flags.String("plugin-dir", api.DevicePluginPath, "the kubelet's folder of device plugins")
	driver := flags.String("driver-dir", "", "folder with the driver's bin and lib64 (default: /usr/local/nvidia, or "+
		"the driver's files in the distribution's library folder)")
	labels := flags.Bool("labels", false, "print the node labels of the GPUs as JSON, {} without any, and end")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	host := Host{Root: *root}
	gpus, err := host.GPUs()
	if err == nil && *labels {
		err = json.NewEncoder(os.Stdout).Encode(Labels(gpus))
	} else if err == nil && len(gpus) == 0 {
		err = errors.New("there is no NVIDIA GPU here")
	} else if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		err = Run(ctx, *folder, host, gpus, *driver)
	}
	if err != nil {
		slog.Error(err.Error())
		return 1
	}
	return 0
}
