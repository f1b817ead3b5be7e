"""The command line, read from the commands themselves."""

import inspect
from collections.abc import Iterator
from enum import EnumType
from typing import Any

import typer

from quantbench.cli import app
from quantbench.cli.common import MEANINGS
from reference.markdown import code, page, table

ABOUT = """
`quantbench` is also `kubectl quantbench`: kubectl runs programs on the PATH that are called `kubectl-NAME`, and
`kubectl-quantbench` is installed beside it. `--namespace`, `--context` and `--kubeconfig` mean what they mean to
kubectl; they stand behind the command.

Where a command takes a *STUDY*, it takes the name of a QuantBenchmark in the cluster, the path of an export, or the
path of a file or folder with results of `vllm bench serve` or `vllm bench sweep serve`. A file may be packed with gzip.

Colours appear on a terminal only; `NO_COLOR=1` switches them off there too. `quantbench --install-completion` sets up
the shell's completion, which knows the names of the benchmarks where the cluster answers within a second and a half.
"""


def text() -> str:
    """The page."""
    group: Any = typer.main.get_command(app)
    parts = [ABOUT, "## Exit statuses", table(("Status", "Meaning"), ((str(int(k)), v) for k, v in MEANINGS.items()))]
    for name, command in sorted(group.commands.items()):
        parts += [f"## quantbench {name}", _help(command), *_parameters(name, command)]
    return page("Command line", *parts)


def _help(command: Any) -> str:
    return "\n".join(line.rstrip() for line in inspect.cleandoc(command.help or "").splitlines())


def _parameters(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = [f"quantbench {name}", "[OPTIONS]"]
    usage += [_argument(one) + ("…" if one.nargs == -1 else "") for one in arguments]
    yield f"```\n{' '.join(usage)}\n```"
    rows = [(code(_argument(one)), "**required**" if one.required else "", one.help or "") for one in arguments]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    rows += [(code(", ".join(sorted(one.opts))), _default(one), _choices(one)) for one in options]
    if rows:
        yield table(("Argument or option", "Default", "Description"), rows)


def _argument(argument: Any) -> str:
    return str(argument.metavar or argument.name.rstrip("_").upper())


def _default(option: Any) -> str:
    if option.required:
        return "**required**"
    default = getattr(option.default, "value", option.default)
    return "" if default in (None, False) else code(str(default))


def _choices(option: Any) -> str:
    kind = option.type_descriptor.annotation
    members: dict[str, Any] = dict(kind.__members__) if isinstance(kind, EnumType) else {}
    names = ", ".join(code(member.value) for member in members.values())
    return f"{option.help or ''}" + (f" One of {names}." if names else "")
