"""A linear model of words that answers as it was shown: what a task with a closed set of answers can be done by without a language model.

    model = trained(texts, answers)
    model.answers(["where is my parcel?"])             # ["delivery"]

TF-IDF of words and pairs of words, and of runs of two to five characters within them, and a linear support vector machine, one label
against the rest (scikit-learn's LinearSVC). The door to scikit-learn for baselines.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthdistill.errors import require
from synthdistill.evaluation.labels import closed
from synthdistill.evaluation.metrics.values import key
from synthdistill.text import normalise

MANY = 20_000
"""Texts from which a feature has to stand in two of them to count."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The fitted model. `parameters` is the number of its weights."""

    parameters: int
    _shown: dict[str, str]
    """Label -> the text that gives it."""
    _vectors: Any
    _classifier: Any

    def answers(self, texts: Sequence[str]) -> list[str]:
        """An answer to each text, one of those that it was shown."""
        if self._classifier is None:
            return [next(iter(self._shown.values()))] * len(texts)
        return [self._shown[label] for label in self._classifier.predict(self._vectors.transform(texts))] if texts else []


def untrainable(answers: Sequence[str]) -> str | None:
    """Why no such model can be made of these answers: they are not a closed set (nine in ten of at most 200 kinds, each given five times
    on average); None where it can."""
    labels = [key(answer) for answer in answers]
    if not labels:
        return "there are no examples"
    if closed(labels):
        return None
    return f"the answers are no closed set: {len(set(labels))} different ones among {len(labels)}"


def trained(texts: Sequence[str], answers: Sequence[str]) -> Linear:
    """The model of texts and their answers, at least one; the same ones give the same model. Equal answers are one label, which is given
    in its most frequent spelling.

    Raises:
        MissingError: the extra `metrics` is not installed.
    """
    require("sklearn", "metrics", '[eval] baselines = ["tfidf"]')
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion
    from sklearn.svm import LinearSVC

    labels = [key(answer) for answer in answers]
    spellings: dict[str, Counter[str]] = {}
    for label, answer in zip(labels, answers, strict=True):
        spellings.setdefault(label, Counter())[answer] += 1
    shown = {label: min(found, key=lambda text: (-found[text], text)) for label, found in spellings.items()}
    if len(shown) == 1:
        return Linear(0, shown, None, None)
    least = 2 if len(texts) >= MANY else 1
    parts = (("words", "word", (1, 2), r"(?u)\w+"), ("characters", "char_wb", (2, 5), None))
    vectors = FeatureUnion(
        [
            (
                name,
                TfidfVectorizer(analyzer=by, ngram_range=runs, token_pattern=word, preprocessor=normalise, sublinear_tf=True, min_df=least),
            )
            for name, by, runs, word in parts
        ]
    )
    classifier = LinearSVC(random_state=0)
    classifier.fit(vectors.fit_transform(texts), labels)
    return Linear(int(classifier.coef_.size + classifier.intercept_.size), shown, vectors, classifier)
