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
difference at all" but "none that matters": a margin for ranks, tails and lengths, and no word of a handful of texts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from synthdistill.errors import require
from synthdistill.text import as_text, normalise, share_of, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Sparse = Any
    """A scipy.sparse.csr_matrix; its annotations are partial."""

MOST_TEXTS = 10_000
MOST_WORDS = 2_000_000
"""Of a larger reference, a sample that depends on its texts alone."""
_LEAST = 20
"""Texts on each side without which no text is compared."""
_SEEN = 5
"""A word, value or label that occurs less often on both sides together cannot be told from chance."""
_CLASSES = 200
"""A column or an answer with more values than these is no category."""
_AUC = 0.6
_GAP = 0.05
_BURST = 0.01
"""What is still no drift: an AUC, a distance of length distributions, a word's share of the window's texts."""
_MEASURED = 2_000
"""Texts of half B whose novelty is measured."""
_FEATURES = 1 << 18
_BLOCK = 500
_TAILS = (0.005, 0.01, 0.02, 0.05)
_FAR = (0.005, 0.01, 0.02)
"""Upper tails of the classifier's scores and of novelty in which new traffic is looked for."""
_SHOWN = 10
_EXAMPLES = 5
_SURE = 0.05
"""The p of a word or a slice that is shown."""
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = re.compile(f"[{_LETTERS}]|[^{_LETTERS}]+")
"""A letter of a script that puts no space between words (Thai, Lao, Burmese, Khmer, Kana, Han), or a run of others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Prompts, and what is known beside each."""

    texts: list[str]
    fields: dict[str, list[str | None]] = field(default_factory=dict)
    """Column -> one value a text."""
    answers: list[str] = field(default_factory=list)
    """Of the reference the teacher's, of a window the student's; of as many texts as there are, in any order."""


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison: its own p, not yet corrected for the others and for the looks, and what it is about."""

    name: str
    p: float
    statistic: float


@dataclass(frozen=True, slots=True)
class Share:
    """New traffic, as a share of the window's distinct texts, with its 95% interval. It is a lower estimate: what is new and looks like
    the old cannot be seen."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is more frequent now: shares of texts with it, and p. Of words with p up to 0.05, one in twenty is there by chance."""

    word: str
    before: float
    now: float
    p: float


@dataclass(frozen=True, slots=True)
class Slice:
    """A value of a column whose share moved, up or down; p is corrected for the number of the column's values."""

    field: str
    value: str | None
    before: float
    now: float
    p: float


