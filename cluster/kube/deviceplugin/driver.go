package deviceplugin

import (
	"os"
	"path/filepath"
	"strings"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// driverHome is where a container finds the driver: the place that images built for GPU clouds already search.
const driverHome = "/usr/local/nvidia"

// libraryFolders are searched for the driver's libraries where a distribution's package has put them.
var libraryFolders = []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"}

// Driver mounts what belongs to the driver rather than to an image: the libraries and nvidia-smi must be of the very
// version of the kernel module. It returns the mounts, and the environment that programs need to find the libraries.
func (host Host) Driver(folder string) ([]*api.Mount, map[string]string) {
	if folder == "" && host.exists(driverHome) {
		folder = driverHome
	}
	if folder != "" {
		var libraries []string
		for _, name := range []string{"lib64", "lib"} {
			if host.exists(filepath.Join(folder, name)) {
				libraries = append(libraries, filepath.Join(driverHome, name))
			}
		}
		return []*api.Mount{host.readOnly(folder, driverHome)}, searched(libraries)
	}
	for _, folder := range libraryFolders {
		if host.exists(filepath.Join(folder, "libcuda.so.1")) {
			return host.packaged(folder), nil
		}
	}
	return nil, nil
}

// packaged mounts the driver's files one by one, as the rest of the host's library folder, with its libc, must stay out
// of a container. They keep their places, which the loader of a like distribution searches, and which are there as mount
// points where a pod mounts the host's own /usr. Naming that folder in LD_LIBRARY_PATH would put all libraries of the
// image's system before those that its programs bring along.
func (host Host) packaged(folder string) []*api.Mount {
	var mounts []*api.Mount
	for _, pattern := range []string{"libcuda.so*", "libcudadebugger.so*", "libnvidia-*.so*", "libnvcuvid.so*"} {
		files, _ := filepath.Glob(host.path(filepath.Join(folder, pattern))) // the patterns are well-formed
		for _, file := range files {
			name := filepath.Join(folder, filepath.Base(file))
			mounts = append(mounts, host.readOnly(name, name))
		}
	}
	if tool := "/usr/bin/nvidia-smi"; host.exists(tool) {
		mounts = append(mounts, host.readOnly(tool, tool))
	}
	return mounts
}

func (host Host) readOnly(source, target string) *api.Mount {
	source = host.path(source)
	if real, err := filepath.EvalSymlinks(source); err == nil {
		source = real
	}
	return &api.Mount{HostPath: source, ContainerPath: target, ReadOnly: true}
}

func searched(libraries []string) map[string]string {
	if len(libraries) == 0 {
		return nil
	}
	return map[string]string{"LD_LIBRARY_PATH": strings.Join(libraries, string(os.PathListSeparator))}
}
