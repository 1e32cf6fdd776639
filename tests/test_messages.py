"""Tools on their way: out of every format the same, to the teacher behind a server or here, and to the student."""

import json

import pytest
from project import jsonl, project, synthdistill
from servers import serve
from test_sources import as_csv, as_parquet
from tiny import CHAT_TEMPLATE, tiny_model

from synthdistill import messages
from synthdistill.prompts import Config, load
from synthdistill.records import Prompt
from synthdistill.runs import Run
from synthdistill.stages import material, train


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


ASKED = [{"role": "user", "content": "Where is order 7?"}]
CALLED = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "here"},
]
ROWS = [
    {"id": "1", "messages": ASKED, "tools": [tool("track", order={"type": "string", "enum": ["a", "b"]})]},
    {"id": "2", "messages": CALLED, "tools": [tool("refund", amount={"type": "number"}), tool("weather", city={"type": "string"})]},
    {"id": "3", "messages": ASKED, "tools": None},
    {"id": "4", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "tools": None},
]
TOOLS_TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ '<|tool|>' + tool['function']['name'] + '<|end|>' }}{% endfor %}{% endif %}" + CHAT_TEMPLATE
)


def prompts_of(path):
    return load(Config(source=path.name, held_out=0.0, validation=0.0), path.parent).prompts


def as_text(rows):
    return [{key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows]


def test_messages_and_tools_are_the_same_prompts_out_of_every_format(tmp_path):
    """CSV holds them as JSON text; Parquet gives each tool the parameters of all others, as nulls."""
    given = prompts_of(jsonl(tmp_path / "rows.jsonl", ROWS))

    assert {prompt.source_ids[0]: prompt.tools for prompt in given} == {row["id"]: row["tools"] for row in ROWS}
    assert prompts_of(as_csv(tmp_path / "rows.csv", as_text(ROWS))) == given
    assert prompts_of(as_parquet(tmp_path / "rows.parquet", ROWS[:3])) == [prompt for prompt in given if prompt.source_ids != ["4"]]


def test_a_null_stays_in_a_list_and_in_the_arguments_of_a_call():
    call = {"function": {"name": "f", "arguments": {"city": None}}, "index": None}

    assert messages.bare({"enum": ["a", None], "tool_calls": [call]}) == {
        "enum": ["a", None],
        "tool_calls": [{"function": {"name": "f", "arguments": {"city": None}}}],
    }


def test_a_teacher_behind_a_server_is_sent_the_tools_of_its_row(tmp_path):
    recipe = project(
        tmp_path,
        prompts={"source": "tools.parquet", "template": None, "held_out": 0.0, "validation": 0.0},
        teacher={"kind": "api", "model": "m", "answers": None},
    )
    as_parquet(tmp_path / "tools.parquet", ROWS[:3])
    with serve() as server:
        done = synthdistill("generate", recipe, "--set", f"teacher.base_url={server.url}")

    assert done.returncode == 0, done.stderr
    sent, given = (
        [json.dumps([each["messages"], each.get("tools")], sort_keys=True) for each in rows] for rows in (server.bodies, ROWS[:3])
    )
    assert sorted(sent) == sorted(given)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("tools") / "model", context=512)
    (folder / "chat_template.jinja").write_text(TOOLS_TEMPLATE)
    return folder


def test_a_teacher_here_reads_the_tools_through_its_chat_template(model):
    """The tokenizer of the samplers for transformers and for vLLM alike."""
    from synthdistill.samplers.tokenizer import ChatTokenizer

    tokenizer = ChatTokenizer(str(model))
    with_tools = Prompt("p", ["1"], ASKED, "", "train", ROWS[0]["tools"])

    assert tokenizer.bare.decode(tokenizer.ids(with_tools)).startswith("<|tool|>track<|end|><|user|>")


def test_the_student_is_trained_with_the_tools_of_its_rows(tmp_path, model):
    rows = [{"id": str(n), "messages": [{"role": "user", "content": f"Order {n}?"}], "tools": ROWS[n % 2]["tools"]} for n in range(12)]
    recipe = project(tmp_path, rows, prompts={"template": None, "held_out": 0.0, "validation": 0.0})
    for stage in ("generate", "filter"):
        done = synthdistill(stage, recipe)
        assert done.returncode == 0, done.stderr

    place = Run(tmp_path / "runs" / "toy" / "main", tmp_path, "recipe.toml")
    found = material.load(train.Config(student=str(model)), Config(source="rows.jsonl"), place, None)
    asked = sorted(found.source.tokenizer.decode(row.prompt).partition("<|user|>")[0] for row in found.train)

    assert asked == ["<|tool|>refund<|end|><|tool|>weather<|end|>"] * 6 + ["<|tool|>track<|end|>"] * 6
