"""The number that an answer comes to, whatever words stand before it: `[filter] verify = ["numeric"]` and `[eval] metrics`.

    equal("She makes 9 * 2 = $18 a day.\\nA: $18.00", "18")      # True
    equal_whole("$18.00", "18")                                 # True; with a word beside it, False
    equal("There is none.", "18")                               # False
    equal("18", "plenty")                                       # None: the reference is no number

What counts is what stands behind the last mark of an answer (`####`, `A:`, `answer is`, `\\boxed{...}`), else the last number. Plain
numbers are compared as such; what else comes to a number, as `\\frac{1}{2}` or `2\\sqrt{3}`, is read by math-verify, the library that the
field scores with, and compared by value. The library bounds its time by signals, which only the main thread gets, and a bound of time
would judge by how busy a machine is. So it is given only what is soon worked out: roots, fractions and small powers of numbers. A tower
such as `9^{9^{9}}` comes to no number.
"""

import logging
import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from synthdistill.errors import require

_MARK = re.compile(r"####|\b(?:final answer|answer|ans|a)(?: is)?\s*[:=]|\banswer is\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]%])(?<![\w)\]%]\s)[-+\u2212])?\s?[$\u20ac\u00a3]?\s?"  # the hyphen of 3-5 and the minus of 3 - 5 are no signs
    r"(?:\d+ \d+/\d+|(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)
_MATHS = re.compile(r"[\\^{}]")
_BESIDE = re.compile(r"\\(?:left|right)\b|\\[,!;: $%]|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\^\s*(?:\\circ\b|\{\s*\\circ\s*\})|[$%~]")
"""What changes no value: spacing, units, degrees, currency."""
_FORMULA = re.compile(r"(?:\\(?:[cdt]?frac|sqrt|pi|times|cdot|div)(?![A-Za-z])|[-+*/(){}\[\].,\d\s^])+")
_WORDS = re.compile(r"[\s.,;:!?'\"]*+(?:(?:a|[A-Za-z]{2,}+)(?:[\s.,;:!?'\"]++|$))*+")  # possessive: its time grows with the length only
_POWER = re.compile(r"\^\s*(?:(\d{1,3})(?!\d)|\{\s*[-+]?\s*(\d{1,3})\s*(?:/\s*\d{1,3}\s*)?\})(?!\s*\^)")
_SEVERAL = re.compile(r"[(\[].*\d\s*,\s*[-+]?\d.*[)\]]")
"""A point or an interval."""
TAIL = 4000
"""Characters of an answer's end in which its number is looked for."""


Alike = Callable[[str, str], bool | None]
"""Whether an answer comes to the number of a reference; None where that is none."""


def equal(answer: str, reference: str, tolerance: float = 0.0) -> bool | None:
    """Whether the answer comes to the reference's number, up to a share `tolerance` of it. None where the reference is none.

    Raises:
        MissingError: one of the two is more than a number, and the extra `verify` is not installed.
    """
    return _equal(final(answer), reference, tolerance)


def equal_whole(answer: str, reference: str) -> bool | None:
    """As `equal`, of an answer that is the number and nothing else: a currency, a percent sign or a formula's own marks may stand there,
    no word, no working.

    Raises:
        MissingError: as of `equal`.
    """
    text = answer.strip()
    return _equal(text if _is_number(text) else "", reference, 0.0)


def _equal(answer: str, reference: str, tolerance: float) -> bool | None:
    wanted, given = _worth(final(reference)), _worth(answer)
    if wanted is None or _SEVERAL.fullmatch(reference.strip(" $")):
        return None
    if given is None:
        return False
    share = tolerance if wanted.exact and given.exact else max(tolerance, 1e-12)
    return abs(wanted.value - given.value) <= abs(wanted.value) * Fraction(share)


def _is_number(text: str) -> bool:
    """Whether a text is a number, or a formula that comes to one, as a whole."""
    if _NUMBER.fullmatch(text.removesuffix("%").rstrip()):
        return True
    return bool(_MATHS.search(text) and _FORMULA.fullmatch(_BESIDE.sub(" ", text).strip()) and formula(text))


def final(text: str) -> str:
    """What a text comes to: the first line behind its last mark, or its last number."""
    boxed = text.rfind("\\boxed{")
    if boxed >= 0:
        return _result(_braced(text[boxed + len("\\boxed{") :][:TAIL]))
    tail = text[-TAIL:]
    marks = list(_MARK.finditer(tail))
    behind = tail[marks[-1].end() :].strip() if marks else ""
    line = behind.splitlines()[0].strip(" $.*") if behind else ""
    if _MATHS.search(line) or _NUMBER.search(line):
        return _result(line)
    return _last(tail)


def number(text: str) -> Fraction | None:
    """The value of a text that holds one number and no other mathematics, with its words, its currency or a percent sign; None of any
    other, and of one beyond 1e300."""
    found = _NUMBER.search(text)
    if not found or _MATHS.search(text):
        return None
    plain = re.sub(r"[,$\u20ac\u00a3]", "", found.group()).replace("\u2212", "-").strip()
    sign, plain = (-1 if plain.startswith("-") else 1), plain.lstrip("-+ ")
    whole, _, part = plain.partition(" ") if re.fullmatch(r"\d+ \d+/\d+", plain) else ("0", "", plain)
    exponent = re.search(r"e[-+]?(\d+)$", part, re.IGNORECASE)
    if exponent and (len(exponent.group(1).lstrip("0")) > 3 or int(exponent.group(1)) > 300):
        return None
    try:
        return sign * (Fraction(whole) + Fraction(re.sub(r"\s", "", part)))
    except (ValueError, ZeroDivisionError):
        return None


def formula(text: str, *, most: int = 200, digits: int = 20, power: int = 1000) -> str:
    """The one formula in a text that comes to a number and is soon worked out, nothing where there is none: at most so many characters,
    digits of a number, and product of all powers."""
    if len(text) > most or not _MATHS.search(text):
        return ""
    plain = _BESIDE.sub(" ", text.rpartition("=")[2])
    found = [each.strip(" ,.") for each in _FORMULA.findall(plain) if re.search(r"\d|\\pi", each)]
    if len(found) != 1 or not _WORDS.fullmatch(_FORMULA.sub(" ", plain)):
        return ""
    powers = [int(first or second) for first, second in _POWER.findall(found[0])]
    small = len(powers) == found[0].count("^") and math.prod(max(each, 1) for each in powers) <= power
    return found[0] if small and "**" not in found[0] and not re.search(rf"\d{{{digits + 1}}}", found[0]) else ""


def _last(tail: str) -> str:
    """The last number, or the mathematics that it is a part of."""
    lines = tail.split("\n")
    line = next((line.strip(" $.*") for line in reversed(lines) if line.strip()), "")
    if formula(line):
        return line
    words = re.sub(r" ?([-+*/=^\u2212]) ?", r"\1", " ".join(line.split())).split()
    word = next((word for word in reversed(words) if re.search(r"\d", word)), "")
    if _MATHS.search(word):
        return _result(word)
    found = _NUMBER.findall(tail)
    return found[-1].strip() if found else ""


def _result(line: str) -> str:
    """What stands behind the last sign of equality, where that is a number."""
    last = line.rpartition("=")[2]
    return last if _MATHS.search(last) or _NUMBER.search(last) else line


def _braced(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[:place]
    return text


class _Worth(NamedTuple):
    value: Fraction
    exact: bool


def _worth(text: str) -> _Worth | None:
    plain = number(text)
    if plain is not None:
        return _Worth(plain, exact=True)
    maths = formula(text)
    worked_out = _worked_out(maths) if maths else None
    return None if worked_out is None else _Worth(worked_out, exact=False)


@lru_cache(maxsize=4096)
def _worked_out(maths: str, digits: int = 30) -> Fraction | None:
    """The value to so many digits, None of what is no real number. math-verify reads the formula; its `verify` is not asked, which
    simplifies both sides first and takes minutes over some roots in roots."""
    require("math_verify", "verify", "[filter] verify = numeric")
    from math_verify import parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of bounds that it cannot keep in a thread
    try:
        value = parse(f"${maths}$", parsing_timeout=None)[0].evalf(digits, maxn=2 * digits)
        return Fraction(str(value))
    except Exception:  # sympy raises of all kinds on what is no mathematics
        return None
