"""How figures are said: shares as percentages, gaps in points, money, time and chance.

share(0.9612) == "96.1%"
"""

from synthdistill.records import Interval

NONE = "\u2013"
"""Stands where there is no figure."""
LONGEST = 120
"""Characters of a name."""
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def share(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    return NONE if value is None else _minus(f"{_unsigned_zero(value * 100, digits):.{digits}f}%")


def short_share(value: float) -> str:
    """A share without needless zeros: 92%, 92.5%."""
    return _minus(f"{round(value * 100, 1):g}%")


def points(value: float | None) -> str:
    """A difference of two shares, signed, in points."""
    return NONE if value is None else _minus(f"{_unsigned_zero(value * 100, 1):+.1f}")


def span(interval: Interval | None, *, signed: bool = False) -> str:
    """An interval of shares or of gaps: `94.2 to 97.6`."""
    if interval is None:
        return "no interval"
    ends = (interval.low, interval.high)
    return " to ".join(points(end) if signed else share(end).removesuffix("%") for end in ends)


def count(value: int | float | None) -> str:
    """A whole number with its thousands apart."""
    return NONE if value is None else _minus(f"{value:,.0f}")


def large(value: int | None) -> str:
    """A number of parameters: 3.9M, 32.8B."""
    if value is None:
        return NONE
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def megabytes(value: float | None) -> str:
    """Memory: 870 MB, 14.2 GB."""
    if value is None:
        return NONE
    return f"{value / 1000:.3g} GB" if value >= 1000 else f"{value:.0f} MB"


def chance(value: float | None) -> str:
    """A p-value: 0.032, < 0.001."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def times(value: float | None) -> str:
    """A factor: 2.4\u00d7."""
    return NONE if value is None else f"{value:.3g}\u00d7"


def dollars(value: float | None) -> str:
    """Dollars, with as many digits as small prices need."""
    if value is None:
        return NONE
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.3g}"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 42 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(value: float | None) -> str:
    """A latency: 8.4 ms, 120 ms, 2.3 s."""
    if value is None:
        return NONE
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


def ratio(value: float) -> str:
    """A part of something as a percentage of two digits at least: 22%, 0.41%, 130%."""
    return f"{value * 100:.0f}%" if value >= 0.1 else f"{value * 100:.2g}%"


def cost_ratio(value: float) -> str:
    """What the student costs beside its teacher: `22% of its cost`, `1.3 times its cost`."""
    return f"{value:.2g} times its cost" if value >= 1.1 else f"{ratio(value)} of its cost"


def role(name: str) -> str:
    """What a system is called."""
    return "in use" if name == "current" else short(name)


def short(name: str) -> str:
    """A name on one line that is not too long to be shown; what no file can hold is replaced."""
    name = " ".join(name.encode("utf-8", "replace").decode().replace("\0", "\ufffd").split()) or "(empty)"
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026"


def with_n(text: str, n: int | None) -> str:
    """What is said, with the number of rows that it rests on."""
    return text if n is None else f"{text}, n = {count(n)}"


def _unsigned_zero(value: float, digits: int) -> float:
    return round(value, digits) + 0.0


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")
