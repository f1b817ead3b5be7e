"""The command line: ``python3 cluster <up|down|status|images|load-image|host-volume|bundle|clean-cache>``."""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cluster import binaries, bundle, cache, carried, embedded, host, hostvolume, images, kind, prometheus, record
from cluster.layout import NODE_ADDRESS, REPOSITORY, ClusterError, Layout, cache_folder
from cluster.progress import Progress

_DESCRIPTION = """A real Kubernetes on this machine: with kind where Docker answers, else embedded (Linux, root).

The embedded cluster is built here from Kubernetes' own sources and Debian's packages. It lives in one state folder,
one network namespace and one control group, and `down` takes all of it away again."""

_EXAMPLES = """examples:
  python3 cluster up --images          cluster, operator image and vLLM image
  python3 cluster status
  export KUBECONFIG=.cluster/kubeconfig PATH=$PWD/.cluster/bin:$PATH
  kubectl get nodes
  python3 cluster images --only operator    after a change of the operator's sources
  python3 cluster down
  python3 cluster up --control-plane-only --state /tmp/api    API server for tests, without root

Downloads and builds stay in ${QUANTBENCH_CACHE:-${XDG_CACHE_HOME:-~/.cache}/quantbench}; clean-cache removes them."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a failure, 2 for a machine or arguments that cannot work."""
    options = _parser().parse_args(arguments)
    progress = Progress(quiet=options.quiet)
    signal.signal(signal.SIGTERM, _interrupt)
    carried.use_programs()
    command: Callable[[argparse.Namespace, Progress], int] = options.command
    try:
        return command(options, progress)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted; the same command takes it up again, `down` takes it away", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 cluster",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state",
        type=Path,
        default=REPOSITORY / ".cluster",
        metavar="DIR",
        help="the cluster's folder (default: .cluster in the checkout)",
    )
    common.add_argument("--quiet", action="store_true", help="print errors only")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    up = verbs.add_parser("up", parents=[common], help="bring the cluster up, or repair it")
    up.add_argument("--images", action="store_true", help="also build and import the operator and vLLM images")
    up.add_argument(
        "--provider",
        choices=("auto", "embedded", "kind"),
        default="auto",
        help="auto: kind where `docker info` answers, else embedded",
    )
    up.add_argument(
        "--control-plane-only",
        action="store_true",
        help="etcd, API server, controller manager and scheduler only, on free ports; needs no root",
    )
    up.add_argument("--address", default="127.0.0.1", help="with --control-plane-only: where to listen")
    up.set_defaults(command=_up)

    down = verbs.add_parser("down", parents=[common], help="take the cluster away, leaving nothing behind")
    down.set_defaults(command=_down)

    status = verbs.add_parser("status", parents=[common], help="show every component; status 0 if all are healthy")
    status.set_defaults(command=_status)

    build = verbs.add_parser("images", parents=[common], help="build the images that are missing and import them")
    names = [image.short for image in images.ALL]
    build.add_argument("--only", choices=names, action="append", help="this image; may be repeated")
    build.add_argument("--build-only", action="store_true", help="fill the cache; needs no running cluster")
    build.set_defaults(command=_images)

    load = verbs.add_parser("load-image", parents=[common], help="import an image archive (OCI, or docker save)")
    load.add_argument("archive", type=Path)
    load.set_defaults(command=_load_image)

    volume = verbs.add_parser(
        "host-volume", parents=[common], help="a folder of this machine as a volume and a claim (embedded cluster)"
    )
    volume.add_argument("name", help="of the claim, which pods mount")
    volume.add_argument("folder", type=Path)
    volume.add_argument("--namespace", default="quantbench", help="of the claim; must exist (default: quantbench)")
    volume.add_argument("--writable", action="store_true", help="for the pods' user; made if it is missing")
    volume.set_defaults(command=_host_volume)

    programs = verbs.add_parser(
        "binaries", parents=[common], help="kubectl, helm, the components, Prometheus and promtool, in DIR/bin"
    )
    programs.set_defaults(command=_binaries)

    pack = verbs.add_parser(
        "bundle", parents=[common], help="pack all that a machine without a network needs, in parts"
    )
    pack.add_argument("--output", type=Path, default=bundle.DEFAULT_OUTPUT, metavar="DIR", help="dist/bundle")
    pack.add_argument("--part-size", default=bundle.DEFAULT_PART, metavar="SIZE", help="of a part at most (60MB)")
    pack.add_argument("--with", choices=[images.ENGINE.short], dest="engine", help="also vLLM for CPUs")
    pack.add_argument(
        "--image", type=Path, action="append", default=[], metavar="FILE", help="an image archive, imported by `up`"
    )
    pack.add_argument(
        "--add", action="append", default=[], metavar="NAME=PATH", help="a file or folder, unpacked into files/NAME"
    )
    pack.add_argument("--wheels", action="append", default=[], metavar="DIR", help="the same as --add wheels=DIR")
    pack.set_defaults(command=_bundle)

    clean = verbs.add_parser("clean-cache", parents=[common], help="remove cached downloads and builds")
    clean.set_defaults(command=_clean_cache)
    return parser


