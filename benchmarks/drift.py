"""Does the daily look for drift cry wolf, and does it see a new topic? Beside the plain classifier two-sample test.

    SYNTHDISTILL_DATA=... python benchmarks/drift.py
    python benchmarks/drift.py --quick      # 10 months of 10 looks, 10 trials

Prints one JSON line a figure and exits 1 where a target is missed. The requests are those of CLINC150 (Larson et al. 2019, CC BY 3.0)
in the folder that SYNTHDISTILL_DATA names, 150 intents of 150 requests.

Without drift: 6,000 random requests are the training prompts, the others the pool of a month, each day 300 of them at random. With drift:
one intent is left out of the training prompts and is 10% of the 1,000 requests of a window; each trial has another intent. Between them,
the official split: its training part, and windows of its other two parts, which were written by other people.

The plain test is the cross-validated AUC of logistic regression on TF-IDF, fitted for each window. Its threshold is set on windows
without drift (mean and standard deviation of the AUC) so that a look is as often wrong as one of ours may be: 0.01 in 30.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from synthdistill.evaluation.drift import Drift, Reference, Sample
from synthdistill.text import words

P, SHARE, LOOKS = 0.01, 0.02, 30
NEW = 0.1
WINDOW, SMALL = 1_000, 300
TRAINED = 6_000

Request = tuple[str, str]
"""Text and intent."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="10 months of 10 looks and 10 trials in place of 200 of 30 and 100")
    held = True
    for found in figures(options.parse_args().quick):
        print(json.dumps(found), flush=True)
        held = held and found["holds"]
    return 0 if held else 1


def figures(quick: bool) -> Iterator[dict[str, Any]]:
    """All figures, two processes at work."""
    months, days, trials, others = (10, 10, 10, 1) if quick else (200, 30, 100, 4)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tried = list(pool.map(trial, range(trials)))
        yield from _with_drift(tried)
        yield from _beside_the_plain_test(tried)
        yield from _official_split(list(pool.map(official, range(others), [days] * others)))
        yield from _without_drift(list(pool.map(month, range(months), [days] * months)), days)


@dataclass(frozen=True)
class Trial:
    """What was found in a window with new traffic."""

    alarm: bool
    covered: bool
    belong: list[bool]
    """For each of the first five words shown."""
    seconds: float
    plain: float
    """AUC of the plain test in this window."""
    plain_quiet: float
    """AUC of the plain test in a window of the same size without new traffic."""


def _with_drift(tried: list[Trial]) -> Iterator[dict[str, Any]]:
    n = len(tried)
    how = f"{WINDOW} requests, {NEW:.0%} of them of an intent that the training prompts lack, {n} trials; p = {P}, share = {SHARE}"
    yield figure("drift_found", sum(one.alarm for one in tried) / n, 0.9, "trials with an alarm; " + how)
    shown = [word for one in tried for word in one.belong]
    told = "of the first five words shown, those at least five times as frequent in the new intent as elsewhere"
    yield figure("drift_words_belong", sum(shown) / max(1, len(shown)), 0.8, f"{told}; {len(shown)} words")
    named = sum(any(one.belong) and sum(one.belong) >= 0.8 * len(one.belong) for one in tried) / n
    yield figure("drift_named", named, 0.9, "trials in which four of five of them are")
    yield figure("drift_share_covered", sum(one.covered for one in tried) / n, 0.8, "trials whose 95% interval of the share holds 10%")
    cpu = statistics.median(one.seconds for one in tried)
    yield figure("drift_look_cpu_s", cpu, 2.0, f"CPU of a look at {WINDOW}, the reference read, median", most=True)


def _beside_the_plain_test(tried: list[Trial]) -> Iterator[dict[str, Any]]:
    quiet = [one.plain_quiet for one in tried]
    middle, deviation = statistics.mean(quiet), statistics.stdev(quiet)
    least = middle + statistics.NormalDist().inv_cdf(1 - P / LOOKS) * deviation
    plain, ours = sum(one.plain > least for one in tried) / len(tried), sum(one.alarm for one in tried) / len(tried)
    beside = f"ours {ours:.2f}, plain AUC {plain:.2f}: mean {statistics.mean(one.plain for one in tried):.3f}, without drift {middle:.3f}"
    yield figure(
        "drift_found_over_plain", ours - plain, 0.0, f"trials found more than by the plain test; {beside}, alarm above {least:.3f}"
    )


def _official_split(months: list[list[tuple[bool, float]]]) -> Iterator[dict[str, Any]]:
    looks = [alarm for month in months for alarm, _ in month]
    how = f"of {len(looks)} looks at {WINDOW} of CLINC150's test and validation parts, against its training part"
    yield figure("drift_official_split", sum(looks) / len(looks), 0.05, f"alarms, {how}", most=True)


