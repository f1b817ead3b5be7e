"""docs/published-study-h100.md: the published study beside our own runs, once there are exports of them."""

import json
from pathlib import Path

from quantbench.cli.published import compared, read_conclusions
from quantbench.published.markdown import to_markdown
from reference.markdown import NOTICE

STUDY = "benchmarks/published/qwen3-8b.md"
RESULTS = "benchmarks/results/published-study-h100"
_EXPORT = "QuantBenchmarkExport"

HEAD = """{notice}
# The published study on an H100

[The published study]({source}) measured Qwen3-8B in many quantizations on vLLM 0.9.2. This project's operator ran its
H100 part again: `benchmarks/studies/published-study-h100.yaml`.

!!! warning "The weights are random"
    The checkpoints have the true shape of Qwen3-8B and gaussian weights, really quantized in each scheme. Speeds hold;
    nothing is said about quality.

What follows is printed by a command, from the exports of the runs:

```console
quantbench audit {study} --against {exports}
```

"""


def exports(root: Path) -> list[Path]:
    """The exports of the runs, sitting by sitting; other JSON files beside them are none."""
    files = sorted((root / RESULTS).glob("*.json"))
    return [file for file in files if json.loads(file.read_bytes()).get("kind") == _EXPORT]


def text(root: Path) -> str:
    """The page; needs at least one export."""
    files = exports(root)
    found = compared(root / STUDY, ",".join(map(str, files)), None, None)
    source = read_conclusions((root / STUDY).with_suffix(".yaml")).source
    shown = ",".join(str(file.relative_to(root)) for file in files)
    return HEAD.format(notice=NOTICE, source=source, study=STUDY, exports=shown) + to_markdown(found)
