"""The number that an answer comes to, whatever words stand before it: `[filter] verify = ["numeric"]`.

    equal("She makes 9 * 2 = $18 a day.\\nA: $18.00", "18")      # True
    equal("There is none.", "18")                               # False
    equal("18", "plenty")                                       # None: the reference is no number

What counts is what stands behind the last mark of an answer (`####`, `A:`, `answer is`, `\\boxed{...}`), else the last number. Plain
numbers are compared as such; what else is mathematics, as `\\frac{1}{2}` or `2\\sqrt{3}`, is left to math-verify, the library that the
field scores with.
"""

import logging
import re
from fractions import Fraction

_MARK = re.compile(r"####|\b(?:final answer|answer|ans|a)(?: is)?\s*[:=]|\banswer is\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"[-+\u2212]?\s?[$\u20ac\u00a3]?\s?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?(?:e[-+]?\d+)?", re.IGNORECASE
)
_MATHS = re.compile(r"[\\^{}]")
MOST = 200
"""Characters of an expression that math-verify is given: it has no bound of time of its own outside the main thread."""


def equal(answer: str, reference: str, tolerance: float = 0.0) -> bool | None:
    """Whether the answer comes to the reference's number, up to a share `tolerance` of it. None where the reference is none.

    Raises:
        MissingError: one of the two is more than a number, and the extra `verify` is not installed.
    """
    wanted, given = final(reference), final(answer)
    if not wanted or (number(wanted) is None and not _MATHS.search(wanted)):
        return None
    first, second = number(wanted), number(given)
    if first is not None and second is not None:
        return abs(first - second) <= abs(first) * Fraction(tolerance)
    if not given or len(given) > MOST or len(wanted) > MOST or not (_MATHS.search(given) or second is not None):
        return False
    return _same(wanted, given)


def final(text: str) -> str:
    """What a text comes to: the first line behind its last mark, or its last number."""
    boxed = text.rfind("\\boxed{")
    if boxed >= 0:
        return _braced(text[boxed + len("\\boxed{") :])
    marks = list(_MARK.finditer(text[-4000:]))
    behind = text[-4000:][marks[-1].end() :].strip() if marks else ""
    line = behind.splitlines()[0].strip(" $.*") if behind else ""
    if _MATHS.search(line) or _NUMBER.search(line):
        return line
    if len(text) <= MOST and _MATHS.search(text):
        return text.strip(" $.*\n")
    found = _NUMBER.findall(text[-4000:])
    return found[-1].strip() if found else ""


def number(text: str) -> Fraction | None:
    """The value of a text that holds one number and no other mathematics, with its words, its currency or a percent sign; None of any
    other."""
    found = _NUMBER.findall(text)
    if not found or _MATHS.search(text):
        return None
    plain = re.sub(r"[\s,$\u20ac\u00a3]", "", found[0]).replace("\u2212", "-")
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None


def _braced(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[:place]
    return text


def _same(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of bounds that it cannot keep in a thread
    try:
        gold, given = (parse(f"${text}$", parsing_timeout=None) for text in (reference, answer))
        return bool(verify(gold, given, timeout_seconds=None))
    except Exception:  # sympy raises of all kinds on what is no mathematics
        return False
