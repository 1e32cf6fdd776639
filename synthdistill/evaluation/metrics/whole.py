"""The whole answer against the reference, or the teacher's: the same, or the same number.

exact_match        as `values.equal` sees it
agreement          with the teacher's answer
numeric            the answer is the reference's number, and nothing stands beside it
numeric_lenient    the number that the answer comes to, whatever words stand before it
"""

from synthdistill import numeric as numbers
from synthdistill.evaluation.metrics.case import BY, Case, Given, against
from synthdistill.evaluation.metrics.values import equal
from synthdistill.records import Score


def exact_match(case: Case, given: Given) -> list[Score]:
    """1 where the answer equals the reference, as `equal` sees it."""
    return [against("exact_match", case.answer, case.reference, "no_reference", lambda a, b: float(equal(a, b)))]


def agreement(case: Case, given: Given) -> list[Score]:
    """1 where the answer equals the teacher's, as `equal` sees it; null where the teacher has none."""
    return [against("agreement", case.answer, case.teacher, "no_teacher_answer", lambda a, b: float(equal(a, b)))]


def numeric(case: Case, given: Given) -> list[Score]:
    """1 where the answer is the reference's number and nothing else; null where the reference comes to no number."""
    return [_number("numeric", case, numbers.equal_whole)]


def numeric_lenient(case: Case, given: Given) -> list[Score]:
    """1 where the answer comes to the reference's number (`numeric.final`); null where the reference comes to none."""
    return [_number("numeric_lenient", case, numbers.equal)]


def _number(name: str, case: Case, alike: numbers.Alike) -> Score:
    if case.reference is None:
        return Score(name, None, "no_reference", BY)
    right = alike(case.answer or "", case.reference)
    if right is None:
        return Score(name, None, "the reference is no number", BY)
    return Score(name, float(right), "no_answer" if case.answer is None else "", BY)
