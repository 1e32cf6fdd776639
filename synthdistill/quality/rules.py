"""Rules: what can be said of an answer beside its prompt, without a gold answer or a model. `[filter] rules` names them.

    check = rule("no_repetition:most=4")
    score = check.measure(completion, prompt)        # Score("no_repetition", 3.1, "", "rules")
    check.keeps(score)                               # True

`RULES` is the list of them; each stands in the file of its noun, as a function with its thresholds by name.
"""

from collections.abc import Callable

from synthdistill.quality.checks import Check, bare, chosen, thresholds
from synthdistill.quality.damage import damage as damage
from synthdistill.quality.echo import no_echo
from synthdistill.quality.extent import finished, length, not_empty, words
from synthdistill.quality.language import language
from synthdistill.quality.refusal import no_refusal
from synthdistill.quality.repetition import no_repeated_ngrams, no_repetition
from synthdistill.quality.traces import no_think_tags


def rule(spec: str) -> Check:
    """The check of a name such as `finished`, `length:1-2000` or `no_echo:most=0.3`.

    Raises:
        ValueError: there is no such rule, or its argument is wrong; the text says what would be right.
    """
    factory, argument = chosen(spec, RULES, "rule")
    return factory(argument)


def _plain(name: str, factory: Callable[[], Check]) -> Callable[[str], Check]:
    """A rule without an argument."""

    def build(argument: str) -> Check:
        bare(name, argument)
        return factory()

    return build


def _tuned(name: str, factory: Callable[..., Check], *names: str) -> Callable[[str], Check]:
    """A rule whose argument may set those thresholds; the defaults are the function's own."""
    defaults = {key: default for key, default in (factory.__kwdefaults__ or {}).items() if key in names}

    def build(argument: str) -> Check:
        return factory(**thresholds(name, argument, **defaults))

    return build


RULES: dict[str, Callable[[str], Check]] = {
    "finished": _plain("finished", finished),
    "not_empty": _plain("not_empty", not_empty),
    "length": length,
    "words": words,
    "no_refusal": _plain("no_refusal", no_refusal),
    "no_repetition": _tuned("no_repetition", no_repetition, "most"),
    "no_repeated_ngrams": _tuned("no_repeated_ngrams", no_repeated_ngrams, "n", "most"),
    "no_think_tags": _plain("no_think_tags", no_think_tags),
    "no_echo": _tuned("no_echo", no_echo, "most"),
    "language": language,
}
