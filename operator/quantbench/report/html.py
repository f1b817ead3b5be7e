"""A report as one HTML file: no script, nothing fetched; everything that comes from elsewhere is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantbench.report.document import SIGNS, Charts, Code, Items, Paragraph, Report, Table
from quantbench.report.draw import Drawing

_KINDS = {Paragraph: "paragraph", Table: "table", Items: "items", Code: "code", Charts: "charts"}


def to_html(report: Report) -> str:
    """The report as a text."""
    loader = PackageLoader("quantbench.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawing = Drawing()
    # The style sheet and the charts are ours; the charts' texts are escaped where the SVG is written.
    style = Markup(loader.get_source(environment, "report.css")[0])  # noqa: S704
    return environment.get_template("report.html").render(
        report=report,
        style=style,
        kind=lambda block: _KINDS[type(block)],
        signs=SIGNS,
        svg=lambda chart: Markup(drawing.svg(chart)),  # noqa: S704
    )
