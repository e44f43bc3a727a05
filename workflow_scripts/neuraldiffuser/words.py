"""Numbers as people read them; every number in a text, table or caption passes through here."""

import math

MINUS = "\N{MINUS SIGN}"
PERCENT_UNITS = ("share identified", "share of the ceiling")
MILLION = "million"
HOURS, SECONDS, GIGABYTES, COUNT = "hours", "seconds", "GB", "count"
WHOLE_UNITS = (MILLION, HOURS, SECONDS, GIGABYTES, COUNT)  # the paper prints whole numbers
SET_UNITS = ("exponential of nats", "squared distance")


def name_scale(unit: str, *, signed: bool = False) -> str:
    """What stands behind a heading whose numbers are scaled: `` (%)``, `` (points)`` or nothing."""
    ending = _ending(unit, signed=signed).strip()
    return f" ({ending})" if ending else ""


def is_missing(value: float | None) -> bool:
    """Whether there is no number."""
    return value is None or math.isnan(value)


def write_number(value: float, *, unit: str = "", signed: bool = False) -> str:
    """A number with three significant digits: ``0.318``, ``95.3 %``, ``+3.0 points``.

    Args:
        value: a finite number.
        unit: the unit of the metric; shares become percent, their differences points.
        signed: it is a difference, with a plus before positive numbers.
    """
    return write_bare(value, unit=unit, signed=signed) + _ending(unit, signed=signed)


def write_bare(value: float, *, unit: str = "", signed: bool = False) -> str:
    """The same without its unit, where a heading has it; a rounded zero has no sign."""
    percent = unit in PERCENT_UNITS
    shown = value * 100 if percent else value
    text = f"{shown:.1f}" if percent else f"{shown:.{_decimals(shown)}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    sign = "+" if signed and shown > 0 else ""
    return sign + text.replace("-", MINUS)


def _ending(unit: str, *, signed: bool) -> str:
    if unit not in PERCENT_UNITS:
        return ""
    return " points" if signed else " %"


def scale_of(unit: str) -> float:
    """By how much numbers of a unit are multiplied before they are shown."""
    return 100.0 if unit in PERCENT_UNITS else 1.0


def _decimals(value: float) -> int:
    size = abs(value)
    return 3 if size < 10 else 1 if size < 1000 else 0


def write_published(value: float, *, unit: str = "") -> str:
    """A published number with the digits that papers print: ``95.33`` (percent), ``0.318``."""
    shown = value * 100 if unit in PERCENT_UNITS else value
    digits = 0 if unit in WHOLE_UNITS else 2 if unit in (*PERCENT_UNITS, *SET_UNITS) else 3
    return f"{shown:.{digits}f}".replace("-", MINUS)


def write_interval(low: float, high: float, *, unit: str = "", signed: bool = False) -> str:
    """An interval: ``[0.306, 0.330]``, its unit after the bracket."""
    ends = [write_bare(end, unit=unit, signed=signed) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]" + _ending(unit, signed=signed)


def write_estimate(
    value: float, low: float, high: float, *, unit: str = "", signed: bool = False
) -> str:
    """A number with its interval: ``0.318 [0.306, 0.330]``."""
    number = write_bare(value, unit=unit, signed=signed)
    return f"{number} {write_interval(low, high, unit=unit, signed=signed)}"


def write_p(p_value: float) -> str:
    """A probability: ``p = 0.27``, ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def write_name(name: str) -> str:
    """A name of the configuration in a sentence: ``ground truth guided``."""
    return name.replace("_", " ")


def capitalise(text: str) -> str:
    """The text with its first letter as a capital, and no other changed."""
    return text[:1].upper() + text[1:]


def group_thousands(number: float) -> str:
    """A whole number in groups of three digits, narrow spaces between them."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def write_count(count: int, noun: str) -> str:
    """A count with its noun: ``1 image``, ``40 images``."""
    return f"{group_thousands(count)} {noun}{'' if count == 1 else 's'}"


def join_words(words: list[str]) -> str:
    """A list in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
