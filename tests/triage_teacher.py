"""The demo's task on a small scale, with a teacher behind a real HTTP server that knows the truth, until it is told to answer wrongly.

with triage_teacher() as teacher:
    recipe = triage(tmp_path, teacher.url, rows=1000)
    teacher.wrong = True
    teacher.asked["where is my parcel?"]             # how often it was asked that
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from background import in_background
from project import toml

TRIAGE = Path(__file__).parent.parent / "synthdistill" / "templates" / "triage"
TABLES: dict[str, dict[str, Any]] = {
    "prompts": {
        "source": "messages.jsonl",
        "template": "triage.md",
        "reference": "label",
        "group": "group",
        "held_out": "held-out.jsonl",
        "validation": 0.05,
    },
    "teacher": {"kind": "api", "model": "truth", "price": {"input": 1.0, "output": 2.0}},
    "generate": {"sampling": {"temperature": 0.0, "max_tokens": 64}},
    "filter": {"decontaminate": {"ngram": 50}},
    "train": {"student": "builtin", "epochs": 4, "learning_rate": 3e-3, "batch_size": 32, "warmup": 0.08},
    "eval": {
        "metrics": ["json_fields"],
        "text_fields": ["summary"],
        "sampling": {"temperature": 0.0, "max_tokens": 64},
        "speed": {"prompts": 0},
    },
    "gate": {"retention": 0.8},
}


def messages(name: str = "messages") -> list[dict[str, Any]]:
    """Rows of the demo: `messages` or `held-out`, in an order that mixes the templates."""
    lines = gzip.decompress((TRIAGE / f"{name}.jsonl.gz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def triage(folder: Path, url: str, *, rows: int, held_out: int = 200, **tables: dict[str, Any]) -> Path:
    """Write the project and return its recipe. `tables` go over `TABLES`, key by key."""
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "messages.jsonl", messages()[:rows])
    append(folder / "held-out.jsonl", messages("held-out")[:held_out])
    (folder / "triage.md").write_text((TRIAGE / "prompts" / "triage.md").read_text())
    merged = {name: TABLES.get(name, {}) | tables.get(name, {}) for name in TABLES | tables}
    merged["teacher"]["base_url"] = url
    lines = ['name = "triage"']
    for name, values in merged.items():
        lines += ["", f"[{name}]", *(f"{key} = {toml(value)}" for key, value in values.items())]
    (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "recipe.toml"


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows at the end of a file, at once, as a person or a program would."""
    with path.open("a", encoding="utf-8") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(slots=True)
class Teacher:
    """`asked` counts the requests by message; `wrong` makes each answer that to another message; `answered` are the requests served."""

    url: str = ""
    wrong: bool = False
    latency_s: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    labels: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    async def chat(self, http: web.Request) -> web.Response:
        """One request."""
        body = json.loads(await http.read())
        message = body["messages"][-1]["content"]
        self.asked[message] += 1
        text = (self.others if self.wrong else self.labels)[message]
        usage = {"prompt_tokens": 40, "completion_tokens": 30}
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
        return web.json_response({"model": "truth", "choices": choices, "usage": usage})


@contextmanager
def triage_teacher() -> Iterator[Teacher]:
    """The server while the block lasts."""
    rows = [*messages(), *messages("held-out")]
    labels = {row["message"]: row["label"] for row in rows}
    others = dict(zip(labels, [*list(labels.values())[37:], *list(labels.values())[:37]], strict=True))
    teacher = Teacher(labels=labels, others=others)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", teacher.chat)
    with in_background(app) as origin:
        teacher.url = f"{origin}/v1"
        yield teacher
