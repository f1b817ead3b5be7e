package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// ResourceName is what pods ask for, the same as with NVIDIA's own plugin.
const ResourceName = "nvidia.com/gpu"

const (
	socketName    = "quantbench-nvidia.sock"
	kubeletSocket = "kubelet.sock"
	period        = time.Second // between two looks at device files and sockets
	patience      = 10 * time.Second
)

// shared are the device files that every container with a GPU needs beside that of its GPU.
var shared = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}

// Plugin is the service that the kubelet calls. Its devices are named by the GPUs' UUIDs.
type Plugin struct {
	api.UnimplementedDevicePluginServer
	host   Host
	gpus   []GPU
	mounts []*api.Mount
	env    map[string]string
	ended  <-chan struct{}
}

// GetDevicePluginOptions asks the kubelet for nothing beyond the two calls below.
func (plugin *Plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch sends the list of devices, and again whenever the health of one changes.
func (plugin *Plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	look := time.NewTicker(period)
	defer look.Stop()
	var told []*api.Device
	for {
		devices := plugin.devices()
		if !slices.EqualFunc(told, devices, func(a, b *api.Device) bool { return a.Health == b.Health }) {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
				return err
			}
			told = devices
			slog.Info("devices", "list", devices)
		}
		select {
		case <-look.C:
		case <-stream.Context().Done():
			return nil
		case <-plugin.ended:
			return nil
		}
	}
}

func (plugin *Plugin) devices() []*api.Device {
	devices := make([]*api.Device, 0, len(plugin.gpus))
	for _, gpu := range plugin.gpus {
		health := api.Unhealthy
		if plugin.host.Healthy(gpu) {
			health = api.Healthy
		}
		devices = append(devices, &api.Device{ID: gpu.UUID, Health: health})
	}
	return devices
}

// Allocate tells what a container with these GPUs gets: their device files, the driver, and their UUIDs by the name that
// NVIDIA's container toolkit uses. The kubelet puts the pod's own environment after this one, so a pod can set another
// LD_LIBRARY_PATH; what an image sets is replaced.
func (plugin *Plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		given := &api.ContainerAllocateResponse{Mounts: plugin.mounts, Envs: map[string]string{}}
		for _, id := range container.DevicesIds {
			i := slices.IndexFunc(plugin.gpus, func(gpu GPU) bool { return gpu.UUID == id })
			if i < 0 {
				return nil, status.Errorf(codes.NotFound, "there is no GPU %s", id)
			}
			given.Devices = append(given.Devices, plugin.deviceFile(plugin.gpus[i].Node))
		}
		for _, node := range shared {
			if plugin.host.exists(node) {
				given.Devices = append(given.Devices, plugin.deviceFile(node))
			}
		}
		maps.Copy(given.Envs, plugin.env)
		given.Envs["NVIDIA_VISIBLE_DEVICES"] = strings.Join(container.DevicesIds, ",")
		answer.ContainerResponses = append(answer.ContainerResponses, given)
	}
	return answer, nil
}

func (plugin *Plugin) deviceFile(node string) *api.DeviceSpec {
	return &api.DeviceSpec{HostPath: plugin.host.path(node), ContainerPath: node, Permissions: "rw"}
}

// Run serves the kubelet whose plugin folder this is until the context ends. A kubelet that starts anew empties the
// folder and knows no plugins: then the socket is made and registered again.
func Run(ctx context.Context, folder string, host Host, gpus []GPU, driver string) error {
	mounts, env := host.Driver(driver)
	if len(mounts) == 0 {
		slog.Warn("no driver libraries found: an image must bring its own, of the kernel module's version")
	}
	for ctx.Err() == nil {
		if there(filepath.Join(folder, kubeletSocket)) {
			plugin := &Plugin{host: host, gpus: gpus, mounts: mounts, env: env}
			if err := plugin.serve(ctx, folder); err != nil {
				slog.Error("registration with the kubelet", "error", err)
			}
		}
		pause(ctx)
	}
	return nil
}

// serve answers one kubelet until the context ends, or until the next kubelet has removed our socket.
func (plugin *Plugin) serve(ctx context.Context, folder string) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	plugin.ended = ctx.Done()
	own := filepath.Join(folder, socketName)
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a plugin that was killed
		return err
	}
	listener, err := net.Listen("unix", own)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, plugin)
	go func() {
		defer end()
		if err := server.Serve(listener); err != nil {
			slog.Error("serving", "error", err)
		}
	}()
	defer server.Stop()
	if err := register(ctx, filepath.Join(folder, kubeletSocket)); err != nil {
		return err
	}
	slog.Info("registered", "resource", ResourceName, "gpus", len(plugin.gpus))
	for ctx.Err() == nil && there(own) {
		pause(ctx)
	}
	return nil
}

func register(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: socketName, ResourceName: ResourceName}
	if _, err := api.NewRegistrationClient(connection).Register(ctx, request); err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	return nil
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(period):
	}
}
