module quantbench.dev/cluster/pause

go 1.24.0
