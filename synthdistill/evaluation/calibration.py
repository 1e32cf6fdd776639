"""Does a student know when it is right? Its confidence beside its score, before and after temperature scaling.

    temperature = fit(validation.logprob_N, validation.right_N)
    found = Table.of(held_out, temperature)          # ECE with its interval, bins, and a row for each slice

Confidence is the probability of the whole answer, its end of turn included: the product over its tokens, not their geometric mean. An
answer is right or wrong as a whole, and the product is what the model itself says of the whole; a mean over tokens is near 1 for any long
answer with one wrong word in it. One number T divides the log-odds of it (Guo et al. 2017, "On calibration of modern neural networks",
whose softmax of two classes this is), found by the least cross-entropy with the scores. T keeps the order of the answers, and 1/2 stays
1/2.

Where scores lie between 0 and 1 (a share of fields), confidence is held against their mean.

The error is the expected calibration error (Naeini et al. 2015) over bins of as many rows each (Nixon et al. 2019, arXiv 1904.01685). Equal
confidences are never parted, so that no order of the rows matters. It is above 0 by chance alone, the more so the fewer the rows: so each
slice has beside it what a perfectly calibrated student would stay below there in 95% of cases (consistency resampling: Bröcker and Smith
2007, "Increasing the reliability of reliability diagrams"), and slices are sorted by how far they are above that. A small slice is noisy,
and a large one counts.

N rows, B bins, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthdistill.evaluation.comparison import rounded
from synthdistill.evaluation.statistics import bootstrap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ENOUGH = 30
"""Rows without which nothing is fitted, and nothing is said of how well it fits."""
_BINS, _PER_BIN = 10, 20
"""So many bins where there are so many rows for each; fewer otherwise."""
_RESOLUTION = 1e-6
"""Float32 knows no smaller distance of a probability from 1 that would mean anything, after some tokens."""
_INVERSE = (0.01, 20.0)
"""1/T is looked for between these: where no T is best (every answer right), the bound is taken."""
_DRAWS, _AT_ONCE = 400, 100
_CALIBRATED = 0.95
_WIDEST = 1.645 * 0.5
"""The one-sided 95% half-width of a share of 1/2, times the root of the rows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that have a confidence and a score. `slices` are the names of the slices of each."""

    logprob_N: Floats
    right_N: Floats
    clusters: list[str]
    slices: list[Sequence[str]]

    def __len__(self) -> int:
        return len(self.right_N)


def confidence(logprob_N: Floats, temperature: float = 1.0) -> Floats:
    """From the log-probability of whole answers to their confidence, 0 to 1, at a temperature of the log-odds."""
    return _share(log_odds(logprob_N) / temperature)


def log_odds(logprob_N: Floats) -> Floats:
    """log(p / (1 - p)) of probabilities given as logarithms; a p within 1e-6 of 1 counts as that."""
    import numpy as np

    low = np.minimum(logprob_N, 0.0)
    return np.asarray(low - np.log(np.maximum(-np.expm1(low), _RESOLUTION)))


def fit(logprob_N: Floats, right_N: Floats) -> float:
    """The temperature with the least cross-entropy between confidence and score: logistic regression with a slope and no intercept.

    The loss is convex in the slope 1/T, so the root of its derivative is halved in: 60 times is to the last digit.
    """
    odds_N = log_odds(logprob_N)
    low, high = _INVERSE
    for _ in range(60):
        middle = (low + high) / 2
        over = float(((_share(middle * odds_N) - right_N) * odds_N).sum())
        low, high = (low, middle) if over > 0 else (middle, high)
    return 2 / (low + high)


def measured(answers: Answers, temperature: float, *, seed: int = 0) -> dict[str, Any]:
    """`before`, `after` and `slices` of the report's `calibration`; the slice that is surely the worst calibrated comes first."""
    import numpy as np

    raw_N, scaled_N = confidence(answers.logprob_N), confidence(answers.logprob_N, temperature)
    before_RN, after_RN = (_if_calibrated(each_N, answers.clusters, seed) for each_N in (raw_N, scaled_N))
    members: dict[str, list[int]] = {}
    for row, names in enumerate(answers.slices):
        for name in names:
            members.setdefault(name, []).append(row)
    slices = []
    for name in sorted(members):
        rows = np.array(members[name])
        right_N, after_N = answers.right_N[rows], scaled_N[rows]
        bin_N = _bins(after_N)
        slices.append(
            {
                "slice": name,
                "n": len(rows),
                "confidence": rounded(float(after_N.mean())),
                "accuracy": rounded(float(right_N.mean())),
                "ece_before": rounded(_error(raw_N[rows] - right_N, _bins(raw_N[rows]))),
                "ece_after": rounded(_error(after_N - right_N, bin_N)),
                "chance": rounded(_chance(after_N, after_RN[:, rows], bin_N)),
            }
        )
    return {
        "before": _reliability(raw_N, answers, before_RN, seed),
        "after": _reliability(scaled_N, answers, after_RN, seed),
        "slices": sorted(slices, key=_how_calibrated),
    }


