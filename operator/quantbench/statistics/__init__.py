"""From passes to figures, their contrasts and what can be said of them. The unit of replication is the server start.

``figures``: passes → one value per start → means, percentiles. ``contrasts``: log ratios within blocks and their noise.
``looks``: when a comparison is decided. ``samples``: the starts of one target as arrays.
"""

from quantbench.api.names import Metric
from quantbench.statistics.figures import Start, figures, headline, mean
from quantbench.statistics.samples import Ratio, Samples, figure_of

__all__ = ["Metric", "Ratio", "Samples", "Start", "figure_of", "figures", "headline", "mean"]
