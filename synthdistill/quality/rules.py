"""Rules: what can be said of an answer without knowing what was asked. `[filter] rules` names them.

    judge = rule("length:1-2000")
    judge(completion).value          # 1.0 keep, 0.0 drop, None could not judge (kept, and counted)

A name with an argument is written `name:argument`. `RULES` is the list of them.
"""

import difflib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from synthdistill.records import Completion, Score

Rule = Callable[[Completion], Score]
"""Judges one answer: 1.0 keeps it, 0.0 drops it, None could not tell. The reason is for a person."""

Factory = TypeVar("Factory", bound=Callable[..., Any])

_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga gcf gcr gd "
    "gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk "
    "ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl "
    "tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu"
)
LANGUAGES = frozenset(_CODES.split())
"""What py3langid tells apart; a literal, so that a recipe is checked without loading its model."""

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2018": "'"})
_UNABLE = (
    r"(?:can't|cannot|can not|won't|will not|(?:won't|will not) be able to|(?:am|'m) (?:unable|not able) to"
    r"|(?:must|have to) (?:decline|refuse) to)"
)
_HELPING = r"(?:help|assist)(?: you)? with (?:that|this|it\b|your request|such)|comply|do (?:that|this)\b|fulfil?l (?:that|this|your|such)"
_MAKING = r"(?:provide|generate|create|write|produce|answer|discuss|engage in|share|complete) (?:that|this|such|any|content|your) "
_REFUSAL = re.compile(
    rf"(?:(?:(?:i'm|i am) (?:\w+ )?sorry|sorry|(?:i'm|i am) afraid(?: that)?|unfortunately"
    rf"|i apologi[sz]e|apologies|my apologies)[,.;:]? ?(?:but |however,? )?)?"
    rf"(?:i ?{_UNABLE} (?:{_HELPING}|{_MAKING}(?:\w+ )?(?:request|question|content|material|information|kind|type))"
    r"|as an? (?:ai|artificial intelligence|large language model|language model)\b[\w ]*,? i\b"
    r"|i(?:'m| am) (?:just )?an? (?:ai|artificial intelligence|large language model|language model)\b)"
)


def rule(spec: str) -> Rule:
    """The rule of a name such as `finished` or `length:1-2000`.

    Raises:
        ValueError: there is no such rule, or its argument is wrong; the text says what would be right.
    """
    factory, argument = chosen(spec, RULES, "rule")
    return factory(argument)


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


def damage(completion: Completion) -> str:
    """What makes an answer unfit to be text at all: `surrogate`, `nul`, `replacement_character`, or nothing.

    U+FFFD stands where a lone surrogate was mended on the way to disk, or where a model's bytes were cut in a character.
    """
    text = completion.text
    if completion.tool_calls:
        text += "\n".join(_strings(completion.tool_calls))
    if "\0" in text:
        return "nul"
    if text.isascii():
        return ""
    if "\ufffd" in text:
        return "replacement_character"
    return "surrogate" if any("\ud800" <= character <= "\udfff" for character in text) else ""


def finished() -> Rule:
    """The model ended its turn by itself; it was not cut at max_tokens, refused or broken off."""

    def judge(completion: Completion) -> Score:
        ended = completion.finish in ("stop", "tool_calls")
        return _score("finished", ended, f"finish is {completion.finish}")

    return judge


def not_empty() -> Rule:
    """The answer has a visible character, or a tool call."""

    def judge(completion: Completion) -> Score:
        visible = any(character.isprintable() and not character.isspace() for character in completion.text)
        return _score("not_empty", visible or bool(completion.tool_calls), "no visible character")

    return judge


def no_refusal(*, window: int = 200) -> Rule:
    """The answer does not begin as a model's refusal of the task; `window` characters are looked at.

    Meant to miss rather than to hit: what is looked for is a model speaking of itself or declining the request as such. "We cannot
    refund", "I can't find your order" and a JSON answer about somebody who cannot log in are answers, not refusals.
    """

    def judge(completion: Completion) -> Score:
        if completion.finish == "refusal":
            return _score("no_refusal", False, "the model's own refusal mark")
        start = completion.text.lstrip()[:window].translate(_APOSTROPHES).lower()
        found = _REFUSAL.match(start)
        return _score("no_refusal", found is None, f"begins: {found[0]}" if found else "")

    return judge


