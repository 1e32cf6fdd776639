"""Whether an answer can be taught as the recipe wants it: in the form that was asked for, with the trace that the student shall learn.

funnel.apply("response", lambda rows: formed(rows, "json_schema"))      # drops as response:json_schema
funnel.apply("reasoning", lambda rows: reasoned(rows, "trace"))         # drops as reasoning:no_trace
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from synthdistill.quality.damage import damage
from synthdistill.quality.funnel import Fate, Row
from synthdistill.records import Score
from synthdistill.thinking import Learns, lesson


def response_kind(generated: Mapping[str, Any]) -> str | None:
    """The kind of `[generate] response` in the config of a generate stage's manifest, None without one."""
    return next(iter(generated.get("generate", {}).get("response", ())), None)


def formed(rows: list[Row], kind: str) -> dict[str, Fate]:
    """Drop what `generate` found not to keep to the response format; its words are in the score."""
    fates = {}
    for row in rows:
        invalid = row.completion.invalid
        row.scores.append(Score("response", 1.0 if invalid is None else 0.0, invalid or "", kind))
        if invalid is not None:
            fates[row.id] = Fate(f"response:{kind}")
    return fates


def reasoned(rows: list[Row], learns: Learns) -> dict[str, Fate]:
    """Drop answers without the trace or rationale (`no_trace`, `no_rationale`), with a damaged one, and with one that spells a mark of
    thinking itself, so that a student's answer could not be parted from it."""
    fates = {}
    for row in rows:
        trace = row.completion.reasoning or ""
        fault = damage(replace(row.completion, text=trace)) if trace.strip() else f"no_{learns}"
        fault = fault or ("spells_mark" if lesson(trace, row.completion.text) is None else "")
        if fault:
            fates[row.id] = Fate(f"reasoning:{fault}")
    return fates
