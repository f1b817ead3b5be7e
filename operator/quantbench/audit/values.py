"""Numbers as people print them: thousands separators, changes in brackets, spreads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

NUMBER = r"\d{1,3}(?:[,_'’\u00a0\u202f ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-"})
_CHANGE = re.compile(r"(?<![\d.])(?<!\d,)[(\[]?\s*(?P<sign>[+-]?)\s*(?P<number>\d{1,6}(?:\.\d{1,6})?)\s*%\s*[)\]]?")
_FACTOR = re.compile(r"(?<![\w.])(?<!\d,)[(\[]?\s*(?P<number>\d{1,4}(?:\.\d{1,6})?)\s*[x×](?!\w)\s*[)\]]?")
_SPREAD = re.compile(rf"(?:±|\+/-|\+-)\s*(?:{NUMBER})\s*%?")
_VALUE = re.compile(
    rf"[~≈]?\s*(?P<number>-?(?:{NUMBER}))\s*(?P<multiple>[kKM]\b)?\s*(?P<unit>[A-Za-zµμ/ ]{{0,16}})[↑↓*]{{0,2}}"
)
_MULTIPLES = {"k": 1e3, "K": 1e3, "M": 1e6}
MILLISECONDS: Mapping[str, float] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1e3),
    **dict.fromkeys(("ms", "msec", "milliseconds"), 1.0),
    **dict.fromkeys(("us", "µs", "μs"), 1e-3),
}
"""Units of time [ms]."""
MISSING = frozenset(
    {"", "-", "--", "—", "n/a", "na", "n.a.", "none", "nan", "oom", "failed", "fail", "error", "x", "✗"}
)


@dataclass(frozen=True)
class Number:
    """A printed number and half of its last printed digit."""

    value: float
    half_step: float

    def times(self, factor: float) -> "Number":
        """The same in a unit that is so many times smaller."""
        return Number(self.value * factor, self.half_step * factor)


@dataclass(frozen=True)
class Change:
    """A printed change: in percent, or as a factor (``1.24x``)."""

    value: float
    """Percent with its sign, or the factor."""
    step: float
    """One unit of the last printed digit."""
    signed: bool
    factor: bool
    text: str


@dataclass(frozen=True)
class Value:
    """One cell, read."""

    number: Number | None = None
    change: Change | None = None
    spread: bool = False
    missing: bool = False
    unit: str = ""
    """In lower case; empty where the cell tells none."""


def decimals(text: str) -> int:
    """Digits after the point; 0 for the exponent form."""
    return len(text.partition(".")[2]) if "e" not in text.lower() else 0


def parse_number(text: str) -> Number:
    """A number in the form of ``NUMBER``, with an optional minus."""
    plain = re.sub(r"[,_'’\u00a0\u202f ]", "", text)
    if "e" in plain.lower():
        mantissa, _, exponent = plain.lower().partition("e")
        return Number(float(plain), 0.5 * 10.0 ** (int(exponent) - len(mantissa.partition(".")[2])))
    return Number(float(plain), 0.5 * 10.0 ** -decimals(plain))


def normalise(text: str) -> str:
    """Dashes that mean a minus become one."""
    return text.translate(_MINUS)


def parse_change(match: re.Match[str], factor: bool) -> Change:
    """A match of a percentage (groups ``sign``, ``number``) or of a factor (group ``number``)."""
    sign = "" if factor else match["sign"]
    value = float(match["number"]) * (-1 if sign == "-" else 1)
    return Change(value, 10.0 ** -decimals(match["number"]), bool(sign), factor, match[0].strip(" ()[]"))


def parse_cell(text: str, decimal_comma: bool = False) -> Value:
    """A cell of a metric's column; ``number`` is None where none can be read."""
    rest = normalise(text.strip())
    if rest.lower() in MISSING:
        return Value(missing=True)
    if decimal_comma:
        rest = re.sub(r"(?<=\d)\.(?=\d{3}(?!\d))", "", rest)
        rest = re.sub(r"(?<=\d),(?=\d)", ".", rest)
    rest, spreads = _SPREAD.subn("", rest)
    change = None
    for pattern in (_CHANGE, _FACTOR):
        match = pattern.search(rest)
        if match:
            change = parse_change(match, pattern is _FACTOR)
            rest = rest[: match.start()] + " " + rest[match.end() :]
            break
    found = _VALUE.fullmatch(rest.strip())
    if found is None:
        return Value(None, change, bool(spreads))
    number = parse_number(found["number"]).times(_MULTIPLES.get(found["multiple"], 1.0))
    return Value(number, change, bool(spreads), unit=found["unit"].strip().lower())


def change_range(new: Number, old: Number) -> tuple[float, float]:
    """The changes in percent from ``old`` to ``new`` that the printed digits allow; ``old`` must be positive."""
    low = (new.value - new.half_step) / (old.value + old.half_step)
    high = (new.value + new.half_step) / max(old.value - old.half_step, old.half_step)
    return (low - 1) * 100, (high - 1) * 100


def change(new: Number, old: Number) -> float:
    """The change in percent from ``old`` to ``new``; ``old`` must be positive."""
    return (new.value / old.value - 1) * 100


def agrees(printed: Change, new: Number, old: Number, improvement: bool = False, lower_is_better: bool = False) -> bool:
    """Whether a printed change can stand for two printed numbers, by rounding or by cutting digits off.

    ``improvement`` admits the ways of counting in which better is positive: the reduction of a time, and old/new for a
    speed-up. A change without a sign may mean either direction.
    """
    candidates = [change_range(new, old)]
    if lower_is_better and (improvement or printed.factor):
        candidates.append(change_range(old, new))
    wanted = [(printed.value - 1) * 100] if printed.factor else [printed.value]
    step = printed.step * 100 if printed.factor else printed.step
    if not printed.factor and (not printed.signed or (improvement and lower_is_better)):
        wanted.append(-printed.value)
    return any(
        low <= most + _EPSILON and high >= least - _EPSILON
        for low, high in candidates
        for least, most in (_window(value, step, upwards=printed.factor or value >= 0) for value in wanted)
    )


_EPSILON = 1e-9


def _window(value: float, step: float, upwards: bool) -> tuple[float, float]:
    """The figures that are printed as ``value``: by rounding half a step to both sides, by cutting a step outwards."""
    return (value - step / 2, value + step) if upwards else (value - step, value + step / 2)
