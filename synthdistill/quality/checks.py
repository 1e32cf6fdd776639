"""A check: what is measured of an answer, and between which bounds the measure keeps it. `[filter] rules` and `verify` name checks.

    check = rule("no_repetition:most=4")
    score = check.measure(completion, prompt)        # Score("no_repetition", 3.1, "", "rules")
    check.keeps(score)                               # True

A measure does not know its bounds. So it is taken once, lies on disk, and is held against other bounds later without being taken again.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from synthdistill.records import Completion, Prompt, Score

Measure = Callable[[Completion, Prompt], Score]
"""What a check finds in one answer, beside what was asked. A value of None: it could not tell, and the reason says why."""

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Check:
    """One judgement by name. A check that only says yes or no measures 1.0 and 0.0."""

    name: str
    """As in scores and reasons: `no_repetition`."""
    measure: Measure
    key: str
    """Two checks with the same key measure the same: the name, and whatever of the argument or of a file changes the measure."""
    least: float = -math.inf
    most: float = math.inf
    by: str = "rules"

    def keeps(self, score: Score) -> bool:
        """Whether a row with this score stays. One that could not be judged does, and is counted."""
        return score.value is None or self.least <= score.value <= self.most

    def told(self, score: Score) -> Score:
        """The score of a row that is dropped, with what would have kept it."""
        if score.value is None or (self.least == 1.0 and score.value == 0.0):
            return score
        wanted = [f"at least {self.least:g}"] * (score.value < self.least) + [f"at most {self.most:g}"] * (score.value > self.most)
        return replace(score, reason=", ".join([*filter(None, [score.reason or f"{score.value:g}"]), *wanted]))


def yes_or_no(name: str, measure: Measure, key: str | None = None) -> Check:
    """A check that keeps 1.0 and drops 0.0."""
    return Check(name, measure, key or name, least=1.0)


def chosen(spec: str, registry: Mapping[str, Factory], noun: str) -> tuple[Factory, str]:
    """The factory and the argument of `name` or `name:argument`.

    Raises:
        ValueError: the name is not known; names the nearest one.
    """
    name, _, argument = spec.partition(":")
    if name in registry:
        return registry[name], argument
    near = difflib.get_close_matches(name, registry, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(registry))}"
    raise ValueError(f"{name!r} is no {noun}; {hint}")


def bare(name: str, argument: str) -> None:
    """Refuse an argument where there is none to give.

    Raises:
        ValueError: there is one.
    """
    if argument:
        raise ValueError(f"{name!r} takes no argument, given {argument!r}; write {name!r}")


def thresholds(name: str, argument: str, **defaults: float) -> dict[str, float]:
    """The numbers of an argument such as `most=4,least=80`, the defaults for those that it does not name.

    Raises:
        ValueError: a part is no `threshold=number`, or no threshold has that name; says which there are.
    """
    found = dict(defaults)
    for part in filter(None, argument.split(",")):
        key, equals, value = part.partition("=")
        try:
            found[key.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or key.strip() not in defaults or not math.isfinite(found[key.strip()]):
            example = ",".join(f"{known}={default:g}" for known, default in defaults.items())
            raise ValueError(f"{name} takes numbers by name, as in '{name}:{example}', given {part!r}")
    return found
