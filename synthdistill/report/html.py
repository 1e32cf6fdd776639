"""A page that needs nothing but itself: one style, one script, and a policy that lets no other run.

    text = render("page.html", verdict=..., examples=...)

Whatever is no Markup is escaped, and a name that is not there is an error, never an empty place.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from synthdistill.report import charts, words

_ROOM = Path(__file__).parent
_UNFIT = dict.fromkeys([0, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_FILTERS = ("share", "points", "count", "large", "dollars", "seconds", "chance", "short")


def render(template: str, **values: Any) -> bytes:
    """A page as it lies on disk. What no HTML can hold (NUL, half of a surrogate pair) is replaced, and so are marks that turn the
    direction of what follows: one that is not closed reaches beyond the element that a browser isolates."""
    style, script = (_ROOM / "page.css").read_text(encoding="utf-8"), (_ROOM / "page.js").read_text(encoding="utf-8")
    text = (
        _environment()
        .get_template(template)
        .render(
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
            style=Markup(style),
            script=Markup(script),
            mark=charts.mark,
            words=words,
            **values,
        )
    )
    return text.translate(_UNFIT).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    found = Environment(loader=FileSystemLoader(_ROOM), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {name: getattr(words, name) for name in _FILTERS}
    return found


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
