"""Are the prompts of production still like those that the student was trained on?

    known = Reference.of(Sample(training_texts))         # once
    found = known.look(Sample(window_texts), looks=30)   # each day
    found.alarm(p=0.01, share=0.02)                      # True where both the evidence and the amount suffice
    found.words[0]                                       # Word(word="gas", before=0.001, now=0.041, p=3e-31)

Several tests look at the same window, for each is blind to something: a new topic in a tenth of the traffic moves the AUC of a classifier
by little and its upper tail by much. The smallest p is multiplied with the number of tests and with that of the looks a month (Bonferroni),
which holds however the tests and the windows of a month depend on each other.

Texts with the same words count once, numbers as one word, and a text that the reference holds is no new traffic. What is left of the window
and the reference are compared on the order of their scores, or by counts: under no drift each p is exact or too large.

Prompts of other days come from other people, and are never quite a random half of the old ones: in CLINC150 the nearest training prompt
of a test prompt is further away than that of another training prompt (AUC 0.58, p = 1e-16 for 1,000). So what is tested is not "no
difference at all" but "none that matters": a margin for ranks, tails and lengths, no word of a handful of texts, no slice that moved by
less than 5 points.

N texts of the reference, A and B its halves, W texts of the window, F features.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthdistill.errors import require
from synthdistill.evaluation import closed_answers, moved_slices, new_traffic, new_words, request_vectors
from synthdistill.evaluation.closed_answers import Label
from synthdistill.evaluation.moved_slices import Slice
from synthdistill.evaluation.new_traffic import Region, Share, places, regions
from synthdistill.evaluation.new_words import Word
from synthdistill.evaluation.request_words import Request, at_most, distinct
from synthdistill.evaluation.two_samples import LEAST, Test, lengths, ranks, tail

if TYPE_CHECKING:
    from synthdistill.evaluation.request_vectors import Sparse
    from synthdistill.evaluation.two_samples import Floats

_AUC = 0.6
_GAP = 0.05
"""What is still no drift: an AUC, a distance of length distributions."""
_MEASURED = 2_000
"""Texts of half B whose novelty is measured."""
_TAILS = (0.005, 0.01, 0.02, 0.05)
_FAR = (0.005, 0.01, 0.02)
"""Upper tails of the classifier's scores and of novelty in which new traffic is looked for."""
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Prompts, and what is known beside each."""

    texts: list[str]
    fields: dict[str, list[Any]] = field(default_factory=dict)
    """Column -> one value a text; None where it is not known, which is no value."""
    answers: list[str] = field(default_factory=list)
    """Of the reference the teacher's, of a window the student's; of as many texts as there are, in any order."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What one look at a window found."""

    p: float
    """The smallest p of the tests, corrected for their number and for the looks a month."""
    tests: list[Test]
    share: Share
    words: list[Word]
    slices: list[Slice]
    labels: list[Label]
    examples: list[str]
    """Texts of the window, the newest first."""
    n_reference: int
    """Distinct texts of the reference that were compared."""
    n_window: int
    """Distinct texts of the window."""

    def alarm(self, p: float, share: float) -> bool:
        """Whether the window is surely (`p`) and by enough (`share`) another than the reference."""
        return self.p <= p and self.share.value >= share


def look(reference: Sample, window: Sample, *, looks: float, seed: int = 0) -> Drift:
    """Compare a window with the reference. `looks`: how many a month, as 30 for one a day.

    Raises:
        MissingError: scikit-learn is not installed.
    """
    return Reference.of(reference, seed=seed).look(window, looks=looks)


