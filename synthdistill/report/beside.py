"""Two runs side by side as one page: the paired differences of their students, the slices that moved, the examples that changed.

    synthdistill report runs/triage/old runs/triage/new       # new/eval/report-beside-old.html

The second run is the one that is looked at; the page lies in its folder.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from synthdistill.evaluation import metrics
from synthdistill.evaluation.two_students import Both, compared
from synthdistill.records import Comparison
from synthdistill.report import answers, charts, html, words
from synthdistill.report.comparisons import ALL, ENOUGH, MOST
from synthdistill.report.examples import Browser, Shelf, shown, slices_of
from synthdistill.report.pairing import Pair, Row, Side
from synthdistill.report.verdict import verdict
from synthdistill.shards import seal
from synthdistill.stages import measures

SHOWS = {"broken": "right before, wrong now", "mended": "wrong before, right now", "changed": "another answer"}
_SURE = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """A metric or a slice: both students, and the one minus the other."""

    label: str
    row: Comparison
    gap: Markup
    few: bool


@dataclass(frozen=True, slots=True)
class Beside:
    """What two runs come to beside each other. `table` is the key figures of both: name, that run, this run."""

    said: str
    score: str
    table: list[tuple[str, str, str]]
    comparisons: list[Comparison]
    moved: list[Comparison]


def beside(pair: Pair) -> Beside:
    """Compare them, by the metrics of the newer run that can be told from an answer alone.

    Raises:
        MissingError: the library of a metric is not installed.
        RecipeError: a function of the user's is gone.
    """
    config = pair.this.manifest.config.get("eval", {})
    names = list(dict.fromkeys([*map(measures.by_row, config.get("metrics", [])), "agreement"]))
    given = measures.prepare(names, config.get("text_fields", []), [row.prompt for row in pair.rows], pair.this.place.base)
    found = compared([_both(row) for row in pair.rows], names, given)
    gold = any(row.prompt.reference is not None for row in pair.rows)
    score = measures.by_row(pair.this.figures.score or names[0])
    score = score if gold and any(row.metric == score for row in found) else "agreement"
    whole = next(row for row in found if row.metric == score and row.slice == ALL)
    return Beside(_sentence(pair, whole), score, _table(pair.that, pair.this), found, _moved(found, score))


def write(pair: Pair) -> Path:
    """Write the page into the evaluation of `pair.this`, and return its path.

    Raises:
        StorageError: it cannot be written.
    """
    found, this, that = beside(pair), pair.this, pair.that
    examples = _examples(pair)
    whole = [row for row in found.comparisons if row.slice == ALL]
    slices = [row for row in found.comparisons if row.metric == found.score and row.slice != ALL]
    page = html.render(
        "beside.html",
        this=this,
        that=that,
        found=found,
        pair=pair,
        verdicts=[(side.label, verdict(side.figures)) for side in (that, this)],
        metrics=_lines(whole, "metric", pair),
        slices=_lines(sorted(slices, key=lambda row: (row.gap is None, row.gap)), "slice", pair),
        examples=examples,
        same=len(pair.rows) - examples.shown - examples.left_out,
        data=Markup(examples.data),
    )
    path = this.place.stage("eval") / f"report-beside-{_file_name(that.label)}.html"
    seal(path, page, rows=1)
    return path


def _both(row: Row) -> Both:
    this, that = metrics.said(row.this), metrics.said(row.that)
    return Both(row.prompt, this, that, metrics.said(row.teacher), slices_of(row.prompt))


def _sentence(pair: Pair, whole: Comparison) -> str:
    count = f"the {words.count(len(pair.rows))} held-out prompts that both students answered"
    this, that = words.short(pair.this.label), words.short(pair.that.label)
    if whole.gap is None:
        return f"On {count} nothing could be scored: {this} and {that} cannot be held against each other."
    between = f"95% {words.span(whole.interval, signed=True)}, " if whole.interval else ""
    known = f" ({between}n = {words.count(whole.n)})"
    side = "above" if whole.gap >= 0 else "below"
    points = words.points(abs(whole.gap)).removeprefix("+")
    return f"On {count}, {this} is {points} points {side} {that} by {words.short(whole.metric)}{known}{_sure_of(whole)}."


def _sure_of(whole: Comparison) -> str:
    if whole.interval is None:
        return ""
    if whole.interval.low > 0 or whole.interval.high < 0:
        return ": it is better" if whole.interval.low > 0 else ": it is worse"
    return ": which is the better one cannot be said"


def _table(that: Side, this: Side) -> list[tuple[str, str, str]]:
    """Figures of each run by itself, on its own held-out rows."""
    rows = [_own(side) for side in (that, this)]
    return [(name, rows[0][name], rows[1][name]) for name in rows[0] if {rows[0][name], rows[1][name]} != {words.NONE}]


def _own(side: Side) -> dict[str, str]:
    figures, student = side.figures, side.figures.system("student")
    kept, gate = figures.retention, figures.gate
    after = figures.calibration.after if figures.calibration else None
    return {
        "Score retained": words.NONE if kept is None else f"{words.share(kept.value)} ({words.span(kept.interval)})",
        "Gate": words.NONE if gate is None or gate.passed is None else "passed" if gate.passed else "not passed",
        "Score": f"{words.share(student.score)} by {words.short(figures.score or 'none')}",
        "Held-out rows": words.count(figures.n),
        "Parameters": words.large(student.parameters),
        "Tokens/s": words.count(student.tokens_per_s),
        "Latency, p50": words.milliseconds(student.p50),
        "Memory": words.megabytes(student.memory_mb),
        "1,000 answers": words.dollars(student.usd_per_1k),
        "Calibration error": words.share(after.ece) if after else words.NONE,
        "Evaluated": side.manifest.finished[:10],
    }


def _moved(found: list[Comparison], score: str) -> list[Comparison]:
    """Slices of the score whose gap is surely not 0, the greatest first: by the adjusted p where there is one, else by the interval."""
    slices = [row for row in found if row.metric == score and row.slice != ALL and row.gap is not None and row.n >= ENOUGH]
    return sorted((row for row in slices if _sure(row)), key=lambda row: -abs(row.gap or 0.0))


def _sure(row: Comparison) -> bool:
    if row.p_adjusted is not None:
        return row.p_adjusted < _SURE
    return row.interval is not None and (row.interval.low > 0 or row.interval.high < 0)


def _lines(rows: list[Comparison], label: str, pair: Pair) -> dict[str, Any]:
    """Rows that share an axis."""
    rows = [row for row in rows if row.n]
    reach = charts.gap_reach(rows, ENOUGH)
    what = f"{words.short(pair.this.label)} minus {words.short(pair.that.label)}"
    lines = [Line(words.short(getattr(row, label)), row, charts.gap(row, reach, what), row.n < ENOUGH) for row in rows[:MOST]]
    return {"rows": lines, "axis": charts.axis(reach, signed=True), "more": len(rows) - len(lines)}


def _examples(pair: Pair) -> Browser:
    """Those on which the two say something else: broken ones first."""
    ranked = []
    for row in pair.rows:
        gold = None if row.prompt.reference is None else answers.of_text(row.prompt.reference)
        that, this, teacher = answers.of(row.that), answers.of(row.this), answers.of(row.teacher)
        if this.equals(that) or (this.text, this.counts) == (that.text, that.counts):
            continue
        right = [each.equals(gold or teacher) for each in (that, this)]
        kind = {(True, False): "broken", (False, True): "mended"}.get((right[0], right[1]), "changed")
        first = {"gold": gold} if gold is not None else {}
        said = first | {"teacher": teacher, f"run {pair.that.label}": that, f"run {pair.this.label}": this}
        ranked.append((list(SHOWS).index(kind), row.prompt.id, shown(row.prompt, said) | {"is": [kind]}))
    shelf = Shelf(SHOWS)
    for _, _, example in sorted(ranked, key=lambda each: each[:2]):
        shelf.rows.append(json.dumps(example, ensure_ascii=False, separators=(",", ":")))
        shelf.names.append(frozenset(example["slices"]))
    return shelf.browser()


def _file_name(label: str) -> str:
    return re.sub(r"[^\w.-]", "-", label)[:80]
