"""Studies as values: what a cluster, an export file or another tool's results say, in one form. Pure.

`Study` is what every view of finished work reads, wherever it came from. ``document`` writes and reads it as one JSON
file, ``merged`` puts exports of one study together,
``as_it_stands`` ends one that was cut off; ``vllm_bench`` and ``benchmark_report`` speak others' formats.
"""

from quantbench.exports.document import from_document, to_document
from quantbench.exports.merge import merged
from quantbench.exports.standing import as_it_stands
from quantbench.exports.study import ExportError, Study

__all__ = ["ExportError", "Study", "as_it_stands", "from_document", "merged", "to_document"]
