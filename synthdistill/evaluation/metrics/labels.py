"""Answers that are one of a closed set: the set is that of all references. Strict and lenient are two metrics.

choice            the answer is the reference's choice, and nothing stands beside it
choice_lenient    the choice is taken out of a running text (`choices.Choices.found`)
macro_f1          of a row, as `choice`; of several `evaluation/macro_f1.py` makes the mean of F1 over labels
"""

from collections.abc import Callable

from synthdistill.evaluation.metrics.case import BY, Case, Given
from synthdistill.evaluation.metrics.choices import Choices
from synthdistill.evaluation.metrics.values import key
from synthdistill.records import Score

_Read = Callable[[Choices, str], str | None]


def choice(case: Case, given: Given) -> list[Score]:
    """1 where the answer is the reference; null where the references are no closed set."""
    return [_chosen("choice", case, given, Choices.given)]


def choice_lenient(case: Case, given: Given) -> list[Score]:
    """1 where the choice that the answer's text gives is the reference; null where the references are no closed set."""
    return [_chosen("choice_lenient", case, given, Choices.found)]


def macro_f1(case: Case, given: Given) -> list[Score]:
    """Of one row, whether its label is right."""
    return [_chosen("macro_f1", case, given, Choices.given)]


def label(text: str | None, given: Given) -> str | None:
    """What `macro_f1` counts a reference or an answer as; None for an answer that is none of the set."""
    return None if text is None or given.choices is None else given.choices.given(text)


def _chosen(name: str, case: Case, given: Given, read: _Read) -> Score:
    if case.reference is None:
        return Score(name, None, "no_reference", BY)
    if given.choices is None or not given.choices.closed:
        many = "" if given.choices is None else f": {len(given.choices.keys)} different ones among {given.choices.count}"
        return Score(name, None, f"the references are no closed set{many}", BY)
    if case.answer is None:
        return Score(name, 0.0, "no_answer", BY)
    chosen = read(given.choices, case.answer)
    if chosen is None:
        return Score(name, 0.0, "none of the choices", BY)
    return Score(name, float(chosen == key(case.reference)), "", BY)