def no_repetition(*, most: float = 5.0, window: int = 1000, least: int = 80) -> Rule:
    """The answer does not loop: no `window` bytes of it shrink under zlib by more than `most` times.

    The measure is Whisper's (Radford et al. 2022, arXiv 2212.04356, section 4.5: bytes / zlib bytes, over 2.4 is taken for a loop), but
    a ratio grows with the length of a text, and step-by-step reasoning is wordy: of GSM8K's human solutions 84 are over 2.4, one
    reaches 3.2. Hence a window, and 5.0, which a sentence of up to 170 bytes said over and over passes. A JSON answer repeats its keys
    by nature; when one is over the limit only its strings count. Texts under `least` bytes are too short to loop.
    """

    def ratio(text: str) -> float:
        data = text.encode("utf-8", "replace")
        starts = range(0, max(1, len(data) - window // 2), window // 2)
        return max((_shrinks(data[start : start + window]) for start in starts if len(data) >= least), default=0.0)

    def judge(completion: Completion) -> Score:
        found = ratio(completion.text)
        if found > most and (inner := _json_strings(completion.text)) is not None:
            found = max(map(ratio, inner), default=0.0)
        return _score("no_repetition", found <= most, f"shrinks {found:.1f} times, at most {most:g} allowed")

    return judge


def length(argument: str) -> Rule:
    """The answer has MIN to MAX characters.

    Raises:
        ValueError: the argument is no range.
    """
    found = re.fullmatch(r"(\d+)-(\d+)", argument)
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f"length takes MIN-MAX in characters, given {argument!r}; write for example 'length:1-2000'")
    low, high = int(found[1]), int(found[2])

    def judge(completion: Completion) -> Score:
        size = len(completion.text)
        return _score("length", low <= size <= high, f"{size} characters, wanted {low} to {high}")

    return judge


def language(code: str, *, window: int = 200, least: int = 20, sure: float = 0.5) -> Rule:
    """The answer's first `window` characters are in the language, as py3langid sees it.

    Under `least` UTF-8 bytes of letters, and where another language is guessed with a probability under `sure`, it cannot judge.

    Raises:
        ValueError: not one of the codes that py3langid knows.
    """
    if code not in LANGUAGES:
        near = difflib.get_close_matches(code, LANGUAGES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(LANGUAGES))}"
        raise ValueError(f"language takes an ISO 639 code as in 'language:en', given {code!r}; {hint}")

    def judge(completion: Completion) -> Score:
        start = completion.text[:window]
        letters = sum(len(character.encode("utf-8", "replace")) for character in start if character.isalpha())
        if letters < least:
            return _unsure("language", f"too short to tell: {letters} bytes of letters")
        found, probability = _identifier().classify(start)
        if found != code and probability < sure:
            return _unsure("language", f"perhaps {found} ({probability:.2f})")
        return _score("language", found == code, f"looks like {found} ({probability:.2f})")

    return judge


def _without_argument(name: str, factory: Callable[[], Rule]) -> Callable[[str], Rule]:
    def build(argument: str) -> Rule:
        bare(name, argument)
        return factory()

    return build


RULES: dict[str, Callable[[str], Rule]] = {
    "finished": _without_argument("finished", finished),
    "not_empty": _without_argument("not_empty", not_empty),
    "no_refusal": _without_argument("no_refusal", no_refusal),
    "no_repetition": _without_argument("no_repetition", no_repetition),
    "length": length,
    "language": language,
}


def _score(name: str, holds: bool, reason: str) -> Score:
    """A kept row needs no reason."""
    return Score(name, 1.0, "", "rules") if holds else Score(name, 0.0, reason, "rules")


def _unsure(name: str, reason: str) -> Score:
    return Score(name, None, reason, "rules")


def _shrinks(data: bytes) -> float:
    return len(data) / len(zlib.compress(data, 1))


def _json_strings(text: str) -> list[str] | None:
    """The strings in an object or array, None where the text is neither."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return list(_strings(msgspec.json.decode(text)))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain JSON values, keys left out, without recursion: an answer may be nested as deep as it likes."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
