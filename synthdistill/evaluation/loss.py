"""What a copy of the student loses: both on the same prompts, scored alike, paired.

found = compared(prompts, copy, student, teacher, ["json_fields"], score="json_fields")
found["gap"]                                       # {"value": -0.004, "interval": {"low": -0.011, "high": 0.003}, "reason": None}

The answers are by prompt id. A gap is the copy's score minus the student's, in units of the score: below 0, the copy is worse.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from synthdistill.evaluation import metrics
from synthdistill.evaluation.comparison import as_dict, cluster_of, rounded
from synthdistill.evaluation.report import answered
from synthdistill.evaluation.statistics import Paired, bootstrap
from synthdistill.records import Completion, Failure, Prompt

COPY, STUDENT = 0, 1
Answers = Mapping[str, Completion | Failure]


def compared(
    prompts: Sequence[Prompt],
    copy: Answers,
    student: Answers,
    teacher: Answers,
    names: Sequence[str],
    *,
    score: str,
    given: metrics.Given = metrics.NOTHING,
) -> dict[str, Any]:
    """n, score; the copy's and the student's mean by it, their gap with its interval; `same`: the share of answers that are the same text,
    ended alike; `metrics`: the same of each metric and its parts; how the copy's answers ended."""
    import numpy as np

    rows = [[_scores(prompt, said.get(prompt.id), teacher, names, given) for said in (copy, student)] for prompt in prompts]
    columns = list(dict.fromkeys(name for pair in rows for scores in pair for name in scores))
    values_NMS = np.array(
        [[[np.nan if (value := scores.get(name)) is None else value for scores in pair] for name in columns] for pair in rows],
        dtype=np.float64,
    ).reshape(len(rows), len(columns), 2)
    clusters = [cluster_of(prompt) for prompt in prompts]
    by_metric = {name: _gap(paired) for name, paired in zip(columns, bootstrap(values_NMS, clusters), strict=True)}
    alike = [[[float(_same(copy.get(prompt.id), student.get(prompt.id))), 1.0]] for prompt in prompts]
    same = bootstrap(np.array(alike, dtype=np.float64).reshape(len(alike), 1, 2), clusters)[0]
    return {
        "score": score,
        **by_metric[score],
        "same": as_dict(same.ratio(0, 1, whole=True)) | {"n": same.n},
        "metrics": by_metric,
        "answers": answered(copy, [prompt.id for prompt in prompts]),
    }


def _scores(
    prompt: Prompt, said: Completion | Failure | None, teacher: Answers, names: Sequence[str], given: metrics.Given
) -> dict[str, float | None]:
    case = metrics.Case(_text(said), prompt.reference, _text(teacher.get(prompt.id)), prompt)
    return {score.name: score.value for name in names for score in metrics.measure(name, case, given)}


def _text(answer: Completion | Failure | None) -> str | None:
    return metrics.said(answer) if isinstance(answer, Completion) else None


def _gap(paired: Paired) -> dict[str, Any]:
    return {
        "n": paired.n,
        "unscored": paired.unscored,
        "copy": rounded(paired.mean(COPY)),
        "student": rounded(paired.mean(STUDENT)),
        "gap": as_dict(paired.gap(COPY, STUDENT)),
    }


def _same(one: Completion | Failure | None, other: Completion | Failure | None) -> bool:
    """Whether both are answers with the same words, tool calls and end."""
    if not isinstance(one, Completion) or not isinstance(other, Completion):
        return False
    return (one.text, one.tool_calls, one.finish) == (other.text, other.tool_calls, other.finish)
