"""A published study beside what was measured: row by row with intervals, and its conclusions judged by rule. Pure.

``audit`` reads the published text, ``claims`` its conclusions as data; ``matching`` finds out which row is which
variant, ``rows`` puts the ratios side by side and ``judge`` decides the claims from the measured starts. ``compare``
does all of it. Nothing is known about any one study: another one takes its own tables and claims.
"""

from quantbench.published.claims import Conclusions
from quantbench.published.compare import compare
from quantbench.published.document import Comparison

__all__ = ["Comparison", "Conclusions", "compare"]