def _reliability(confidence_N: Floats, answers: Answers, calibrated_RN: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """ECE, its 95% interval and the bins of the reliability curve.

    The interval is the basic bootstrap's (Davison and Hinkley 1997, section 5.2) over clusters: the error of a resample is too large by
    about as much as the figure itself is, which twice the figure minus the quantiles takes back, and the lower end once more, for an
    absolute value has a larger part of it. It ends at 0 where chance explains the figure. In simulations it holds the truth in 84 to 96%.
    """
    import numpy as np

    bin_N = _bins(confidence_N)
    count = int(bin_N.max()) + 1
    over_NB = np.where(bin_N[:, None] == np.arange(count), (confidence_N - answers.right_N)[:, None], 0.0)
    drawn = bootstrap(over_NB[:, None, :], answers.clusters, seed=seed)[0]
    error = float(np.abs(drawn.means_S).sum())
    interval = None
    if drawn.clusters > 1:
        again_R = np.abs(drawn.totals_RS).sum(axis=1) / drawn.counts_R
        low, high = np.quantile(again_R, [0.025, 0.975])
        least = 2 * error - high - max(0.0, float(again_R.mean()) - error)
        least = 0.0 if error <= _chance(confidence_N, calibrated_RN, bin_N) else max(0.0, min(error, least))
        interval = {"low": rounded(least), "high": rounded(min(1.0, max(error, 2 * error - low)))}
    bins = []
    for number in range(count):
        inside = bin_N == number
        bins.append(
            {
                "low": rounded(float(confidence_N[inside].min())),
                "high": rounded(float(confidence_N[inside].max())),
                "confidence": rounded(float(confidence_N[inside].mean())),
                "accuracy": rounded(float(answers.right_N[inside].mean())),
                "n": int(inside.sum()),
            }
        )
    return {"ece": rounded(error), "interval": interval, "bins": bins}


def _share(odds_N: Floats) -> Floats:
    """From log-odds to probabilities; those of a long answer may be beyond what exp knows."""
    import numpy as np

    return np.asarray(1 / (1 + np.exp(-np.clip(odds_N, -700, 700))))


def _bins(confidence_N: Floats) -> NDArray[np.intp]:
    """[N]: the bin of each row by its rank, from the least confident up; rows of one confidence share their middle one."""
    import numpy as np

    rows = len(confidence_N)
    count = max(1, min(_BINS, rows // _PER_BIN))
    _, value_N, sizes = np.unique(confidence_N, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - sizes / 2
    return np.asarray(np.unique((ranks * count / rows).astype(int), return_inverse=True)[1][value_N])


def _error(over_N: Floats, bin_N: NDArray[np.intp]) -> float:
    """ECE of what confidence is above the score in each row."""
    import numpy as np

    return float(np.abs(np.bincount(bin_N, weights=over_N)).sum() / len(over_N))


def _chance(confidence_N: Floats, calibrated_RN: NDArray[np.bool_], bin_N: NDArray[np.intp]) -> float:
    """What the error of a calibrated student stays below in 95% of cases."""
    import numpy as np

    inside_NB = (bin_N[:, None] == np.arange(int(bin_N.max()) + 1)).astype(np.float32)
    over_RB = confidence_N @ inside_NB - calibrated_RN.astype(np.float32) @ inside_NB
    return float(np.quantile(np.abs(over_RB).sum(axis=1) / len(confidence_N), _CALIBRATED))


def _if_calibrated(confidence_N: Floats, clusters: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """[R, N]: right and wrong as a calibrated student would be by chance. Rows of one cluster share their luck: the most that they can."""
    import numpy as np

    numbers: dict[str, int] = {}
    cluster_N = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    draw = np.random.default_rng(seed)
    pieces = [draw.random((_AT_ONCE, len(numbers)))[:, cluster_N] < confidence_N for _ in range(_DRAWS // _AT_ONCE)]
    return np.concatenate(pieces)


def _how_calibrated(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """The error less what chance may have in it: of a calibrated student, or of a share of so many rows where it is widest (at 1/2). So a
    slice comes before its own parts, which are as bad and less sure. Slices with fewer rows than a bin come last: of many such, some are
    all wrong by chance."""
    return row["n"] < _PER_BIN, max(row["chance"], _WIDEST / row["n"] ** 0.5) - row["ece_after"], row["slice"]
