"""The language of an answer, as py3langid sees it in a sample.

language("en").measure(completion, prompt)         # Score("language", 0.97, "", "rules")
"""

import difflib
from functools import cache
from typing import Any

from synthdistill.quality.checks import Check, thresholds
from synthdistill.quality.strings import json_strings
from synthdistill.records import Completion, Prompt, Score

_CODES = (
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga gcf gcr gd "
    "gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk "
    "ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl "
    "tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu"
)
LANGUAGES = frozenset(_CODES.split())
"""What py3langid tells apart; a literal, so that a recipe is checked without loading its model."""


def language(argument: str, *, sure: float = 0.5, window: int = 200, least: int = 20) -> Check:
    """The answer is in a language, by a probability of at least `sure`: `en`, or `en,sure=0.8`.

    Judged is a sample of `window` characters: of longer answers a third from the beginning, the middle and the end each; of JSON its
    strings. The measure is the probability of the language (0 to 1).
    It cannot tell (None) under `least` UTF-8 bytes of letters, and where no language has a probability of half.

    Raises:
        ValueError: not one of the codes that py3langid knows, or no such threshold.
    """
    code, _, rest = argument.partition(",")
    if code not in LANGUAGES:
        near = difflib.get_close_matches(code, LANGUAGES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(LANGUAGES))}"
        raise ValueError(f"language takes an ISO 639 code as in 'language:en', given {code!r}; {hint}")
    try:
        bounds = thresholds("language", rest, sure=sure)
    except ValueError:
        example = f"language:{code},sure={sure:g}"
        raise ValueError(f"language takes a code and a threshold by name, as in '{example}', given {argument!r}") from None
    if not 0 <= bounds["sure"] <= 1:
        raise ValueError(f"language takes sure as a probability from 0 to 1, given {bounds['sure']:g}")

    def measure(completion: Completion, prompt: Prompt) -> Score:
        value, reason = _probability(code, _sample(completion.text, window), least)
        return Score("language", value, reason, "rules")

    return Check("language", measure, f"language:{code},window={window},least={least}", least=bounds["sure"])


def _sample(text: str, window: int) -> str:
    """What stands for a text; pieces of a long one are parted by a line break."""
    inner = json_strings(text)
    whole = text if inner is None else "\n".join(inner)
    if len(whole) <= window:
        return whole
    size = window // 3
    middle = (len(whole) - size) // 2
    return "\n".join((whole[:size], whole[middle : middle + size], whole[-size:]))


def _probability(code: str, sample: str, least: int) -> tuple[float | None, str]:
    """How probable the language is (0 to 1), None where it cannot be told; and what it looks like where that is another one."""
    letters = sum(len(character.encode("utf-8", "replace")) for character in sample if character.isalpha())
    if letters < least:
        return None, f"too short to tell: {letters} bytes of letters"
    data = sample.encode("utf-8", "replace")
    found, best = _identifier().classify(data)
    if best < 0.5:
        return None, f"perhaps {found} ({best:.2f})"
    if found == code:
        return round(best, 4), ""
    return round(dict(_identifier().rank(data))[code], 4), f"looks like {found} ({best:.2f})"


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