def _without_drift(quiet: list[list[tuple[bool, float]]], days: int) -> Iterator[dict[str, Any]]:
    alarms = sum(any(alarm for alarm, _ in looks) for looks in quiet) / len(quiet)
    how = f"of {len(quiet)} months of {days} looks at {SMALL} requests, {TRAINED} training prompts"
    yield figure("drift_false_months", alarms, 0.05, f"months with any alarm, {how}", most=True)
    shares = sorted(share for looks in quiet for _, share in looks)
    yield figure("drift_share_without", statistics.median(shares), 0.01, f"the median estimate of new traffic, {how}", most=True)


def trial(number: int) -> Trial:
    """One window with an intent that is new."""
    requests, draw = _requests("train", "dev", "test"), random.Random(number)
    intents = sorted({intent for _, intent in requests})
    new = random.Random(7).sample(intents, len(intents))[number % len(intents)]
    inside = _shuffled(draw, [text for text, intent in requests if intent == new])
    outside = _shuffled(draw, [text for text, intent in requests if intent != new])
    count = round(WINDOW * NEW)
    window, known = inside[:count] + outside[: WINDOW - count], outside[2 * WINDOW :]
    reference = Reference.of(Sample(known))
    started = time.process_time()
    found = reference.look(Sample(window), looks=LOOKS)
    return Trial(
        alarm=found.alarm(P, SHARE),
        covered=found.share.low <= NEW <= found.share.high,
        belong=_belong(found, inside, outside),
        seconds=time.process_time() - started,
        plain=_plain_auc(known, window, number),
        plain_quiet=_plain_auc(known, outside[WINDOW : 2 * WINDOW], number),
    )


def official(number: int, days: int) -> list[tuple[bool, float]]:
    """A month on the official split."""
    reference = Reference.of(Sample([text for text, _ in _requests("train")]), seed=number)
    return _looks(reference, [text for text, _ in _requests("dev", "test")], days, WINDOW, random.Random(number))


def month(number: int, days: int) -> list[tuple[bool, float]]:
    """A month without drift."""
    draw = random.Random(number)
    texts = _shuffled(draw, [text for text, _ in _requests("train", "dev", "test")])
    return _looks(Reference.of(Sample(texts[:TRAINED])), texts[TRAINED:], days, SMALL, draw)


def _looks(reference: Reference, pool: list[str], days: int, size: int, draw: random.Random) -> list[tuple[bool, float]]:
    looks = [reference.look(Sample(draw.sample(pool, size)), looks=LOOKS) for _ in range(days)]
    return [(found.alarm(P, SHARE), found.share.value) for found in looks]


def _belong(found: Drift, inside: Sequence[str], outside: Sequence[str]) -> list[bool]:
    ours, others = [set(words(text)) for text in inside], [set(words(text)) for text in outside]
    shown = [each.word for each in found.words[:5]]
    return [_frequency(word, ours) >= 5 * _frequency(word, others) for word in shown]


def _frequency(word: str, texts: Sequence[set[str]]) -> float:
    return sum(word in text for text in texts) / len(texts)


def _plain_auc(known: list[str], window: list[str], seed: int) -> float:
    """The classifier two-sample test as it is usually written."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    sample = random.Random(seed).sample(known, 10_000)
    sides = [0] * len(sample) + [1] * len(window)
    weights = TfidfVectorizer(ngram_range=(1, 2)).fit_transform(sample + window)
    model = LogisticRegression(solver="liblinear", dual=True, class_weight="balanced", tol=0.1, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return float(roc_auc_score(sides, cross_val_predict(model, weights, sides, cv=folds, method="decision_function")))


def _requests(*parts: str) -> list[Request]:
    folder = os.environ.get("SYNTHDISTILL_DATA")
    if not folder:
        raise SystemExit("SYNTHDISTILL_DATA is not set. Name the folder that holds clinc150/train.jsonl")
    rows = [json.loads(line) for part in parts for line in (Path(folder) / f"clinc150/{part}.jsonl").read_text("utf-8").splitlines()]
    return [(row["text"], row["label"]) for row in rows if row["label"] != "oos"]


def _shuffled(draw: random.Random, texts: list[str]) -> list[str]:
    return draw.sample(texts, len(texts))


def figure(name: str, value: float, target: float, how: str, *, most: bool = False) -> dict[str, Any]:
    """`most`: the target is the most that may be, otherwise the least."""
    holds = value <= target if most else value >= target
    return {"name": name, "value": round(value, 4), "target": target, "holds": holds, "how": how}


if __name__ == "__main__":
    sys.exit(main())