@dataclass(frozen=True, slots=True)
class Label:
    """An answer of the student (or the value of one of its fields) that the teacher never gave."""

    field: str
    label: str
    count: int


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
    """What was trained on, ready to be compared with any number of windows. A and B are its halves, F features."""

    seed: int
    keys: frozenset[str]
    """Of all texts, those that were left out of the comparison too."""
    tokens: list[list[str]]
    fields: dict[str, list[str | None]]
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
        rows = _distinct(sample.texts, seed)
        kept = _at_most(rows)
        tokens = [row.tokens for row in kept]
        counts_NF = _counts(tokens)
        idf_F = _idf(counts_NF[::2])
        weights_NF = _weighted(counts_NF, idf_F)
        weights_A, weights_B = weights_NF[::2], weights_NF[1::2]
        weights_FA = weights_A.T.tocsr()
        return cls(
            seed=seed,
            keys=frozenset(row.key for row in rows),
            tokens=tokens,
            fields={name: [values[row.number] for row in kept] for name, values in sample.fields.items()},
            answers=sample.answers,
            counts=Counter(chain.from_iterable(map(set, tokens))),
            idf_F=idf_F,
            weights_A=weights_A,
            weights_B=weights_B,
            weights_FA=weights_FA,
            novelty_B=_novelty(weights_B[:_MEASURED], weights_FA),
        )

    def look(self, window: Sample, *, looks: float) -> Drift:
        """Compare a window with it. `looks`: how many a month, as 30 for one a day."""
        distinct = _distinct(window.texts, self.seed)
        rows = [row for row in distinct if row.key not in self.keys]
        fields = {name: [values[row.number] for row in rows] for name, values in window.fields.items()}
        asked = [*self._texts(rows), *self._fields(fields)]
        answered = [*_labels(self.answers, window.answers, self.seed)]
        unknown = len(rows) / max(1, len(distinct))
        regions = [(region, part) for each, part in ((asked, unknown), (answered, 1.0)) for one in each for region in one.regions]
        seen = asked + answered
        tests = [test for one in seen for test in one.tests]
        least = min((test.p for test in tests), default=1.0)
        newest = [row.number for one in seen for row in one.newest]
        return Drift(
            p=min(1.0, least * max(1, len(tests)) * max(1.0, looks)),
            tests=tests,
            share=_share(regions),
            words=[word for one in seen for word in one.words],
            slices=sorted((moved for one in seen for moved in one.slices), key=lambda moved: moved.p),
            labels=[label for one in seen for label in one.labels],
            examples=[window.texts[number] for number in newest[:_EXAMPLES]],
            n_reference=len(self.tokens),
            n_window=len(distinct),
        )

    def _texts(self, rows: list[_Row]) -> Iterator[_Seen]:
        if min(len(rows), len(self.tokens)) < _LEAST:
            return
        tokens = [row.tokens for row in rows]
        weights_WF = _weighted(_counts(tokens), self.idf_F)
        yield self._classified(rows, weights_WF)
        yield self._novel(weights_WF)
        yield self._words(tokens)
        yield _Seen(tests=[_lengths(self.tokens, tokens)])

    def _classified(self, rows: list[_Row], weights_WF: Sparse) -> _Seen:
        """Two classifiers, each fitted on one half of both sides and read on the other. The first gives the tests (Lopez-Paz and Oquab
        2017, "Revisiting classifier two-sample tests", on ranks instead of the accuracy), both together the share."""
        import numpy as np

        first_B, first_W = _scores(self.weights_A, weights_WF[::2], self.weights_B, weights_WF[1::2], self.seed)
        second_A, second_W = _scores(self.weights_B, weights_WF[1::2], self.weights_A, weights_WF[::2], self.seed)
        tests = [_ranks("classifier", first_B, first_W), _tail("classifier tail", first_B, first_W, 0.01, still=0.01)]
        place_W, score_W = np.empty(len(rows)), np.empty(len(rows))
        place_W[1::2], place_W[::2] = _places(first_B, first_W), _places(second_A, second_W)
        score_W[1::2], score_W[::2] = first_W, second_W
        order = np.lexsort((-score_W, place_W))[:_EXAMPLES]
        regions = [_Region(float((place_W <= tail).mean()), len(rows), tail, len(self.tokens)) for tail in _TAILS]
        return _Seen(tests=tests, regions=regions, newest=[rows[number] for number in order])

    def _novel(self, weights_WF: Sparse) -> _Seen:
        """How far the nearest text of half A is, from the window and from half B."""
        novelty_W = _novelty(weights_WF, self.weights_FA)
        tests = [_ranks("novelty", self.novelty_B, novelty_W), _tail("novelty tail", self.novelty_B, novelty_W, 0.05, still=0.03)]
        place_W = _places(self.novelty_B, novelty_W)
        return _Seen(
            tests=tests,
            regions=[_Region(float((place_W <= tail).mean()), len(place_W), tail, len(self.novelty_B)) for tail in _FAR],
        )

    def _words(self, tokens: list[list[str]]) -> _Seen:
        """Fisher's exact test, one-sided, for each word of the window that occurs often enough."""
        import numpy as np

        found = Counter(chain.from_iterable(map(set, tokens)))
        candidates = sorted(word for word, count in found.items() if count + self.counts[word] >= _SEEN)
        if not candidates:
            return _Seen()
        now_K, before_K = np.array([[found[word], self.counts[word]] for word in candidates]).T
        p_K = _more(now_K, before_K, len(tokens), len(self.tokens))
        shown_p_K = _discoveries(p_K)
        share_K, old_K = now_K / len(tokens), before_K / len(self.tokens)
        gain_K = np.maximum(0.0, share_K - old_K) ** 2 / share_K  # more texts than before, times the part of its texts that they are
        shown = [number for number in np.argsort(-gain_K) if shown_p_K[number] <= _SURE and share_K[number] >= 2 * old_K[number]]
        best = int(np.argmin(np.where(share_K >= _BURST, p_K, 1.0)))
        p = min(1.0, float(p_K[best]) * len(candidates)) if share_K[best] >= _BURST else 1.0
        return _Seen(
            tests=[Test("words", p, float(share_K[best] - old_K[best]))],
            words=[Word(candidates[n], float(old_K[n]), float(share_K[n]), float(shown_p_K[n])) for n in shown[:_SHOWN]],
        )

    def _fields(self, fields: dict[str, list[str | None]]) -> Iterator[_Seen]:
        """Fisher's exact test, two-sided, for each value of a column."""
        import numpy as np

        for name in sorted(fields.keys() & self.fields.keys()):
            old, new = Counter(self.fields[name]), Counter(fields[name])
            values = [value for value in old | new if old[value] + new[value] >= _SEEN]
            olds, news = old.total(), new.total()
            if min(olds, news) < _LEAST or len(old) > _CLASSES or not values:
                continue
            now_K, before_K = np.array([[new[value], old[value]] for value in values]).T
            p_K = np.minimum(_more(now_K, before_K, news, olds), _more(before_K, now_K, olds, news))
            p_K = np.minimum(1.0, 2 * len(values) * p_K)
            share_K, old_K = now_K / news, before_K / olds
            yield _Seen(
                tests=[Test(f"field {name}", float(p_K.min()), float(np.abs(share_K - old_K).max()))],
                regions=[_Region(float(w), news, float(q), olds) for w, q in zip(share_K, old_K, strict=True) if w > q],
                slices=[
                    Slice(name, value, float(q), float(w), float(p))
                    for value, q, w, p in zip(values, old_K, share_K, p_K, strict=True)
                    if p <= _SURE
                ],
            )


