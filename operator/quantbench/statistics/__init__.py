"""From passes to figures, their contrasts and what can be said of them. The unit of replication is the server start.

``figures``: passes → one value per start → means, percentiles. ``contrasts``: log ratios within blocks and their noise.
``looks``: when a comparison is decided. ``samples``: the starts of one target as arrays.
"""

from quantbench.statistics.figures import Start, figures, headline, mean
from quantbench.statistics.samples import Metric, Ratio, Samples

__all__ = ["Metric", "Ratio", "Samples", "Start", "figures", "headline", "mean"]
