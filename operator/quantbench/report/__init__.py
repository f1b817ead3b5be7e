"""The report of a study: one HTML file that needs nothing else, or Markdown. Pure: a study in, a text out.

`build` decides what is said, in the terms of ``document``; `to_html` and `to_markdown` only write it. Jinja2 and
Matplotlib come with the extra ``report`` and are imported by `to_html` alone: Markdown needs neither.
"""

from quantbench.report.build import build
from quantbench.report.markdown import to_markdown

__all__ = ["build", "to_markdown"]
