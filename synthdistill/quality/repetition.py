"""Whether an answer loops, told in two ways: by how well it can be packed, and by how many of its runs of words come again.

no_repetition(most=5.0).measure(completion, prompt)            # Score("no_repetition", 1.7, "", "rules")
no_repeated_ngrams(n=8, most=0.3).measure(completion, prompt)  # Score("no_repeated_ngrams", 0.02, "", "rules")

Both look at windows, as a loop at the end of a long answer would be lost in the whole. JSON repeats its keys by nature: there the strings
count, each by itself.
"""

import zlib
from collections.abc import Iterator, Sequence

from synthdistill.quality import kernel
from synthdistill.quality.checks import Check
from synthdistill.quality.strings import json_strings
from synthdistill.records import Completion, Prompt, Score


def no_repetition(*, most: float = 5.0, window: int = 1000, least: int = 80) -> Check:
    """The answer does not loop: no `window` bytes of it shrink under zlib by more than `most` times.

    The measure is Whisper's (Radford et al. 2022, arXiv 2212.04356, section 4.5: bytes / zlib bytes, over 2.4 is taken for a loop), but
    a ratio grows with the length of a text, and step-by-step reasoning is wordy: of GSM8K's human solutions 84 are over 2.4, one
    reaches 3.2. Hence a window, and 5.0, which a sentence of up to 170 bytes said over and over passes. Of a JSON answer the whole and
    each of its strings are measured, and the less of the two counts. Texts under `least` bytes are too short to loop: 0.
    """

    def measure(completion: Completion, prompt: Prompt) -> Score:
        inner = json_strings(completion.text)
        found = _ratio(completion.text, window, least) if inner is None else _inner_ratio(completion.text, inner, window, least)
        return Score("no_repetition", round(found, 4), "", "rules")

    return Check("no_repetition", measure, f"no_repetition:window={window},least={least}", most=most)


def no_repeated_ngrams(*, n: float = 8, most: float = 0.3, window: int = 200, least: int = 20) -> Check:
    """Not more than the share `most` of the runs of `n` words are repeats of another one in the same `window` of runs.

    After Gopher's duplicate n-grams (Rae et al. 2021, arXiv 2112.11446, table A1), which drop a page where more than 0.15 (n = 5) to 0.10
    (n = 10) of its characters are in repeats. Answers are shorter than pages, and lists and sums repeat: n = 5 at 0.15 takes 48 of GSM8K's
    8,792 human solutions. At 8 and 0.3 one of 34,322 human texts goes (banking77, clinc150, gsm8k, Self-Instruct); of 252 answers of
    GPT-3 without tuning 236 do. Texts and strings under `least` words are too short to loop: 0. Words are those of `kernel.spoken`.

    Raises:
        ValueError: `n` is no whole number from 2 to `least`.
    """
    if n not in range(2, least + 1):
        raise ValueError(f"no_repeated_ngrams takes n as a number of 2 to {least} words, given {n:g}; write 'no_repeated_ngrams:n=8'")
    size = int(n)

    def measure(completion: Completion, prompt: Prompt) -> Score:
        inner = json_strings(completion.text)
        found = _repeated([completion.text] if inner is None else inner, size, window, least)
        return Score("no_repeated_ngrams", round(found, 4), "", "rules")

    return Check("no_repeated_ngrams", measure, f"no_repeated_ngrams:n={size},window={window},least={least}", most=most)


def _inner_ratio(text: str, inner: Sequence[str], window: int, least: int) -> float:
    """That of JSON; nearly always its strings are too short, and the whole need not be packed."""
    found = max((_ratio(string, window, least) for string in inner), default=0.0)
    return min(found, _ratio(text, window, least)) if found else 0.0


def _ratio(text: str, window: int, least: int) -> float:
    """How many times the window that shrinks best does."""
    data = text.encode("utf-8", "replace")
    if len(data) < least:
        return 0.0
    return max(_shrinks(data[start : start + window]) for start in _starts(len(data), window))


def _shrinks(data: bytes) -> float:
    return len(data) / len(zlib.compress(data, 1))


def _repeated(texts: Sequence[str], n: int, window: int, least: int) -> float:
    """The greatest share of repeats in a window of a text's runs."""
    if not texts:
        return 0.0
    read = kernel.read(texts)
    runs = kernel.shingles(read, n)
    values, starts, words = runs.values.tolist(), runs.starts.tolist(), read.starts.tolist()
    found = 0.0
    for place in range(len(texts)):
        if words[place + 1] - words[place] >= least:
            own = values[starts[place] : starts[place + 1]]
            found = max(found, *(_repeats(own[start : start + window]) for start in _starts(len(own), window)))
    return found


def _repeats(values: Sequence[int]) -> float:
    return 1.0 - len(set(values)) / len(values)


def _starts(size: int, window: int) -> Iterator[int]:
    """Where windows begin that overlap by half and reach the end."""
    return iter(range(0, max(1, size - window // 2), window // 2))
