#!/bin/sh
# A machine without a network, without the packages, without a cache: what the test runs here must come from the bundle.
# Called in namespaces of its own (network, mounts, processes), which end with it: offline.sh DIR COMMAND...
set -eu
bundle=$1
shift

mkdir -p /run/netns "$CACHE"
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs "$CACHE"
for folder in /usr/lib/cni /opt/cni /usr/local/go /root/go; do
    [ ! -d "$folder" ] || mount -t tmpfs tmpfs "$folder"
done
for name in containerd containerd-shim-runc-v2 ctr runc ip nft openssl buildah mmdebstrap apt-get go helm kubectl; do
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
        program=$(readlink -f "$folder/$name" || true)
        [ ! -f "$program" ] || mount --bind /dev/null "$program"
    done
done
# The bundle's own libraries, too, so that it is them that its programs load. libssl is Python's as well, so it stays.
for library in libmnl libnftables libnftnl libelf libbpf libxtables libjansson libedit libbsd; do
    for file in /usr/lib/x86_64-linux-gnu/$library.so.*; do
        [ ! -f "$file" ] || mount --bind /dev/null "$(readlink -f "$file")"
    done
done
if [ -n "${POOR:-}" ]; then
    # A kernel without nftables, and a root file system that is an overlay itself.
    mkdir "$bundle.upper" "$bundle.work"
    mount -t overlay overlay -o "lowerdir=$bundle,upperdir=$bundle.upper,workdir=$bundle.work" "$bundle"
    mount --bind /bin/false "$bundle/carried/programs/bin/nft"
fi
"$bundle/carried/programs/bin/ip" link set lo up
exec "$@"
