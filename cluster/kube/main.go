// Command kube is a whole Kubernetes in one file. Like busybox it looks at the
// name it was called by: a symbolic link named "etcd" is etcd, one named
// "kubectl" is kubectl.
//
// One program instead of eight, because the Kubernetes components share nearly
// all their packages: compiled once and linked once, they come as one cached
// file, which is enough to bring a cluster up where no container registry can
// be reached.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A program runs with os.Args and returns its exit status. Some of them never
// return, as they end the process themselves.
type program func() int

// programs holds what can be called. The clients are always there; the servers
// are added by servers_linux.go, since a node runs on Linux only.
var programs = map[string]program{
	"kubectl": kubectl,
	"helm":    helm,
}

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := programs[name]
	if !ok {
		known := slices.Sorted(maps.Keys(programs))
		fmt.Fprintf(os.Stderr, "%s: call me by one of these names, through a link: %s\n",
			name, strings.Join(known, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}
