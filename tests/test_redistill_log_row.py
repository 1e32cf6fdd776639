"""A row of a log as a row of the source: what was asked, through templates and columns, however odd the row."""

import json

import pytest
from production_logs import ASKED, key, lines, log, take, texts
from project import jsonl

from synthdistill.content import Contents
from synthdistill.prompt_template import Template
from synthdistill.prompts import Config, load
from synthdistill.records import digest
from synthdistill.redistill.intake import Intake

# rows


def test_new_requests_wait_with_what_was_answered(base):
    [row, _] = sorted(take(base).pending, key=lambda row: texts([row]))

    assert row == {
        "request": {"messages": [{"role": "user", "content": "one"}], "model": "big"},
        "response": {
            "model": "big-1",
            "choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}},
        },
        "id": f"log-{digest([{'role': 'user', 'content': 'one'}], None)}",
    }


def test_what_was_adopted_is_a_source_whose_answers_are_not_asked_for_again(base):
    intake = take(base)
    path = intake.adopt(base / "run" / "logged.jsonl")
    intake.save()
    loaded = load(Config(source=str(path), held_out=0.0, validation=0.0), base, teacher={"big"})

    assert [prompt.logged for prompt in loaded.prompts] == [1, 1]
    assert {key(prompt.text) for prompt in loaded.prompts} == {key("one"), key("two")}
    assert (Intake.open(base / ".redistill").pending, Intake.open(base / ".redistill").new) == ([], 0)


CALL = {"id": "c", "type": "function", "function": {"name": "track", "arguments": '{"order": "7"}'}}
SAID = {
    "a text": ({"content": "ok"}, "stop"),
    "a cut one": ({"content": "o"}, "length"),
    "calls": ({"content": None, "tool_calls": [CALL]}, "tool_calls"),
    "a trace": ({"content": "ok", "reasoning_content": "hm"}, "stop"),
    "a refusal": ({"content": None, "refusal": "no"}, "stop"),
    "filtered": ({"content": "no"}, "content_filter"),
    "nobody knows": ({"content": "ok"}, "strange"),
}


@pytest.mark.parametrize("said", SAID)
def test_a_stored_row_says_what_the_log_said(base, said):
    from synthdistill.logs import logged
    from synthdistill.sources import Row

    message, reason = SAID[said]
    row = log("three", tools=[])
    row["response"]["choices"] = [{"message": {"role": "assistant", **message}, "finish_reason": reason}] * 2
    jsonl(base / "logs" / "a.jsonl", [row])

    assert logged(Row(take(base).pending[0], "stored")) == logged(Row(row, "the log"))


def test_each_row_of_a_log_is_counted_once(base):
    streamed = log("x") | {"response": [{"object": "chat.completion.chunk"}]}
    failed = log("failed") | {"response": {"error": "overloaded"}, "status": 529}
    ended = log("x")
    ended["request"]["messages"].append({"role": "assistant", "content": "y"})
    rows = [
        log("one"),
        log("ONE "),
        log("old"),
        failed,
        streamed,
        ended,
        {"response": {"choices": []}},
        {"request": {"input": "x"}},
        {"text": "x"},
    ]
    path = jsonl(base / "logs" / "a.jsonl", rows)
    with path.open("ab") as handle:
        handle.write(b"not JSON\n\n[1]\n\xff\n" + b'{"a":' * 100_000 + b"\n")
    notes = []
    intake = take(base, known={key("old")}.__contains__, note=notes.append)

    assert dict(intake.counters) == {
        "read": 13,
        "new": 2,
        "repeated": 1,
        "known": 1,
        "log_streamed": 1,
        "log_ends_with_answer": 1,
        "log_unreadable_request": 1,
        "log_without_messages": 1,
        "not_a_request": 1,
        "unreadable": 4,
        "redacted": 0,
    }
    assert notes == ["logs/a.jsonl: 4 lines are no JSON object, passed over"]
    assert texts(intake.pending) == ["failed", "one"]


def test_the_sum_of_the_counters_is_what_was_read(base):
    counters = take(base, known={key("two")}.__contains__).counters

    assert counters["read"] == sum(count for name, count in counters.items() if name not in ("read", "redacted")) == 2


