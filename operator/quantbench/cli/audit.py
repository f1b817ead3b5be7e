"""An audit for people: reading the file, and the report as text or Markdown."""

from pathlib import Path

from rich.console import Group
from rich.text import Text

from quantbench.audit.document import Unreadable
from quantbench.audit.report import Finding, Outcome, Place, Report, Severity

MOST_BYTES = 8 * 2**20
"""Largest file that is read."""
_SHOWN = 8
"""Lines of arithmetic and places per finding; JSON holds them all."""
_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTICE: "cyan"}


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        Unreadable: it cannot be opened, is too large or is not UTF-8.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise Unreadable(0, error.strerror or str(error)) from error
    if raw is None:
        raise Unreadable(0, f"larger than {MOST_BYTES // 2**20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from error


def as_text(report: Report) -> Group:
    """The answer first, then the findings, then what was and was not checked."""
    parts = [Text(report.headline, style="bold")]
    for number, finding in enumerate(report.findings, 1):
        parts.append(Text(f"\n{number}. ").append(finding.severity, style=_STYLES[finding.severity]))
        parts[-1].append(f" {finding.kind}  {finding.sentence}")
        parts.extend(Text(f"   {line}", style="dim") for line in _details(finding))
    parts.append(Text(f"\n{_claims(report)}"))
    parts.extend(Text(f"   {line}", style="dim") for line in _not_checked(report))
    return Group(*parts)


def as_markdown(report: Report) -> str:
    """The same, to be pasted into an issue."""
    lines = [f"**{report.headline}** ({report.source})", ""]
    for number, finding in enumerate(report.findings, 1):
        lines.append(f"{number}. **{finding.kind}** ({finding.severity}): {finding.sentence}")
        lines.extend(f"   - {line}" for line in _details(finding))
    lines += ["", _claims(report)]
    lines.extend(f"- {line}" for line in _not_checked(report))
    return "\n".join(lines)


def _details(finding: Finding) -> list[str]:
    lines = list(finding.arithmetic[:_SHOWN])
    if len(finding.arithmetic) > _SHOWN:
        lines.append(f"… and {len(finding.arithmetic) - _SHOWN} more, see --output json")
    if finding.places:
        lines.append(_lines(finding.places))
    return lines + ([finding.hint] if finding.hint else [])


def _lines(places: tuple[Place, ...]) -> str:
    numbers = list(dict.fromkeys(str(place.line) for place in places))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{'lines' if len(numbers) > 1 else 'line'} {', '.join(numbers[:_SHOWN])}{more}"


def _claims(report: Report) -> str:
    counts = {outcome: sum(claim.outcome is outcome for claim in report.claims) for outcome in Outcome}
    text = (
        f"Claims in the text: {counts[Outcome.CONFIRMED]} agree with the tables, "
        f"{counts[Outcome.CONTRADICTED]} do not, {counts[Outcome.NOT_CHECKED]} were not checked"
    )
    return text + (f"; {len(report.unread)} cells could not be read as numbers" if report.unread else "")


def _not_checked(report: Report) -> list[str]:
    claims = [
        f"line {claim.line}, not checked, {claim.reason}: {claim.text}"
        for claim in report.claims
        if claim.outcome is Outcome.NOT_CHECKED
    ]
    cells = [f"line {place.line}, {place.row}, {place.column}: not a number: {place.text}" for place in report.unread]
    return claims + cells
