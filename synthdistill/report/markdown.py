"""A run as a few lines of Markdown, for a pull request: the verdict, the key figures, the checks of the gate, the slices that fail.

    synthdistill report runs/triage/main --markdown - | gh pr comment --body-file -

Names come from data and models. Whatever could be Markdown or HTML in one is written as a character reference, which every renderer shows
as the character and none reads as markup, in tables as elsewhere; nobody is notified and nothing becomes a link.
"""

import re
from collections.abc import Sequence

from synthdistill.report import words
from synthdistill.report.beside import Beside
from synthdistill.report.figures import Figures
from synthdistill.report.gate import Line, checks
from synthdistill.report.keys import key_figures
from synthdistill.report.saving import sentences
from synthdistill.report.slices import Row, slices
from synthdistill.report.verdict import verdict

_HARMLESS = re.compile(r"[A-Za-z0-9 ,.;%+/()=\u2013\u2212\u2019\u00d7\u2026-]|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])|:(?= |$)")
"""An underscore within a word emphasises nothing, and a colon before a space begins neither a link nor an emoji."""
_LINKS = re.compile(r"www(?=\.)", re.IGNORECASE)
_MOST = 10


def summary(name: str, run: str, figures: Figures, found: Beside | None = None, beside: str = "") -> str:
    """The whole text. `found`: what the run comes to beside another, whose name is `beside`."""
    parts = [
        f"## {_icon(figures)} {escape(words.short(name))}, run {escape(words.short(run))}",
        f"**{escape(verdict(figures))}**",
        *_beside(found, run, beside),
        _table(("figure", "value", "rests on"), [(key.name, key.value, key.rests_on) for key in key_figures(figures)]),
        "\n".join(f"- {escape(line.about)}: {escape(line.text)}" for line in sentences(figures)),
        "### Gate",
        *_gate(checks(figures)),
        *_slices(figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text as Markdown that is that text and nothing else, on one line."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    text = "".join(each if _HARMLESS.match(text, place) else _character(each) for place, each in enumerate(text))
    return _LINKS.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", text)


def _character(each: str) -> str:
    if not each.isprintable():  # marks that turn the direction of what follows are among these
        return "\ufffd"
    if ord(each) > 127:
        return each
    reference = f"&#{ord(each)};"
    return f"{reference}&#8203;" if each in "@#" else reference  # a name or an issue after it would be linked


def _icon(figures: Figures) -> str:
    passed = figures.gate.passed if figures.gate else None
    return {True: "\u2705", False: "\u274c", None: "\u2139\ufe0f"}[passed]


def _beside(found: Beside | None, run: str, beside: str) -> list[str]:
    if found is None:
        return []
    moved = [(row.slice, words.points(row.gap), words.span(row.interval, signed=True), words.count(row.n)) for row in found.moved[:_MOST]]
    return [
        escape(found.said),
        _table(("", words.short(beside), words.short(run)), found.table),
        _table(("slice that moved", "difference, points", "95% interval", "n"), moved) if moved else "No slice moved for sure.",
    ]


def _gate(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return ["No gate is set."]
    rows = [
        (
            "\u2705" if line.passed else "\u274c",
            f"{line.name}, {line.rests_on}" if line.rests_on else line.name,
            line.found,
            line.asked,
            words.count(line.n),
        )
        for line in lines
    ]
    return [_table(("", "check", "found", "asked for", "n"), rows)]


def _slices(figures: Figures) -> list[str]:
    """Slices that the gate refuses, and those in which the student is surely worse."""
    listed = [row for group in slices(figures).groups for row in group.rows if _fails(row)]
    if not listed:
        return []
    rows = [
        (
            f"{row.label} ({row.words})" if row.words else row.label,
            words.share(row.row.student),
            words.share(row.row.teacher),
            words.points(row.row.gap),
            words.span(row.row.interval, signed=True),
            words.chance(row.row.p_adjusted),
            words.count(row.row.n),
        )
        for row in listed[:_MOST]
    ]
    more = [f"{len(listed) - _MOST} more are in the report."] if len(listed) > _MOST else []
    columns = ("slice", "student", "teacher", "gap, points", "95% interval", "p, adjusted", "n")
    return ["### Slices that fail", _table(columns, rows), *more]


def _fails(row: Row) -> bool:
    return row.gated is False or (row.sure and (row.row.gap or 0.0) < 0)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [[escape(cell) or " " for cell in row] for row in (columns, *rows)]
    lines.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