def _up(options: argparse.Namespace, progress: Progress) -> int:
    started = time.monotonic()
    layout = _layout(options)
    with _exclusive(layout, progress):
        if options.control_plane_only:
            layout = Layout(layout.state, options.address, control_plane_only=True)
            embedded.up_control_plane(layout, progress)
        elif _provider(options, layout) == "kind":
            kind.up(layout, progress, with_images=options.images)
        else:
            embedded.up(layout, progress, with_images=options.images)
    progress.line(f"The cluster is up after {time.monotonic() - started:.1f} s: KUBECONFIG={layout.kubeconfig}")
    return 0


def _down(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    with _exclusive(layout, progress):
        own = record.load(layout)
        if own and own.provider == "kind":
            kind.down(layout, progress, embedded.remove_state)
        else:
            embedded.down(layout, progress)
    return 0


def _status(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    own = record.load(layout)
    found = kind.health(layout) if own and own.provider == "kind" else embedded.health(layout)
    for line in found:
        pid = f"pid {line.pid}" if line.pid else ""
        said = line.complaint or line.note or "healthy"
        print(f"{'✗' if line.complaint else '✓'} {line.name:<25} {pid:<12} {said}".rstrip())
    if own and own.provider == "embedded":
        print(f"\nnode address {own.address}, API server https://{own.address}:{own.ports.apiserver}")
    if own:
        print(f"kubeconfig   {layout.kubeconfig}")
    return 1 if any(line.complaint for line in found) else 0


def _images(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    wanted = tuple(image for image in images.ALL if not options.only or image.short in options.only)
    if options.build_only:
        host.prepare(progress, build_images=True)
        for image in wanted:
            images.built(image, progress)
        return 0
    with _exclusive(layout, progress):
        if _running(layout).provider == "kind":
            kind.provide(progress, wanted)
        else:
            host.prepare(progress, build_images=True)
            images.provide(layout, progress, wanted)
    return 0


def _load_image(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    with _exclusive(layout, progress):
        if _running(layout).provider == "kind":
            kind.import_file(options.archive, progress)
        else:
            images.import_file(layout, options.archive, progress)
    return 0


def _host_volume(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    with _exclusive(layout, progress):
        if _running(layout).provider == "kind":
            raise ClusterError("kind's nodes see no folder but those in extraMounts of cluster/kind.yaml", 2)
        hostvolume.provide(layout, options.name, options.folder, options.namespace, writable=options.writable)
    progress.line(f"Claim {options.name} in namespace {options.namespace}: {options.folder}")
    return 0


def _binaries(options: argparse.Namespace, progress: Progress) -> int:
    layout = _layout(options)
    with _exclusive(layout, progress):
        binaries.link(layout, binaries.kube(progress))
        own = prometheus.programs(progress)
        for program in (own.prometheus, own.promtool):
            binaries.link_to(layout.bin / program.name, program)
    return 0


def _bundle(options: argparse.Namespace, progress: Progress) -> int:
    extras = [bundle.Extra.parse(text) for text in (*options.add, *(f"wheels={path}" for path in options.wheels))]
    size = bundle.parse_size(options.part_size)
    engine = options.engine is not None
    bundle.make(options.output.resolve(), size, progress, with_engine=engine, extras=extras, added=options.image)
    return 0


def _clean_cache(options: argparse.Namespace, progress: Progress) -> int:
    embedded.remove_cache(progress)
    return 0


def _layout(options: argparse.Namespace) -> Layout:
    """The layout of the state folder given, as its record has it where there is one."""
    layout = Layout(options.state.expanduser().resolve(), NODE_ADDRESS)
    own = record.load(layout)
    return Layout(layout.state, own.address, own.provider == "control-plane") if own else layout


def _provider(options: argparse.Namespace, layout: Layout) -> record.Provider:
    """Choose kind or embedded: what is there already, what was asked for, or what the machine can do."""
    own = record.load(layout)
    if own:
        return own.provider
    if carried.here():
        if options.provider == "kind":
            raise ClusterError("A bundle starts the embedded cluster only: kind would build its images.", status=2)
        return "embedded"
    if options.provider != "auto":
        return "kind" if options.provider == "kind" else "embedded"
    return "kind" if kind.docker_answers() else "embedded"


def _running(layout: Layout) -> record.Record:
    own = record.load(layout)
    if own is None or own.provider == "control-plane":
        raise ClusterError(f"There is no cluster with a node in {layout.state}: `python3 cluster up` first.", status=2)
    return own


@contextmanager
def _exclusive(layout: Layout, progress: Progress) -> Iterator[None]:
    """One command at a time for one state folder. The lock lies in the cache: the folder itself comes and goes."""
    name = hashlib.sha256(str(layout.state).encode()).hexdigest()[:16]
    waiting = f"Another command works on {layout.state}: waiting for it to end."
    with cache.locked(cache_folder() / "locks" / name, on_wait=lambda: progress.line(waiting)):
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
