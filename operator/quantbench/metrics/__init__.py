"""Prometheus metrics: results and progress are read from the live objects at scrape time, so that nothing is stale
after a deletion and nothing is lost by a restart. Only the operator's own health is counted as it happens.

Objects are reduced to the few numbers that a scrape needs when they are seen (`facts`), because a run's status can be
two hundred KiB; a scrape turns those into families (`families`) and families into text (`exposition`).
"""

from quantbench.metrics.exposition import Family, line
from quantbench.metrics.families import OPERATOR_GAUGES, operator_families, study_families
from quantbench.metrics.health import Health
from quantbench.metrics.state import State

__all__ = ["OPERATOR_GAUGES", "Family", "Health", "State", "line", "operator_families", "study_families"]