@dataclass(frozen=True, slots=True)
class Reference:
    """What was trained on, ready to be compared with any number of windows."""

    seed: int
    keys: frozenset[str]
    """Of all texts, those that were left out of the comparison too."""
    tokens: list[list[str]]
    fields: dict[str, list[Any]]
    answers: list[str]
    counts: Counter[str]
    """Word -> texts with it."""
    idf_F: Floats
    weights_A: Sparse
    weights_B: Sparse
    weights_FA: Sparse
    novelty_B: Floats

    @classmethod
    def of(cls, sample: Sample, *, seed: int = 0) -> Reference:
        """Read the reference: at most 10,000 distinct texts of it are compared.

        Raises:
            MissingError: scikit-learn is not installed.
        """
        require("sklearn", "redistill", "[redistill] when.drift")
        rows = distinct(sample.texts, seed)
        kept = at_most(rows)
        tokens = [row.tokens for row in kept]
        counts_NF = request_vectors.counts(tokens)
        idf_F = request_vectors.idf(counts_NF[::2])
        weights_NF = request_vectors.weighted(counts_NF, idf_F)
        weights_A, weights_B = weights_NF[::2], weights_NF[1::2]
        weights_FA = weights_A.T.tocsr()
        return cls(
            seed=seed,
            keys=frozenset(row.key for row in rows),
            tokens=tokens,
            fields={name: [values[row.number] for row in kept] for name, values in sample.fields.items()},
            answers=sample.answers,
            counts=new_words.counted(tokens),
            idf_F=idf_F,
            weights_A=weights_A,
            weights_B=weights_B,
            weights_FA=weights_FA,
            novelty_B=request_vectors.novelty(weights_B[:_MEASURED], weights_FA),
        )

    def look(self, window: Sample, *, looks: float) -> Drift:
        """Compare a window with it. `looks`: how many a month, as 30 for one a day."""
        everything = distinct(window.texts, self.seed)
        rows = [row for row in everything if row.key not in self.keys]
        part = len(rows) / max(1, len(everything))
        texts = self._texts(rows, part)
        columns = self._columns({name: [values[row.number] for row in rows] for name, values in window.fields.items()}, part)
        answers = [*closed_answers.compare(self.answers, window.answers, self.seed)]
        tests = [*texts.tests, *(column.test for column in columns), *(answer.test for answer in answers)]
        new = [*texts.regions, *(region for column in columns for region in column.regions), *(answer.region for answer in answers)]
        least = min((test.p for test in tests), default=1.0)
        return Drift(
            p=min(1.0, least * max(1, len(tests)) * max(1.0, looks)),
            tests=tests,
            share=new_traffic.share(new),
            words=texts.words,
            slices=sorted((moved for column in columns for moved in column.slices), key=lambda moved: moved.p),
            labels=[label for answer in answers for label in answer.labels],
            examples=[window.texts[row.number] for row in texts.newest],
            n_reference=len(self.tokens),
            n_window=len(everything),
        )

    def _texts(self, rows: list[Request], part: float) -> _Texts:
        """What the texts of the window say that the reference lacks, which are `part` of it."""
        if min(len(rows), len(self.tokens)) < LEAST:
            return _Texts([], [], [], [])
        tokens = [row.tokens for row in rows]
        weights_WF = request_vectors.weighted(request_vectors.counts(tokens), self.idf_F)
        classified, place_W, order_W = self._classified(weights_WF)
        far, novelty_W = self._far(weights_WF)
        frequent, words = new_words.compare(self.counts, len(self.tokens), tokens)
        length = lengths("length", [len(row) for row in self.tokens], [len(row) for row in tokens], still=_GAP)
        return _Texts(
            tests=[*classified, *far, frequent, length],
            regions=[
                *regions(place_W, len(self.tokens), _TAILS, part),
                *regions(places(self.novelty_B, novelty_W), len(self.novelty_B), _FAR, part),
            ],
            words=words,
            newest=[rows[number] for number in order_W[:_EXAMPLES]],
        )

    def _classified(self, weights_WF: Sparse) -> tuple[list[Test], Floats, Any]:
        """Two classifiers, each fitted on one half of both sides and read on the other. The first gives the tests (Lopez-Paz and Oquab
        2017, "Revisiting classifier two-sample tests", on ranks instead of the accuracy), both together each text's place and the order of
        the texts, the newest first."""
        import numpy as np

        first_B, first_W = request_vectors.scores(self.weights_A, weights_WF[::2], self.weights_B, weights_WF[1::2], self.seed)
        second_A, second_W = request_vectors.scores(self.weights_B, weights_WF[1::2], self.weights_A, weights_WF[::2], self.seed)
        tests = [ranks("classifier", first_B, first_W, still=_AUC), tail("classifier tail", first_B, first_W, 0.01, still=0.01)]
        place_W, score_W = np.empty(weights_WF.shape[0]), np.empty(weights_WF.shape[0])
        place_W[1::2], place_W[::2] = places(first_B, first_W), places(second_A, second_W)
        score_W[1::2], score_W[::2] = first_W, second_W
        return tests, place_W, np.lexsort((-score_W, place_W))

    def _far(self, weights_WF: Sparse) -> tuple[list[Test], Floats]:
        """How far the nearest text of half A is, from the window and from half B."""
        novelty_W = request_vectors.novelty(weights_WF, self.weights_FA)
        tests = [
            ranks("novelty", self.novelty_B, novelty_W, still=_AUC),
            tail("novelty tail", self.novelty_B, novelty_W, 0.05, still=0.03),
        ]
        return tests, novelty_W

    def _columns(self, fields: dict[str, list[Any]], part: float) -> list[moved_slices.Moved]:
        """What the columns say that both sides have."""
        found = [moved_slices.compare(name, self.fields[name], fields[name], part) for name in sorted(fields.keys() & self.fields.keys())]
        return [moved for moved in found if moved]


@dataclass(frozen=True, slots=True)
class _Texts:
    """What the texts say."""

    tests: list[Test]
    regions: list[Region]
    words: list[Word]
    newest: list[Request]
