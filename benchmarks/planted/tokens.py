"""Words as the filter compares them, the plain way: `str.translate` and `str.split` for ASCII, a regular expression for the rest.

    spoken("My top-up: why did it fail?")      # my, top, up, why, did, it, fail

The alternatives are fed with it, and truth is counted in it: the words of `synthdistill.quality.kernel.spoken`, by other code.
"""

import re
import string
import unicodedata
from functools import cache

_MEANT = frozenset("*/%#@&\\")
_DROPPED = frozenset(string.punctuation) - _MEANT - set("_$+<=>^`|~")
_ASCII = {
    code: " " if chr(code) in _DROPPED else f" {chr(code)} "
    for code in range(128)
    if not (chr(code).isalnum() or chr(code).isspace() or chr(code) in "_'")
}
"""Twice as fast as a regular expression."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_OTHER = re.compile(rf"(?:[^\W{_UNSPACED}]|')+|[{_UNSPACED}]|[^\w\s]")


def folded(text: str) -> str:
    """Without regard to case and Unicode form."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")


def spoken(text: str) -> list[str]:
    """The words of a text, without punctuation; signs that carry meaning are words."""
    text = folded(text)
    if text.isascii():
        found = text.translate(_ASCII).split()
    else:
        found = [word for word in _OTHER.findall(text) if len(word) > 1 or word.isalnum() or _carries(word)]
    if "'" in text:
        found = [word for word in (word.strip("'") for word in found) if word]
    return [word for word in found if word != "_"] if "_" in text else found


@cache
def _carries(sign: str) -> bool:
    return sign in _MEANT or not unicodedata.category(sign).startswith("P")
