"""Logs of a server that answers in OpenAI form, and one call that takes them in.

append(base / "logs" / "a.jsonl", "three")
take(base).pending
"""

import json

from synthdistill.content import Contents
from synthdistill.records import digest
from synthdistill.redistill.intake import Intake
from synthdistill.text import normalise

ASKED = {"known": lambda key: False, "redact": True, "sample": 1000, "window": 1000, "note": lambda text: None}


def log(text, answer="ok", **more):
    """A row of a log."""
    choices = [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
    return {
        "request": {"model": "big", "messages": [{"role": "user", "content": text}], "temperature": 0.2},
        "response": {"model": "big-1", "choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    } | more


def lines(*texts):
    return "".join(json.dumps(log(text)) + "\n" for text in texts)


def append(path, *texts):
    with path.open("a", encoding="utf-8") as handle:
        handle.write(lines(*texts))


def take(base, logs="logs", **options):
    """One call: the store is opened, the logs are read, what is new is saved."""
    options = ASKED | {"contents": Contents(None), "student": None} | options
    intake = Intake.open(base / ".redistill")
    if intake.read(logs, base, options.pop("contents"), options.pop("student"), **options):
        intake.save()
    return intake


def texts(rows):
    return sorted(row["request"]["messages"][-1]["content"] for row in rows)


def key(text):
    return digest(normalise(text))
