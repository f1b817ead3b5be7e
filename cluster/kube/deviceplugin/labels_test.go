package deviceplugin

import "testing"

func TestWhatAGPUDoesNotTellIsNoLabel(t *testing.T) {
	labels := Labels([]GPU{{Name: "NVIDIA GB10", MemoryMiB: "[N/A]", ComputeMajor: "12", ComputeMinor: "1", Driver: "580.95.05"}})
	if value, said := labels["nvidia.com/gpu.memory"]; said {
		t.Errorf("memory: %q", value)
	}
	if labels["nvidia.com/gpu.compute.major"] != "12" {
		t.Error(labels)
	}
}