@dataclass(frozen=True, slots=True)
class _Row:
    """A distinct text: its place in the sample, its words, and all of them as one text."""

    number: int
    tokens: list[str]
    key: str


@dataclass(frozen=True, slots=True)
class _Region:
    """A set of texts: the share of the window in it, of how many; the same of the reference."""

    now: float
    news: int
    before: float
    olds: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one way of looking adds."""

    tests: list[Test] = field(default_factory=list)
    regions: list[_Region] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    newest: list[_Row] = field(default_factory=list)


def _distinct(texts: list[str], seed: int) -> list[_Row]:
    """One row for each set of texts with the same words, in an order that depends on the words alone: halves are every other one."""
    rows: dict[str, _Row] = {}
    for number, text in enumerate(texts):
        tokens = _tokens(text)
        key = " ".join(tokens)
        rows.setdefault(key, _Row(number, tokens, key))
    return sorted(rows.values(), key=lambda row: share_of(f"{seed} {row.key}"))


def _tokens(text: str) -> list[str]:
    """Words without punctuation; all numbers are one, for a date or an order number is new every day."""
    found: list[str] = []
    for word in words(text):
        if word.isascii():
            if word[0].isalnum() or word[0] == "_":
                found.append("0" if word.isdigit() else word)
        elif word[0].isalnum():
            found.extend(_UNSPACED.findall(word))
    return found


def _at_most(rows: list[_Row]) -> list[_Row]:
    total = 0
    for number, row in enumerate(rows[:MOST_TEXTS]):
        total += len(row.tokens)
        if total > MOST_WORDS:
            return rows[: max(number, 2 * _LEAST)]
    return rows[:MOST_TEXTS]


def _counts(tokens: list[list[str]]) -> Sparse:
    """[N, F]: which words and pairs of words a text has, hashed, so that words that only a window has count as well."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction import FeatureHasher

    if not tokens:
        return csr_matrix((0, _FEATURES))
    hasher = FeatureHasher(_FEATURES, input_type="string", alternate_sign=False)
    counts_NF = hasher.transform(chain(row, (f"{one} {two}" for one, two in pairwise(row))) for row in tokens)
    counts_NF.data[:] = 1.0
    return counts_NF


def _idf(counts_NF: Sparse) -> Floats:
    import numpy as np

    texts_F = np.bincount(counts_NF.indices, minlength=_FEATURES)
    return np.asarray(np.log((1 + counts_NF.shape[0]) / (1 + texts_F)) + 1)


