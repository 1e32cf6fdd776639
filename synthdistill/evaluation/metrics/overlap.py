"""How much of the reference's wording an answer has: the door to rouge-score and sacrebleu (extra `metrics`).

    token_f1    bags of words
    rouge_l     the longest common run of words, with gaps
    bleu, chrf  of each answer by itself (sentence BLEU, sentence chrF), so that rows can be compared in pairs; 0 to 1

The mean of sentence BLEU over rows is not the corpus BLEU of papers, which no row has.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from synthdistill.errors import require
from synthdistill.evaluation.metrics.case import Case, Given, against
from synthdistill.records import Score
from synthdistill.text import words


def token_f1(case: Case, given: Given) -> list[Score]:
    """`f1` of answer and reference."""
    return [against("token_f1", case.answer, case.reference, "no_reference", f1)]


def rouge_l(case: Case, given: Given) -> list[Score]:
    """ROUGE-L, F-measure (Lin 2004), by rouge-score over the words that `f1` counts, so that it can be had in any script."""
    return [against("rouge_l", case.answer, case.reference, "no_reference", _rouge_l)]


def bleu(case: Case, given: Given) -> list[Score]:
    """Sentence BLEU by sacrebleu: up to the answer's own order of n-grams, exponential smoothing (Chen and Cherry 2014)."""
    return [against("bleu", case.answer, case.reference, "no_reference", lambda a, b: _sacre("BLEU", a, b))]


def chrf(case: Case, given: Given) -> list[Score]:
    """Sentence chrF2 by sacrebleu (Popovic 2015): F of runs of up to six characters."""
    return [against("chrf", case.answer, case.reference, "no_reference", lambda a, b: _sacre("CHRF", a, b))]


def f1(answer: str, reference: str) -> float:
    """F1 of two bags of tokens, the harmonic mean of precision and recall (Rajpurkar et al. 2016, SQuAD, section 6.1).

    Tokens are the words of the normalised text without punctuation; articles are kept, as which words are articles depends on the
    language. Han and kana characters are tokens of their own (as in MLQA, Lewis et al. 2020). Two texts without tokens agree.
    """
    return harmonic(Counter(_tokens(answer)), Counter(_tokens(reference)))


def harmonic(given: Counter[str], wanted: Counter[str]) -> float:
    """F1 of two bags; two empty ones agree."""
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def _tokens(text: str) -> Iterator[str]:
    for word in words(text):
        if any("\u3040" <= character <= "\u9fff" for character in word):
            yield from word
        elif word[0].isalnum() or word[0] == "_":
            yield word


class _Words:
    """Our words, as rouge-score asks for them."""

    def tokenize(self, text: str) -> list[str]:
        return list(_tokens(text))


def _rouge_l(answer: str, reference: str) -> float:
    if not any(_tokens(answer)) or not any(_tokens(reference)):
        return f1(answer, reference)
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    require("rouge_score", "metrics", "[eval] metrics = rouge_l")
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Words())


def _sacre(name: str, answer: str, reference: str) -> float:
    if not answer.strip() or not reference.strip():
        return float(answer.strip() == reference.strip())
    return min(1.0, float(_scorer(name).sentence_score(answer, [reference]).score) / 100)


@lru_cache(maxsize=2)
def _scorer(name: str) -> Any:
    require("sacrebleu", "metrics", f"[eval] metrics = {name.lower()}")
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(effective_order=True) if name == "BLEU" else CHRF()