def test_a_request_that_was_answered_takes_the_place_of_the_one_that_was_not(base):
    failed = log("one") | {"response": {"error": "overloaded"}, "status": 529}
    jsonl(base / "logs" / "a.jsonl", [failed, log("one")])

    assert ["response" in row for row in take(base).pending] == [True]


def test_messages_without_a_response_are_a_prompt(base):
    jsonl(base / "logs" / "a.jsonl", [{"messages": [{"role": "user", "content": "one"}]}, {"messages": "x"}])

    assert texts(take(base).pending) == ["one"]


# templates and columns


def test_with_a_template_the_columns_are_read_out_of_the_messages(base, templates):
    rows = [log("Classify this.\n\none"), log("two ->"), log("three"), {"text": "four", "when": "today"}]
    jsonl(base / "logs" / "a.jsonl", rows)
    intake = take(base, **templates)

    assert {row["text"]: row.get("logged_answer") for row in intake.pending} == {"one": "ok", "two": "ok", "four": None}
    assert {*intake.pending[0]} <= {"text", "id", "logged_answer"}
    assert intake.counters["not_of_template"] == 1


def test_a_row_has_the_columns_that_the_recipe_names(base, templates):
    rows = [
        log("Classify this.\n\none", channel="mail", thread="t1"),
        log("Classify this.\n\ntwo") | {"metadata": {"channel": "chat", "thread": "ann@example.com"}},
        {"text": "three", "ticket": "my own"},
    ]
    rows[0]["request"]["metadata"] = {"label": "gold"}
    jsonl(base / "logs" / "a.jsonl", rows)
    intake = take(base, **templates, id_column="ticket", columns=("label", "thread", "channel"), slices=("channel",), group="thread")
    beside = {row["text"]: (row["label"], row["thread"], row["channel"], row["ticket"][:4]) for row in intake.pending}

    assert beside == {"one": ("gold", "t1", "mail", "log-"), "two": (None, None, "chat", "log-"), "three": (None, None, None, "log-")}
    assert {row["text"]: row["fields"] for row in intake.window} == {
        "one": {"channel": "mail"},
        "two": {"channel": "chat"},
        "three": {"channel": None},
    }


@pytest.mark.parametrize("column", ["answer", "response"])
@pytest.mark.parametrize("form", ["columns", "logs"])
def test_an_answer_never_stands_in_the_column_of_the_gold_one(base, templates, form, column):
    rows = [log("Classify this.\n\none"), log("Classify this.\n\ntwo"), {"messages": log("Classify this.\n\nthree")["request"]["messages"]}]
    rows[1]["request"]["metadata"] = {column: "gold"}
    jsonl(base / "logs" / "a.jsonl", [row | {"answer": "wrong"} for row in rows])
    intake = take(base, columns=(column,), **(templates if form == "columns" else {}))
    gold = {row.get("text") or texts([row])[0].split()[-1]: row[column] for row in intake.pending}

    assert gold == {"one": None, "two": "gold", "three": None}


@pytest.mark.parametrize("column", ["request", "response", "body", "messages"])
def test_a_template_column_that_is_called_as_a_part_of_a_log_holds_the_words_of_a_request(base, column):
    (base / "template.md").write_text(f"Classify: {{{{ {column} }}}}")
    batch = {"custom_id": "1", "body": log("Classify: two")["request"], "response": {"body": log("x")["response"], "status_code": 200}}
    flat = log("")["request"] | {"messages": log("Classify: three")["request"]["messages"], "response": log("")["response"]}
    source = {column: "four"}
    jsonl(base / "logs" / "a.jsonl", [log("Classify: one"), batch, flat, source, log("other")])
    intake = take(base, contents=Contents(Template(base / "template.md")))

    assert {row[column]: row.get("logged_answer") for row in intake.pending} == {"one": "ok", "two": "ok", "three": "ok", "four": None}
    assert intake.counters["not_of_template"] == 1


