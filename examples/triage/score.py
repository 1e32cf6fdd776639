"""Score an answer against the truth: the mean over five fields, 0 for an answer that cannot be parsed.

    from examples.triage.score import score
    score('{"intent":"refund",...}', row["label"])

Intent, product, order and urgency count when they are exactly right; the summary counts by token F1.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

FIELDS = ("intent", "product", "order", "urgency", "summary")


def parse(answer: str) -> dict[str, Any] | None:
    """The answer as a JSON object, or None."""
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def token_f1(answer: str, truth: str) -> float:
    """F1 over the bags of lower-cased words."""
    given, wanted = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, truth))
    common = sum((given & wanted).values())
    return 2 * common / (sum(given.values()) + sum(wanted.values())) if common else 0.0


def field_scores(answer: str, label: str) -> dict[str, float]:
    """The score of each field."""
    given, truth = parse(answer), json.loads(label)
    if given is None:
        return dict.fromkeys(FIELDS, 0.0)
    missing = object()
    scores = {field: float(given.get(field, missing) == truth[field]) for field in FIELDS[:-1]}
    return scores | {"summary": token_f1(str(given.get("summary", "")), truth["summary"])}


def score(answer: str, label: str) -> float:
    """The score of a row."""
    return sum(field_scores(answer, label).values()) / len(FIELDS)