def _weighted(counts_NF: Sparse, idf_F: Floats) -> Sparse:
    """TF-IDF with rows of length 1."""
    import numpy as np

    weights_NF = counts_NF.copy()
    weights_NF.data *= idf_F[weights_NF.indices]
    row_K = np.repeat(np.arange(weights_NF.shape[0]), np.diff(weights_NF.indptr))
    weights_NF.data /= np.sqrt(np.bincount(row_K, weights_NF.data**2))[row_K]
    return weights_NF


def _novelty(weights_NF: Sparse, weights_FA: Sparse) -> Floats:
    """1 - the cosine to the nearest text of A, for each row."""
    import numpy as np

    novelty_N = np.ones(weights_NF.shape[0])
    for start in range(0, len(novelty_N), _BLOCK):
        near_NA = weights_NF[start : start + _BLOCK] @ weights_FA
        filled = np.flatnonzero(np.diff(near_NA.indptr))
        if len(filled):
            novelty_N[start + filled] -= np.maximum.reduceat(near_NA.data, near_NA.indptr[filled])
    return novelty_N


def _scores(old_NF: Sparse, new_NF: Sparse, held_old_NF: Sparse, held_new_NF: Sparse, seed: int) -> tuple[Floats, Floats]:
    """How new the held texts look to a classifier that was fitted on the others."""
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="liblinear", dual=True, class_weight="balanced", tol=0.1, random_state=seed)
    model.fit(vstack([old_NF, new_NF], format="csr"), np.repeat([0, 1], [old_NF.shape[0], new_NF.shape[0]]))
    return model.decision_function(held_old_NF), model.decision_function(held_new_NF)


def _ranks(name: str, old: Floats, new: Floats) -> Test:
    """Mann and Whitney, one-sided: is the AUC, the chance that a new score is above an old one, more than 0.6?"""
    import numpy as np

    order = np.sort(old)
    auc = float((np.searchsorted(order, new, "left") + np.searchsorted(order, new, "right")).mean() / (2 * len(old)))
    deviation = ((len(old) + len(new) + 1) / (12 * len(old) * len(new))) ** 0.5
    return Test(name, NormalDist().cdf((_AUC - auc) / deviation), auc)


def _tail(name: str, old: Floats, new: Floats, tail: float, *, still: float) -> Test:
    """Are more of the new among the highest of all than of the old (Fisher's exact test, one-sided), and more than a share of new traffic
    that is `still` no drift brings there (binomial)? The larger p; the statistic is the share of the new there."""
    import numpy as np
    from scipy.stats import binom

    both = np.concatenate([old, new])
    rank = max(1, round(tail * len(both)))
    least = np.partition(both, len(both) - rank)[len(both) - rank]
    news, olds = np.array([(new >= least).sum()]), np.array([(old >= least).sum()])
    p = max(float(_more(news, olds, len(new), len(old))[0]), float(binom.sf(news[0] - 1, len(new), tail + still * (1 - tail))))
    return Test(name, p, float(news[0] / len(new)))


def _places(old: Floats, new: Floats) -> Floats:
    """The share of old scores that are as high as each new one, or higher."""
    import numpy as np

    return np.asarray(1 - np.searchsorted(np.sort(old), new, side="left") / len(old))


def _more(now_K: Any, before_K: Any, news: int, olds: int) -> Floats:
    """The chance of as many as now or more, of `news` drawn from both sides together: the upper tail of the hypergeometric."""
    import numpy as np
    from scipy.stats import hypergeom

    p_K = np.ones(len(now_K))
    more_K = now_K * olds > before_K * news
    p_K[more_K] = hypergeom.sf(now_K[more_K] - 1, news + olds, now_K[more_K] + before_K[more_K], news)
    return np.clip(p_K, 0.0, 1.0)


def _discoveries(p_K: Floats) -> Floats:
    """p for what is shown, by Benjamini and Hochberg (1995, "Controlling the false discovery rate")."""
    import numpy as np

    order = np.argsort(p_K)
    scaled_K = p_K[order] * len(p_K) / np.arange(1, len(p_K) + 1)
    found_K = np.empty(len(p_K))
    found_K[order] = np.minimum(1.0, np.minimum.accumulate(scaled_K[::-1])[::-1])
    return found_K


