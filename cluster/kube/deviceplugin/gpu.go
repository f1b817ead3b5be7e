// Package deviceplugin offers the NVIDIA GPUs of a machine to its kubelet as nvidia.com/gpu, and words the node labels
// that describe them. It needs the driver and nothing else: no container toolkit, no runtime hook, no cluster access.
package deviceplugin

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GPU is one device as the driver's nvidia-smi lists it.
type GPU struct {
	UUID         string
	Name         string // the product, e.g. "NVIDIA H100 80GB HBM3"
	MemoryMiB    string
	ComputeMajor string
	ComputeMinor string
	Driver       string // version, e.g. "550.107.02"
	Node         string // device file in a container, e.g. "/dev/nvidia0"
}

// Host is the machine whose files are read. Tests plant a machine of their own below another Root than "/".
type Host struct{ Root string }

func (host Host) path(path string) string { return filepath.Join(host.Root, path) }

var (
	fields       = []string{"uuid", "name", "memory.total", "compute_cap", "driver_version"}
	deviceFile   = regexp.MustCompile(`^nvidia(\d+)$`)
	notLabelText = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// answerTime is what nvidia-smi gets: it waits for ever for a GPU that hangs, and takes seconds to wake some that do not.
var answerTime = 30 * time.Second

// GPUs lists the machine's GPUs in nvidia-smi's order, which is that of the PCI bus; none where there is no driver.
func (host Host) GPUs() ([]GPU, error) {
	if !host.exists("/dev/nvidiactl") {
		return nil, nil
	}
	limited, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	command := exec.CommandContext(limited, host.tool(), "--query-gpu="+strings.Join(fields, ","), "--format=csv,noheader,nounits")
	command.Env = host.searchedEnvironment()
	command.WaitDelay = time.Second // what it started may hold its output open
	printed, err := answerOf(answerTime+2*command.WaitDelay, command.Output)
	if limited.Err() != nil {
		return nil, fmt.Errorf("%s gave no answer within %s: a GPU or its driver hangs", command.Path, answerTime)
	}
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) { // nvidia-smi complains on its standard output
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(append(printed, failed.Stderr...)))
		}
		return nil, fmt.Errorf("%s: %w", command.Path, err)
	}
	table := csv.NewReader(bytes.NewReader(printed))
	table.FieldsPerRecord, table.TrimLeadingSpace = len(fields), true
	rows, err := table.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s printed %q: %w", command.Path, printed, err)
	}
	gpus := make([]GPU, 0, len(rows))
	for _, row := range rows {
		major, minor, _ := strings.Cut(row[3], ".")
		gpus = append(gpus, GPU{UUID: row[0], Name: row[1], MemoryMiB: row[2], ComputeMajor: major, ComputeMinor: minor,
			Driver: row[4]})
	}
	return gpus, host.findNodes(gpus)
}

// answerOf is what output gives, or an error when the time is over: a driver that hangs can hold nvidia-smi in the kernel,
// where it does not die when killed, and os/exec waits for its end whatever its own limits say.
func answerOf(limit time.Duration, output func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		printed []byte
		err     error
	}
	answered := make(chan answer, 1)
	go func() {
		printed, err := output()
		answered <- answer{printed, err}
	}()
	select {
	case got := <-answered:
		return got.printed, got.err
	case <-time.After(limit):
		return nil, os.ErrDeadlineExceeded
	}
}

// findNodes gives each GPU its device file. nvidia-smi does not tell the minor number, the kernel module does, in /proc;
// where a sandbox hides that, the files are taken in the GPUs' order, if there are as many.
func (host Host) findNodes(gpus []GPU) error {
	minors, err := host.minors()
	if err != nil {
		return err
	}
	var numbers []int
	if len(minors) == 0 {
		if numbers, err = host.deviceNumbers(); err != nil {
			return err
		}
		if len(numbers) != len(gpus) {
			return fmt.Errorf("nvidia-smi lists %d GPUs, /dev has %d, and /proc/driver/nvidia does not say which are which",
				len(gpus), len(numbers))
		}
	}
	for i := range gpus {
		minor, known := minors[gpus[i].UUID]
		if !known && len(minors) > 0 {
			return fmt.Errorf("/proc/driver/nvidia does not know %s", gpus[i].UUID)
		}
		if !known {
			minor = strconv.Itoa(numbers[i])
		}
		gpus[i].Node = "/dev/nvidia" + minor
	}
	return nil
}

