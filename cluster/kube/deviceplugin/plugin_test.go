package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// machine plants two GPUs whose minor numbers run against nvidia-smi's order.
func machine(t *testing.T) Host {
	t.Helper()
	host := Host{Root: t.TempDir()}
	for _, node := range []string{"nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"} {
		plantDevice(t, host, "/dev/"+node)
	}
	for i, minor := range []string{"1", "0"} {
		plant(t, host, fmt.Sprintf("/proc/driver/nvidia/gpus/0000:0%d:00.0/information", i),
			fmt.Sprintf("Model: \t\t X\nGPU UUID: \t GPU-%d\nDevice Minor: \t %s\n", i, minor), 0o644)
	}
	plant(t, host, "/usr/bin/nvidia-smi", "#!/bin/sh\n"+
		"echo 'GPU-0, NVIDIA H100 80GB HBM3, 81559, 9.0, 570.86.15'\n"+
		"echo 'GPU-1, NVIDIA H100 80GB HBM3, 81559, 9.0, 570.86.15'\n", 0o755)
	return host
}

func plant(t *testing.T, host Host, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(host.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(host.path(path), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func plantDevice(t *testing.T, host Host, node string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(host.path(node)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", host.path(node)); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, host Host) []GPU {
	t.Helper()
	gpus, err := host.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	return gpus
}

func nodes(gpus []GPU) (found []string) {
	for _, gpu := range gpus {
		found = append(found, gpu.UUID+" "+gpu.Node)
	}
	return found
}

func TestDeviceFilesAreThoseThatTheKernelModuleNames(t *testing.T) {
	if found := nodes(listed(t, machine(t))); !slices.Equal(found, []string{"GPU-0 /dev/nvidia1", "GPU-1 /dev/nvidia0"}) {
		t.Error(found)
	}
}

func TestWithoutProcDeviceFilesGoByOrderIfTheirNumberIsRight(t *testing.T) {
	host := machine(t)
	os.RemoveAll(host.path("/proc"))
	if found := nodes(listed(t, host)); !slices.Equal(found, []string{"GPU-0 /dev/nvidia0", "GPU-1 /dev/nvidia1"}) {
		t.Error(found)
	}
	plantDevice(t, host, "/dev/nvidia2")
	if _, err := host.GPUs(); err == nil || !strings.Contains(err.Error(), "lists 2 GPUs, /dev has 3") {
		t.Error(err)
	}
}

func TestADriverThatFailsIsAnErrorAndNoDriverIsNoGPU(t *testing.T) {
	host := machine(t)
	plant(t, host, "/usr/bin/nvidia-smi", "#!/bin/sh\necho 'Failed to initialize NVML'; exit 18\n", 0o755)
	if _, err := host.GPUs(); err == nil || !strings.Contains(err.Error(), "Failed to initialize NVML") {
		t.Error(err)
	}
	os.Remove(host.path("/dev/nvidiactl"))
	if gpus := listed(t, host); gpus != nil {
		t.Error(gpus)
	}
}

func TestADriverThatHangsIsAnError(t *testing.T) {
	given := answerTime
	answerTime = 100 * time.Millisecond
	t.Cleanup(func() { answerTime = given })
	host := machine(t)
	plant(t, host, "/usr/bin/nvidia-smi", "#!/bin/sh\nsleep 30\n", 0o755)
	if _, err := host.GPUs(); err == nil || !strings.Contains(err.Error(), "gave no answer within 100ms") {
		t.Error(err)
	}
}

func TestWhatCannotBeKilledIsNotWaitedFor(t *testing.T) {
	inTheKernel := func() ([]byte, error) { select {} }
	if _, err := answerOf(10*time.Millisecond, inTheKernel); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	failed := func() ([]byte, error) { return []byte("why"), os.ErrClosed }
	if printed, err := answerOf(time.Minute, failed); string(printed) != "why" || !errors.Is(err, os.ErrClosed) {
		t.Error(string(printed), err)
	}
}

func TestLabelsAreThoseOfGPUFeatureDiscovery(t *testing.T) {
	labels := Labels(listed(t, machine(t)))
	for name, value := range map[string]string{
		"gpu.product": "NVIDIA-H100-80GB-HBM3", "gpu.count": "2", "gpu.memory": "81559", "gpu.compute.major": "9",
		"gpu.compute.minor": "0", "cuda.driver.major": "570", "cuda.driver.minor": "86", "cuda.driver.rev": "15",
	} {
		if labels["nvidia.com/"+name] != value {
			t.Errorf("%s: %q", name, labels["nvidia.com/"+name])
		}
	}
}

func TestAContainerGetsItsGPUAndTheDriver(t *testing.T) {
	host := machine(t)
	plant(t, host, "/usr/local/nvidia/lib64/libcuda.so.1", "", 0o644)
	mounts, env := host.Driver("")
	plugin := &Plugin{host: host, gpus: listed(t, host), mounts: mounts, env: env}
	ask := func(id string) (*api.AllocateResponse, error) {
		return plugin.Allocate(t.Context(), &api.AllocateRequest{
			ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: []string{id}}},
		})
	}
	answer, err := ask("GPU-1")
	if err != nil {
		t.Fatal(err)
	}
	given := answer.ContainerResponses[0]
	var devices []string
	for _, device := range given.Devices {
		devices = append(devices, device.ContainerPath)
	}
	if !slices.Equal(devices, []string{"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"}) {
		t.Error(devices)
	}
	if given.Envs["NVIDIA_VISIBLE_DEVICES"] != "GPU-1" || given.Envs["LD_LIBRARY_PATH"] != "/usr/local/nvidia/lib64" {
		t.Error(given.Envs)
	}
	if len(given.Mounts) != 1 || given.Mounts[0].ContainerPath != "/usr/local/nvidia" || !given.Mounts[0].ReadOnly {
		t.Error(given.Mounts)
	}
	if _, err := ask("GPU-7"); err == nil {
		t.Error("a GPU that does not exist was given away")
	}
}

func TestADriverFromAPackageIsMountedFileByFile(t *testing.T) {
	host := machine(t)
	for _, name := range []string{"libcuda.so.1", "libnvidia-ml.so.1", "libc.so.6"} {
		plant(t, host, "/usr/lib/x86_64-linux-gnu/"+name, "", 0o644)
	}
	mounts, env := host.Driver("")
	var targets []string
	for _, mount := range mounts {
		targets = append(targets, mount.ContainerPath)
	}
	libraries := "/usr/lib/x86_64-linux-gnu/"
	if !slices.Equal(targets, []string{libraries + "libcuda.so.1", libraries + "libnvidia-ml.so.1", "/usr/bin/nvidia-smi"}) {
		t.Error(targets)
	}
	if len(env) > 0 {
		t.Error(env)
	}
}

// kubelet is the half of the kubelet that plugins register with.
type kubelet struct {
	api.UnimplementedRegistrationServer
	registered chan *api.RegisterRequest
}

func (k *kubelet) Register(_ context.Context, asked *api.RegisterRequest) (*api.Empty, error) {
	k.registered <- asked
	return &api.Empty{}, nil
}

// startKubelet empties the folder first, as the real one does.
func startKubelet(t *testing.T, folder string) (*kubelet, *grpc.Server) {
	t.Helper()
	sockets, _ := filepath.Glob(filepath.Join(folder, "*.sock"))
	for _, socket := range sockets {
		os.Remove(socket)
	}
	listener, err := net.Listen("unix", filepath.Join(folder, kubeletSocket))
	if err != nil {
		t.Fatal(err)
	}
	k, server := &kubelet{registered: make(chan *api.RegisterRequest, 1)}, grpc.NewServer()
	api.RegisterRegistrationServer(server, k)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return k, server
}

func within[T any](t *testing.T, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not within 10 s", what)
	}
	return value
}

func TestEveryKubeletIsRegisteredWithAndHearsOfHealth(t *testing.T) {
	folder, err := os.MkdirTemp("", "plugins") // t.TempDir() is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	host := machine(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, folder, host, listed(t, host), "") }()

	first, server := startKubelet(t, folder)
	within(t, "registration", first.registered)
	server.Stop()
	second, _ := startKubelet(t, folder)
	asked := within(t, "registration with the next kubelet", second.registered)
	if asked.ResourceName != "nvidia.com/gpu" || asked.Version != "v1beta1" {
		t.Error(asked)
	}

	health := watch(t, filepath.Join(folder, asked.Endpoint))
	if found := within(t, "first list", health); found != "GPU-0 Healthy, GPU-1 Healthy" {
		t.Error(found)
	}
	os.Remove(host.path("/dev/nvidia1"))
	if found := within(t, "list after a loss", health); found != "GPU-0 Unhealthy, GPU-1 Healthy" {
		t.Error(found)
	}
	cancel()
	if err := within(t, "end", ended); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(folder, asked.Endpoint)); err == nil {
		t.Error("the socket was left behind")
	}
}

func watch(t *testing.T, socket string) <-chan string {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	stream, err := api.NewDevicePluginClient(connection).ListAndWatch(t.Context(), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 2)
	go func() {
		for {
			answer, err := stream.Recv()
			if err != nil {
				return
			}
			var words []string
			for _, device := range answer.Devices {
				words = append(words, device.ID+" "+device.Health)
			}
			heard <- strings.Join(words, ", ")
		}
	}()
	return heard
}
