"""Measure a model on the held-out rows against the truth, beside a constant answer and a linear baseline.

    python -m examples.triage.measure
    python -m examples.triage.measure --model synthdistill/templates/base --baselines

Answers are greedy, from the saved 16-bit weights in 32-bit arithmetic, through plain transformers.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from examples.triage.make import DEMO, Record
from examples.triage.score import FIELDS, field_scores, score
from examples.triage.tokenizer import prompt_text
from examples.triage.train_teacher import TEACHER

ORDER = re.compile(r"(?:order (?:#|no\. |number )?|#)(\d{5})\b")


def read(path: Path) -> list[Record]:
    """The rows of one gzipped file."""
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, messages: Sequence[str], batch: int = 64) -> list[str]:
    """Greedy answers of a model."""
    out: list[str] = []
    for at in range(0, len(messages), batch):
        prompts = [prompt_text(tokenizer, message) for message in messages[at : at + batch]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        tokens = model.generate(**inputs, max_new_tokens=96, do_sample=False)
        out += tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return out


# ---- baselines -----------------------------------------------------------------------------------------------------


def constant_answer(train: Sequence[Record]) -> str:
    """The most frequent value of every field, whatever the message says."""
    labels = [json.loads(row["label"]) for row in train]
    return json.dumps({field: Counter(label[field] for label in labels).most_common(1)[0][0] for field in FIELDS})


def linear_answers(train: Sequence[Record], messages: Sequence[str]) -> list[str]:
    """Logistic regressions on words and pairs of words, a pattern for the order, the usual summary of the intent."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    labels = [json.loads(row["label"]) for row in train]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    known, new = vectorizer.fit_transform([row["message"] for row in train]), vectorizer.transform(messages)
    usual = {
        intent: Counter(label["summary"] for label in labels if label["intent"] == intent).most_common(1)[0][0]
        for intent in {label["intent"] for label in labels}
    }
    columns = {}
    for field in ("intent", "product", "urgency"):
        model = LogisticRegression(C=10, max_iter=200).fit(known, [label[field] or "" for label in labels])
        columns[field] = [str(value) or None for value in model.predict(new)]
    columns["order"] = [found[1] if (found := ORDER.search(message.lower())) else None for message in messages]
    columns["summary"] = [usual[str(intent)] for intent in columns["intent"]]
    return [json.dumps({field: columns[field][at] for field in FIELDS}) for at in range(len(messages))]


# ---- the tables ----------------------------------------------------------------------------------------------------


def table(given: Sequence[str], rows: Sequence[Record]) -> str:
    """Markdown: mean score and fields of every slice."""
    lines = [f"| rows | n | score | {' | '.join(FIELDS)} |", "|---|---|---|" + "---|" * len(FIELDS)]
    pairs = list(zip(given, rows, strict=True))
    slices: dict[str, list[tuple[str, Record]]] = {"all": pairs}
    for columns in (("seen",), ("hard",), ("seen", "hard")):
        for answer, row in sorted(pairs, key=lambda pair: [pair[1][column] for column in columns]):
            slices.setdefault(", ".join(row[column] for column in columns), []).append((answer, row))
    for title, members in slices.items():
        scores = [field_scores(answer, row["label"]) for answer, row in members]
        fields = [sum(one[field] for one in scores) / len(scores) for field in FIELDS]
        means = " | ".join(f"{value:.3f}" for value in (sum(fields) / len(fields), *fields))
        lines.append(f"| {title} | {len(members)} | {means} |")
    return "\n".join(lines)


def mistakes(given: Sequence[str], rows: Sequence[Record], count: int) -> str:
    """The first wrong answers beside the truth."""
    wrong = [(answer, row) for answer, row in zip(given, rows, strict=True) if score(answer, row["label"]) < 1]
    shown = [f"- {row['message']}\n  - truth `{row['label']}`\n  - model `{answer}`" for answer, row in wrong[:count]]
    return "\n".join(shown)


def main() -> None:
    """Print the table of the model, its mistakes, and on request the baselines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TEACHER)
    parser.add_argument("--every", type=int, default=1, help="take every k-th row only")
    parser.add_argument("--mistakes", type=int, default=8)
    parser.add_argument("--baselines", action="store_true")
    options = parser.parse_args()

    rows = read(DEMO / "held-out.jsonl.gz")[:: options.every]
    messages = [row["message"] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    given = answers(model, tokenizer, messages)
    print(f"{table(given, rows)}\n\n{mistakes(given, rows, options.mistakes)}")
    if options.baselines:
        train = read(DEMO / "messages.jsonl.gz")
        constant = constant_answer(train)
        print(f"\nconstant answer `{constant}`\n\n{table([constant] * len(rows), rows)}")
        print(f"\nTF-IDF\n\n{table(linear_answers(train, messages), rows)}")


if __name__ == "__main__":
    main()
