"""What makes a new run due, rule by rule, as a table that a person reads.

for rule in rules(config.when, facts): rule.name, rule.found, rule.wanted, rule.due
"""

from dataclasses import dataclass, field
from typing import Any

from synthdistill.redistill.state import Look
from synthdistill.upkeep import When

NEVER = "-"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at a call. Times are in seconds."""

    in_use: bool
    new_prompts: int = 0
    since_last_s: float | None = None
    """Since a run was last decided about; None where none was."""
    changed: list[str] = field(default_factory=list)
    look: Look | None = None
    next_look_s: float | None = None
    """Until the next look may be taken; 0 or less where it waits for requests only."""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: what was found, what makes it due, and whether it is."""

    name: str
    found: str
    wanted: str
    due: bool
    why: str = ""
    """The reason, for the history and the notice."""

    def cells(self) -> list[str]:
        """The row as it is drawn."""
        return [self.name, self.found, self.wanted, "due" if self.due else ""]


def rules(when: When, facts: Facts) -> list[Rule]:
    """Every rule that the recipe has, and those that are always there."""
    found = [Rule("by hand", "yes", "--now", True, "by hand")] if facts.by_hand else []
    if not facts.in_use and facts.since_last_s is None:
        found.append(Rule("first", "no student is in use", "one is", True, "no student is in use yet"))
    if when.new_prompts is not None:
        due = facts.new_prompts >= when.new_prompts
        found.append(Rule("new prompts", f"{facts.new_prompts}", f"{when.new_prompts}", due, f"{facts.new_prompts} new prompts"))
    if when.days is not None:
        found.append(_days(when.days, facts.since_last_s))
    if when.drift is not None:
        found.append(_drift(when, facts))
    if when.agreement is not None:
        found.append(_agreement(when, facts))
    if when.changed:
        shown = "; ".join(facts.changed) or "nothing"
        found.append(Rule("recipe", shown, "a change", bool(facts.changed), f"changed: {shown}"))
    return found


def _days(days: float, since_s: float | None) -> Rule:
    if since_s is None:
        return Rule("days", NEVER, f"{days:g}", False)
    passed = max(0.0, since_s) / 86_400
    return Rule("days", f"{passed:.1f}", f"{days:g}", passed >= days, f"{passed:.0f} days since the last run")


def _drift(when: When, facts: Facts) -> Rule:
    assert when.drift is not None
    wanted = f"p <= {when.drift.p:g} and share >= {when.drift.share:.0%}"
    look = facts.look
    if look is None or look.drift is None:
        return Rule("drift", _waiting(facts), wanted, False)
    told = drift_told(look.drift)
    due = look.drifted and facts.new_prompts > 0  # with nothing new to train on, a new run would be the old one
    return Rule("drift", f"{told}; {_waiting(facts)}", wanted, due, f"drift: {told}")


def drift_told(drift: dict[str, Any]) -> str:
    """A look in a line: p, the share of new traffic, the words, slices and labels that tell."""
    share = drift["share"]
    words = [word["word"] for word in drift["words"][:5]]
    slices = [f"{each['field']}={each['value']} {each['before']:.0%} -> {each['now']:.0%}" for each in drift["slices"][:2]]
    labels = [f"unseen answer {each['label']}" for each in drift["labels"][:2]]
    told = ", ".join([*words, *slices, *labels])
    return f"p {drift['p']:.2g}, {share['value']:.0%} new ({share['low']:.0%} to {share['high']:.0%})" + (f": {told}" if told else "")


def _agreement(when: When, facts: Facts) -> Rule:
    assert when.agreement is not None
    wanted = f"surely below {when.agreement.min:.0%}"
    look = facts.look
    if look is None or look.agreement is None or look.agreement["share"] is None:
        return Rule("agreement", _waiting(facts), wanted, False)
    told = f"{look.agreement['share']:.0%} of {look.agreement['n']}, p {look.agreement['p']:.2g}"
    return Rule("agreement", f"{told}; {_waiting(facts)}", wanted, look.disagreed, f"agreement with the teacher: {told}")


def _waiting(facts: Facts) -> str:
    if facts.next_look_s is None:
        return "never looked"
    hours = facts.next_look_s / 3600
    return f"next look in {hours:.1f} h" if hours > 0 else "next look with new requests"