def _lengths(old: list[list[str]], new: list[list[str]]) -> Test:
    """Kolmogorov and Smirnov on the number of words: is the greatest distance of the distributions more than 0.05?"""
    from scipy.stats import ks_2samp, kstwobign

    distance = float(ks_2samp([len(row) for row in old], [len(row) for row in new], method="asymp").statistic)
    scale = (len(old) * len(new) / (len(old) + len(new))) ** 0.5
    return Test("length", float(kstwobign.sf(max(0.0, distance - _GAP) * scale)), distance)


def _labels(old: list[str], new: list[str], seed: int) -> Iterator[_Seen]:
    """Where the teacher's answers are a closed set: are more of the student's outside of what one half of the teacher's holds, than the
    teacher's own of the other half?"""
    import numpy as np

    for name, olds, news in _columns(old, new):
        kinds = Counter(olds)
        if min(len(olds), len(news)) < _LEAST or len(kinds) > _CLASSES or len(olds) < _SEEN * len(kinds):
            continue
        order = np.random.default_rng(seed).permutation(len(olds))
        half = {olds[number] for number in order[::2]}
        others = [olds[number] for number in order[1::2]]
        now, before = sum(label not in half for label in news), sum(label not in half for label in others)
        p = float(_more(np.array([now]), np.array([before]), len(news), len(others))[0])
        unseen = Counter(label for label in news if label not in kinds)
        yield _Seen(
            tests=[Test(f"labels {name}".strip(), p, now / len(news))],
            regions=[_Region(now / len(news), len(news), before / len(others), len(others))],
            labels=[Label(name, label, count) for label, count in unseen.most_common(_SHOWN)],
        )


def _columns(old: list[str], new: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Answers as labels: whole where they are texts, by top-level field where the teacher's are JSON objects. A field that holds more than
    single values is none."""
    parsed = [_object(answer) for answer in old]
    if not parsed or None in parsed:
        yield "", [normalise(answer) for answer in old], [normalise(answer) for answer in new]
        return
    objects = [each for each in parsed if each is not None]
    given = [(_object(answer), answer) for answer in new]
    for name in sorted({key for each in objects for key in each}):
        if not any(isinstance(each.get(name), dict | list) for each in objects):
            news = [normalise(answer if each is None else _value(each, name)) for each, answer in given]
            yield name, [normalise(_value(each, name)) for each in objects], news


def _object(answer: str) -> dict[str, Any] | None:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _value(answer: dict[str, Any], name: str) -> str:
    return as_text(answer[name]) if name in answer else "(absent)"


def _share(regions: Sequence[tuple[_Region, float]]) -> Share:
    """The least share of new traffic that explains a region with more of the window than of the reference (Blanchard, Lee and Scott 2010,
    "Semi-supervised novelty detection"): now = share + (1 - share) * before, at most, for what is not new is there as often as before.

    Of all regions the one whose lower limit is best, limits being simultaneous. Beside each region, the part of the window that was
    compared: the texts that the reference lacks.
    """
    if not regions:
        return Share(0.0, 0.0, 1.0)
    sure = 1 - 0.025 / len(regions)
    found = [(_excess(region, sure), part) for region, part in regions]
    best, part = max(found, key=lambda each: (each[0].low * each[1], each[0].value * each[1]))
    value, low, high = (min(1.0, max(0.0, limit)) * part for limit in (best.value, best.low, best.high))
    return Share(value, low, high)


def _excess(region: _Region, sure: float) -> Share:
    """(now - before) / (1 - before), its interval by Newcombe's square sum of Wilson's (1998, "Interval estimation for the difference")."""
    gap, rest = region.now - region.before, max(1 - region.before, 1e-9)
    (now_low, now_high), (old_low, old_high) = _wilson(region.now, region.news, sure), _wilson(region.before, region.olds, sure)
    low = gap - ((region.now - now_low) ** 2 + (old_high - region.before) ** 2) ** 0.5
    high = gap + ((now_high - region.now) ** 2 + (region.before - old_low) ** 2) ** 0.5
    return Share(gap / rest, low / rest, high / rest)


def _wilson(share: float, n: int, sure: float) -> tuple[float, float]:
    """Wilson's interval (1927, "Probable inference") for a share of n, each limit with the given certainty."""
    z = NormalDist().inv_cdf(sure)
    middle, wide = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    scale = 1 + z * z / n
    return (middle - wide) / scale, (middle + wide) / scale