// minors reads /proc/driver/nvidia/gpus: UUID to minor number of the device file.
func (host Host) minors() (map[string]string, error) {
	found := map[string]string{}
	notes, err := filepath.Glob(host.path("/proc/driver/nvidia/gpus/*/information"))
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		text, err := os.ReadFile(note)
		if err != nil {
			return nil, err
		}
		facts := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			facts[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		if uuid, minor := facts["GPU UUID"], facts["Device Minor"]; uuid != "" && minor != "" {
			found[uuid] = minor
		}
	}
	return found, nil
}

func (host Host) deviceNumbers() ([]int, error) {
	entries, err := os.ReadDir(host.path("/dev"))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, entry := range entries {
		if match := deviceFile.FindStringSubmatch(entry.Name()); match != nil {
			number, err := strconv.Atoi(match[1])
			if err != nil {
				return nil, err
			}
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Healthy tells whether the GPU's device file is there. It is not opened: without persistence mode that initialises the
// GPU, and a check must not disturb what is measured on it.
func (host Host) Healthy(gpu GPU) bool {
	status, err := os.Stat(host.path(gpu.Node))
	return err == nil && status.Mode()&fs.ModeCharDevice != 0
}

func (host Host) exists(path string) bool {
	_, err := os.Stat(host.path(path))
	return err == nil
}

// tool finds nvidia-smi: on the PATH, then where drivers without a package put it.
func (host Host) tool() string {
	if host.Root == "/" {
		if found, err := exec.LookPath("nvidia-smi"); err == nil {
			return found
		}
	}
	for _, place := range []string{"/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"} {
		if host.exists(place) {
			return host.path(place)
		}
	}
	return "nvidia-smi"
}

// searchedEnvironment lets nvidia-smi find the driver's libraries where no linker configuration names their folder.
func (host Host) searchedEnvironment() []string {
	folders := []string{host.path(driverHome + "/lib64"), host.path(driverHome + "/lib")}
	if before := os.Getenv("LD_LIBRARY_PATH"); before != "" {
		folders = append(folders, before)
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(folders, string(os.PathListSeparator)))
}

// Labels words the node labels as NVIDIA's GPU Feature Discovery does (its README, "Generated Labels"), of one kind of
// GPU: that of the first.
func Labels(gpus []GPU) map[string]string {
	labels := map[string]string{}
	if len(gpus) == 0 {
		return labels
	}
	first := gpus[0]
	if i := slices.IndexFunc(gpus, func(gpu GPU) bool { return gpu.Name != first.Name }); i > 0 {
		slog.Warn("GPUs of several kinds: the labels describe the first", "first", first.Name, "other", gpus[i].Name)
	}
	labels["nvidia.com/gpu.product"] = strings.Trim(notLabelText.ReplaceAllString(first.Name, "-"), "-_.")
	labels["nvidia.com/gpu.count"] = strconv.Itoa(len(gpus))
	labels["nvidia.com/gpu.memory"] = first.MemoryMiB
	labels["nvidia.com/gpu.compute.major"] = first.ComputeMajor
	labels["nvidia.com/gpu.compute.minor"] = first.ComputeMinor
	version := append(strings.SplitN(first.Driver, ".", 3), "", "")
	labels["nvidia.com/cuda.driver-version.full"] = first.Driver
	for i, names := range [][]string{{"major", "major"}, {"minor", "minor"}, {"revision", "rev"}} {
		labels["nvidia.com/cuda.driver-version."+names[0]] = version[i]
		labels["nvidia.com/cuda.driver."+names[1]] = version[i]
	}
	// What a GPU does not tell, such as the memory of one that shares the machine's, is printed as "[N/A]", and
	// brackets are refused in a label's value.
	maps.DeleteFunc(labels, func(_, value string) bool { return notLabelText.MatchString(value) })
	return labels
}
