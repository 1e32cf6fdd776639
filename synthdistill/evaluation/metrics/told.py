"""Scores that somebody else gave, read as metrics: a judge's, a person's, a model's of meanings. Who gave them is not known here.

judge       a model's grade, its scale as 0 to 1
win_rate    student against teacher by a judge that saw them in both orders: 1 a win, 0.5 a tie, 0 a loss
human       a person's rating, 1 to 5 as 0 to 1
semantic    the cosine of what answer and reference mean, at least 0
"""

from synthdistill.evaluation.metrics.case import BY, Case, Given, Metric
from synthdistill.records import Score


def _told(name: str, *, needs_gold: bool = False) -> Metric:
    def metric(case: Case, given: Given) -> list[Score]:
        if needs_gold and case.reference is None:
            return [Score(name, None, "no_reference", BY)]
        return [case.told.get(name, Score(name, None, "not_told", BY))]

    return metric


judge, win_rate, human, semantic = _told("judge"), _told("win_rate"), _told("human"), _told("semantic", needs_gold=True)