def test_columns_beside_a_request_do_where_no_template_can_be_read_backwards(base):
    (base / "template.md").write_text("{{ text }}{% if tone == 'calm' %} Please.{% endif %}")
    beside = log("one Please.") | {"text": "one", "metadata": {"tone": "calm"}}
    jsonl(base / "logs" / "a.jsonl", [beside, log("two")])
    intake = take(base, contents=Contents(Template(base / "template.md")))

    assert [(row["text"], row["tone"], row["logged_answer"]) for row in intake.pending] == [("one", "calm", "ok")]
    assert intake.counters["not_of_template"] == 1


def test_a_row_that_the_students_template_cannot_render_is_counted(base):
    (base / "teacher.md").write_text("{{ text }}")
    (base / "student.md").write_text("{{ text.subject }}")
    jsonl(base / "logs" / "a.jsonl", [{"text": {"subject": "one"}}, {"text": "two"}])
    intake = take(base, contents=Contents(Template(base / "teacher.md")), student=Template(base / "student.md"))

    assert (intake.counters["new"], intake.counters["not_renderable"]) == (1, 1)


def test_the_fields_of_the_window_are_texts_as_a_prompt_has_them(base):
    given = [7, True, None, "a", ["b"], 0.5]
    jsonl(base / "logs" / "a.jsonl", [log(str(place), slice=value) for place, value in enumerate(given)])
    intake = take(base, columns=("slice",), slices=("slice",))
    path = intake.adopt(base / "run" / "rows.jsonl")
    loaded = load(Config(source=str(path), slices=["slice"], held_out=0.0, validation=0.0), base)
    fields = {row["text"]: row["fields"] for row in intake.window}

    assert fields == {prompt.text: prompt.metadata for prompt in loaded.prompts}
    assert [fields[str(place)]["slice"] for place in range(6)] == ["7", "true", None, "a", '["b"]', "0.5"]


def test_two_spellings_of_a_prompt_have_two_ids(base):
    """An id stands for one content: a run that gets both, from two calls, would be refused else."""
    first = take(base).pending[0]["id"]
    (base / "logs" / "a.jsonl").write_text(lines("ONE", "TWO"))
    other = Intake.open(base / "elsewhere")
    other.read("logs", base, Contents(None), None, **ASKED)

    assert first not in {row["id"] for row in other.pending}


# odd rows


def test_half_a_character_is_replaced_when_a_line_is_read(base):
    (base / "logs" / "a.jsonl").write_text(lines("one \ud83d", "two \U0001f600"), encoding="utf-8")
    stored = [take(base, columns=("x",)).pending, Intake.open(base / ".redistill").pending]

    assert [texts(rows) for rows in stored] == [["one \ufffd", "two \U0001f600"]] * 2


ODD = [None, True, -1, 1.5, "", [], {}, [None], "x", "[1", "\ud800", 10**30, float("nan"), [[1] * 2], {"a": {"b": []}}]


def places(value, at=()):
    """Every place in a JSON value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield (*at, step)
        yield from places(item, (*at, step))


def put(value, at, odd):
    copy = json.loads(json.dumps(value))
    inner = copy
    for step in at[:-1]:
        inner = inner[step]
    inner[at[-1]] = odd
    return copy


@pytest.mark.parametrize("form", ["logs", "columns"])
def test_a_row_with_anything_anywhere_is_counted(base, templates, form):
    row = log("Classify this.\n\none", tools=[]) | {"metadata": {"label": "gold"}}
    rows = [put(row, at, odd) for at in places(row) for odd in ODD]
    deep = ["[" * 700 + "]" * 700, '{"a":' * 400 + "1" + "}" * 400]
    with (base / "logs" / "a.jsonl").open("w") as handle:
        handle.writelines(json.dumps(each) + "\n" for each in rows)
        handle.writelines(f'{{"request": {{"messages": [{{"role": "user", "content": "x", "y": {each}}}]}}}}\n' for each in deep)
    counters = take(base, columns=("label",), slices=("label",), **(templates if form == "columns" else {})).counters
    Intake.open(base / ".redistill").pending  # noqa: B018  # what was stored can be read

    assert counters["read"] == sum(count for name, count in counters.items() if name not in ("read", "redacted")) == len(rows) + 2
