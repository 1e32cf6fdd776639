"""Production logs taken in: each request once, whatever grows, rotates, breaks or is killed; nothing personal on disk."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from project import environment, jsonl
from test_sources import compressed

from synthdistill.content import Contents
from synthdistill.errors import RecipeError, StorageError
from synthdistill.prompt_template import Template
from synthdistill.prompts import Config, load
from synthdistill.records import digest
from synthdistill.redistill.intake import Intake
from synthdistill.redistill.sample import Sample
from synthdistill.sources import read_rows
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


@pytest.fixture
def base(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.jsonl").write_text(lines("one", "two"))
    return tmp_path


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


@pytest.fixture
def templates(base):
    for name, words in (("teacher", "Classify this.\n\n{{ text }}\n"), ("student", "{{ text }} ->")):
        (base / f"{name}.md").write_text(words)
    return {"contents": Contents(Template(base / "teacher.md")), "student": Template(base / "student.md")}


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
    for key, item in inner:
        yield (*at, key)
        yield from places(item, (*at, key))


def put(value, at, odd):
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
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


# files that change


def test_what_was_appended_is_read_and_nothing_else(base):
    take(base)
    append(base / "logs" / "a.jsonl", "three")
    intake = take(base)

    assert texts(intake.pending) == ["one", "three", "two"]
    assert (intake.counters["read"], intake.window_seen, intake.new) == (3, 3, 3)


def test_nothing_new_is_nothing_to_save(base):
    take(base)
    intake = Intake.open(base / ".redistill")

    assert not intake.read("logs", base, Contents(None), None, **ASKED)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(base):
    path = base / "logs" / "a.jsonl"
    whole = lines("three")
    path.write_text(path.read_text() + whole[:50])
    first = texts(take(base).pending)
    path.write_text(path.read_text() + whole[50:])
    intake = take(base)

    assert (first, texts(intake.pending)) == (["one", "two"], ["one", "three", "two"])
    assert intake.counters["read"] == 3


def test_a_last_line_without_its_end_is_read_where_it_is_whole(base):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines("one", "two").rstrip("\n"))
    first = take(base)
    with path.open("a") as handle:
        handle.write("\n" + lines("three"))

    assert texts(first.pending) == ["one", "two"]
    assert take(base).counters["read"] == 3


LONG = [f"{place} {'x' * 300}" for place in range(60)]
"""More than the first and last bytes by which a file is known again."""


def packed(suffix):
    def pack(path):
        path.with_name(path.name + suffix).write_bytes(compressed(path.read_bytes(), suffix))
        path.unlink()
        path.write_text(lines("new"))

    return pack


def renamed(name):
    def rename(path):
        path.rename(path.with_name(name))
        path.write_text(lines("new"))

    return rename


def copied_and_truncated(path):
    path.with_name("a.jsonl.1").write_bytes(path.read_bytes())
    path.write_text(lines("new"))


def rotated_while_it_grew(path):
    append(path, "late")
    renamed("a.jsonl.1")(path)


def packed_and_not_yet_taken_away(path):
    path.with_name("a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    append(path, "new")


ROTATIONS = {
    "renamed": (renamed("a.jsonl.1"), 1),
    "renamed to a name that comes before": (renamed("a-2026-11-25.jsonl"), 1),
    "with a date": (renamed("a.jsonl-20261125"), 1),
    "copied and truncated": (copied_and_truncated, 1),
    "packed as gz": (packed(".gz"), 1),
    "packed as zst": (packed(".zst"), 1),
    "after it grew": (rotated_while_it_grew, 2),
    "packed, the plain one still there": (packed_and_not_yet_taken_away, 1),
}


@pytest.mark.parametrize("size", [2, 14, 60])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_file_that_was_rotated_is_not_read_again(base, rotation, size):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines(*LONG[:size]))
    take(base)
    rotate, fresh = ROTATIONS[rotation]
    rotate(path)
    intake = take(base)

    assert (intake.counters["read"], intake.window_seen) == (size + fresh, size + fresh)
    assert not Intake.open(base / ".redistill").read("logs", base, Contents(None), None, **ASKED)


def test_a_chain_of_rotations_is_followed(base):
    path = base / "logs" / "a.jsonl"
    for number in range(4):
        path.write_text(lines(f"{number}a", f"{number}b"))
        take(base)
        for old in range(number, 0, -1):
            path.with_name(f"a.jsonl.{old}").rename(path.with_name(f"a.jsonl.{old + 1}"))
        path.rename(path.with_name("a.jsonl.1"))
    path.write_text(lines("last"))

    assert take(base).counters["read"] == 9


def test_a_file_that_was_written_anew_is_read_again_and_its_old_rows_are_not_new(base):
    take(base)
    (base / "logs" / "a.jsonl").write_text(lines("two", "three"))
    intake = take(base)

    assert texts(intake.pending) == ["one", "three", "two"]
    assert (intake.counters["new"], intake.counters["repeated"]) == (3, 1)


ROTATED = ["a.jsonl.1", "a.jsonl-20261125", "a.jsonl.2026-11-25_14-30", "a.jsonl.gz", "a.jsonl.1.zst"]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", ROTATED)
@pytest.mark.parametrize("logs", ["logs/a.jsonl", "logs/*.jsonl"])
def test_what_came_between_a_call_and_a_rotation_is_read(base, logs, name, fresh):
    path = base / "logs" / "a.jsonl"
    take(base, logs)
    append(path, "late")
    rotated = base / "logs" / name
    suffix = rotated.suffix if rotated.suffix in (".gz", ".zst") else None
    rotated.write_bytes(compressed(path.read_bytes(), suffix) if suffix else path.read_bytes())
    path.unlink()
    if fresh:
        path.write_text(lines("new"))
    intake = take(base, logs)

    assert texts(intake.pending) == sorted(["late", "one", "two", *(["new"] if fresh else [])])
    assert intake.counters["read"] == 3 + fresh


def test_a_neighbour_that_no_rotation_made_is_not_read(base):
    for name in ("a.jsonl.bak", "b.jsonl", "ab.jsonl.1", "a.jsonl.1.tmp"):
        (base / "logs" / name).write_text(lines("other"))

    assert take(base, "logs/a.jsonl").counters["read"] == 2


def test_a_file_and_its_links_are_one(base):
    (base / "logs" / "latest.jsonl").symlink_to("a.jsonl")
    (base / "logs" / "0.jsonl").hardlink_to(base / "logs" / "a.jsonl")
    first = take(base, ["logs", "logs/latest.jsonl"]).counters["read"]
    append(base / "logs" / "a.jsonl", "three")

    assert (first, take(base, ["logs", "logs/latest.jsonl"]).counters["read"]) == (2, 3)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_and_its_packed_copy_are_read_once(base, suffix):
    path = base / "logs" / "a.jsonl"
    whole = compressed(path.read_bytes(), suffix)
    copy = base / "logs" / f"a.jsonl{suffix}"
    copy.write_bytes(whole)
    append(path, "three")
    first = take(base).counters["read"]
    copy.write_bytes(compressed(path.read_bytes() + lines("four").encode(), suffix))
    path.unlink()

    assert (first, take(base).counters["read"]) == (3, 4)


def test_a_packed_file_that_was_unpacked_beside_itself_is_not_read_again(base):
    path = base / "logs" / "a.jsonl"
    whole = path.read_bytes()
    path.unlink()
    (base / "logs" / "a.jsonl.gz").write_bytes(gzip.compress(whole))
    take(base)
    path.write_bytes(whole)

    assert take(base).counters["read"] == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_grew_gives_what_is_new(base, suffix):
    path = base / "logs" / f"b.jsonl{suffix}"
    for number in range(3):
        with path.open("ab") as handle:
            handle.write(compressed(lines(f"{number} {'x' * 9000}", f"{number} other").encode(), suffix))
        intake = take(base)

    assert (intake.counters["read"], intake.new) == (8, 8)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_is_still_being_copied_is_noted_and_read_on_later(base, suffix):
    whole = compressed(lines(*(f"{place} {os.urandom(100).hex()}" for place in range(2000))).encode(), suffix)
    path = base / "logs" / f"b.jsonl{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    notes = []
    first = take(base, note=notes.append, sample=5000).counters["read"]
    path.write_bytes(whole)
    second = take(base, note=notes.append, sample=5000)

    assert 100 < first < 2002
    assert (second.counters["read"], second.new) == (2002, 2002)
    assert [note.partition(":")[0] for note in notes] == [f"logs/b.jsonl{suffix} cannot be unpacked"]


def test_other_files_of_a_folder_are_passed_over(base):
    for name in ("notes.txt", ".hidden.jsonl", "a.csv", "a.jsonl.tmp"):
        (base / "logs" / name).write_text(lines("other"))
    (base / "logs" / "deep.jsonl").mkdir()

    assert take(base).counters["read"] == 2


def test_patterns_and_lists_mean_what_they_mean_for_a_source(base):
    (base / "logs" / "deep").mkdir()
    (base / "logs" / "deep" / "b.jsonl").write_text(lines("three"))

    assert take(base, ["logs/*.jsonl", "logs/a.jsonl", f"{base}/logs/**/b.jsonl"]).counters["read"] == 3


def test_where_nothing_is_yet_nothing_is_new(tmp_path):
    (tmp_path / "empty").mkdir()

    assert take(tmp_path, ["empty", "later/*.jsonl"]).counters == Counter()


@pytest.mark.parametrize("name", ["logs/b.jsonl", "later", "later/*.jsonl"])
def test_what_is_not_there_yet_is_noted_once_and_read_when_it_is(base, name):
    notes = []
    first = take(base, [name, "logs/a.jsonl"], note=notes.append)
    path = base / name.replace("later", "later/b.jsonl").removesuffix("/*.jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_text(lines("three"))

    assert (first.new, take(base, [name, "logs/a.jsonl"]).new, len(notes)) == (2, 3, 1)
    assert notes[0].startswith(f"[redistill] logs: {name} ")


def test_a_named_file_that_is_away_for_a_moment_is_waited_for_in_silence(base):
    notes = []
    take(base, "logs/a.jsonl")
    (base / "logs" / "a.jsonl").unlink()

    assert (take(base, "logs/a.jsonl", note=notes.append).new, notes) == (2, [])


def test_a_file_that_is_no_jsonl_is_refused(base):
    (base / "a.csv").write_text("text\none\n")

    with pytest.raises(RecipeError, match=r"a\.csv ends in \.csv, expected \.jsonl"):
        take(base, "a.csv")


def test_a_file_system_that_was_away_is_not_read_again(base):
    take(base)
    (base / "logs").rename(base / "away")
    take(base, "logs/*.jsonl")
    (base / "away").rename(base / "logs")

    assert take(base, "logs/*.jsonl").counters["read"] == 2


DAY = 86_400.0


@pytest.mark.parametrize(("days", "read"), [(29, 3), (31, 5)])
def test_a_folder_that_was_away_for_a_month_is_still_known(base, days, read):
    (base / "other").mkdir()
    (base / "other" / "b.jsonl").write_text(lines("three"))
    began = time.time()
    take(base, ["logs", "other"], now=began)
    (base / "logs").rename(base / "away")
    take(base, ["logs", "other"], now=began + DAY)
    take(base, ["logs", "other"], now=began + DAY + days * DAY)
    (base / "away").rename(base / "logs")

    assert take(base, ["logs", "other"], now=began + 40 * DAY).counters["read"] == read


@pytest.mark.parametrize("end", ['{"request": {"mess', "no JSON"])
def test_a_last_line_that_never_ends_is_counted_once_after_a_day(base, end):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines("one") + end)
    written, notes = path.stat().st_mtime, []
    counters = [take(base, now=written + hours * 3600, note=notes.append).counters["unreadable"] for hours in (0, 23, 25, 50)]
    append(path, "two")

    assert (counters, notes) == ([0, 0, 1, 1], ["logs/a.jsonl: 1 line is no JSON object, passed over"])
    assert texts(take(base).pending) == ["one", "two"]


def test_a_file_that_may_not_be_read_is_noted_and_the_others_are_read(base):
    append(base / "logs" / "b.jsonl", "three")
    (base / "logs" / "a.jsonl").unlink()
    (base / "logs" / "a.jsonl").symlink_to("/proc/self/mem")  # opens, and cannot be read from its beginning, even by root
    notes = []

    assert texts(take(base, note=notes.append).pending) == ["three"]
    assert notes == ["logs/a.jsonl cannot be read: Input/output error"]


WATCHED = """
import os, sys
from pathlib import Path
from synthdistill.content import Contents
from synthdistill.redistill.intake import Intake
base = Path(sys.argv[1])
intake = Intake.open(base / ".redistill")
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
new = intake.read("logs", base, Contents(None), None, known=lambda key: False, redact=True, sample=9, window=9, note=print)
print(new, len([name for name in opened if name.startswith(str(base))]))
"""


def watched(base):
    return subprocess.run([sys.executable, "-c", WATCHED, base], env=environment(), capture_output=True, text=True, check=True).stdout


def test_a_folder_as_it_was_opens_no_file(base):
    for number in range(50):
        (base / "logs" / f"{number}.jsonl").write_text(lines(str(number)))
    before = watched(base)
    take(base)

    assert (before, watched(base)) == ("True 51\n", "False 0\n")


# the store


def test_the_window_holds_known_prompts_too_and_begins_anew(base):
    intake = take(base, known=lambda key: True)
    shown = [(row["text"], row["answer"], row["model"], row["fields"]) for row in sorted(intake.window, key=lambda row: row["text"])]
    intake.looked()
    intake.save()
    append(base / "logs" / "a.jsonl", "three", "three")
    again = take(base, known=lambda key: True)

    assert shown == [("one", "ok", "big-1", {}), ("two", "ok", "big-1", {})]
    assert ([row["text"] for row in again.window], again.window_seen, again.pending) == (["three"], 2, [])


def test_more_may_come_than_wait(base):
    append(base / "logs" / "a.jsonl", *map(str, range(100)))
    intake = take(base, sample=10, window=5)

    assert (intake.new, len(intake.pending), len(intake.window), intake.window_seen) == (102, 10, 5, 102)
    assert len(take(base, sample=10, window=5).pending) == 10


def test_a_store_is_as_it_was_saved(base):
    intake = take(base, sample=1)
    again = Intake.open(base / ".redistill")

    assert (again.pending, again.window, again.new, again.counters) == (intake.pending, intake.window, intake.new, intake.counters)


def test_nothing_is_on_disk_before_it_is_saved(base):
    intake = Intake.open(base / ".redistill")
    intake.read("logs", base, Contents(None), None, **ASKED)

    assert not (base / ".redistill").exists()


def test_after_adoption_the_same_words_are_new_only_where_nobody_knows_them(base):
    intake = take(base, sample=1)
    adopted = {key(row.values["request"]["messages"][-1]["content"]) for row in read_rows(intake.adopt(base / "run" / "rows.jsonl"))}
    intake.save()
    append(base / "logs" / "a.jsonl", "one", "two")
    again = take(base, known=adopted.__contains__)

    assert (again.new, len(again.pending), len(adopted)) == (1, 1, 1)


PRIVATE = ["ann@example.com", "4111 1111 1111 1111", "+49 171 1234567", "DE89 3704 0044 0532 0130 00", "sk-abcdefghij0123456789"]


@pytest.mark.parametrize("form", ["logs", "columns"])
def test_personal_data_is_in_no_file(base, templates, form):
    private = [log(f"Classify this.\n\nI am {text}", answer=f"Hello {text}", channel=text, user=text) for text in PRIVATE]
    private += [{"text": text, "channel": text} for text in PRIVATE]
    private[0]["request"]["tools"] = [{"type": "function", "function": {"name": "mail"}}]
    jsonl(base / "logs" / "a.jsonl", private)
    intake = take(base, **(templates if form == "columns" else {}), columns=("channel",), slices=("channel",), group="channel")
    intake.adopt(base / ".redistill" / "logged" / "rows.jsonl")
    intake.save()
    take(base, known=lambda key: False)
    files = [path for path in (base / ".redistill").rglob("*") if path.is_file()]
    found = {text for text in PRIVATE for path in files if text.encode() in path.read_bytes()}

    assert (found, len(files) >= 4, intake.counters["redacted"] > 10) == (set(), True, True)


def test_requests_that_differ_in_personal_data_only_are_the_same(base):
    (base / "logs" / "a.jsonl").write_text(lines("I am a@b.de", "I am c@d.de"))
    stored = take(base).pending

    assert (texts(stored), take(base).counters["repeated"]) == (["I am <EMAIL>"], 1)


def test_without_redaction_a_text_is_stored_as_it_is(base):
    (base / "logs" / "a.jsonl").write_text(lines("I am a@b.de"))

    assert texts(take(base, redact=False).pending) == ["I am a@b.de"]


@pytest.mark.parametrize("name", ["pending-1.jsonl", "window-1.jsonl", "keys-0.bin"])
def test_a_store_that_lacks_a_part_is_refused_in_one_line(base, name):
    take(base)
    (base / ".redistill" / name).write_bytes(b"x")

    with pytest.raises(StorageError, match=rf"{name} is not as it was written"):
        content(Intake.open(base / ".redistill"))


def test_a_store_of_a_later_version_is_refused(base):
    take(base)
    (base / ".redistill" / "intake.json").write_text('{"format": 2}')

    with pytest.raises(StorageError, match=r"intake\.json has format 2, this version reads 1"):
        Intake.open(base / ".redistill")


# samples


def test_a_sample_is_the_same_whatever_the_order_and_the_repeats():
    keys = [key(str(number)) for number in range(500)]
    mixed = random.Random(1).sample(keys, 500) + keys[:100]

    assert Sample("a", 20, ((each, {}) for each in keys)).rows.keys() == Sample("a", 20, ((each, {}) for each in mixed)).rows.keys()
    assert Sample("a", 20, ((each, {}) for each in keys)).rows.keys() != Sample("b", 20, ((each, {}) for each in keys)).rows.keys()


def test_a_sample_is_uniform():
    """Chi-square over 2,000 draws of 10 from 50 keys: 49 degrees of freedom, 99.9% of uniform samplers stay below 85.4 (draws without
    replacement even below 0.8 of it)."""
    keys = [key(str(number)) for number in range(50)]
    drawn = Counter(each for draw in range(2000) for each in Sample(f"draw {draw}", 10, ((each, {}) for each in keys)).rows)
    expected = 2000 * 10 / 50
    chi_square = sum((drawn[each] - expected) ** 2 / expected for each in keys)

    assert chi_square < 85.4
    assert sum(drawn.values()) == 20_000


# kills


def content(intake):
    return {
        "pending": intake.pending,
        "window": intake.window,
        "window_seen": intake.window_seen,
        "new": intake.new,
        "counters": intake.counters,
    }


def test_a_crash_before_the_state_is_replaced_leaves_the_store_as_it_was(base):
    """A folder stands where the state would be written: the rows are on disk already, and no state names them."""
    before = content(take(base))
    append(base / "logs" / "a.jsonl", "three")
    in_the_way = base / ".redistill" / f".intake.json.{os.getpid()}.tmp"
    in_the_way.mkdir()
    with pytest.raises(StorageError):
        take(base)
    found = content(Intake.open(base / ".redistill"))
    in_the_way.rmdir()
    after = take(base)

    assert found == before
    assert (texts(after.pending), after.counters["read"]) == (["one", "three", "two"], 3)
    assert sorted(path.name for path in (base / ".redistill").iterdir()) == [
        "intake.json",
        "keys-0.bin",
        "pending-2.jsonl",
        "window-2.jsonl",
    ]


WORKER = """
import sys
from pathlib import Path
from synthdistill.content import Contents
from synthdistill.redistill.intake import Intake
base = Path(sys.argv[1])
options = {"known": lambda key: key[0] == "0", "redact": True, "sample": 50, "window": 30, "note": print}
print("began", flush=True)
for source in sorted((base / "production").iterdir()):
    path, whole = base / "logs" / source.name, source.read_bytes()
    while not path.exists() or path.stat().st_size < len(whole):
        with path.open("ab") as handle:
            handle.write(whole[handle.tell() : handle.tell() + 1500])
        intake = Intake.open(base / ".redistill")
        if intake.read("logs", base, Contents(None), None, **options):
            intake.save()
intake = Intake.open(base / ".redistill")
if intake.read("logs", base, Contents(None), None, **options):
    intake.save()
"""


def production(base):
    """Twenty files of logs, some of whose requests are the same, as they will be when they are whole."""
    for name in ("logs", "production"):
        (base / name).mkdir(parents=True)
    for number in range(20):
        asked = [f"{place} call +49 171 1234567" for place in range(number * 5, number * 5 + 8)]
        (base / "production" / f"{number}.jsonl").write_text(lines(*asked))
    return base


def work(base):
    subprocess.run([sys.executable, "-c", WORKER, base], env=environment(), check=True, capture_output=True)
    return content(Intake.open(base / ".redistill"))


def test_twenty_kills_at_any_moment_change_nothing(tmp_path):
    """A process lets logs grow, a piece of a line at a time, and takes them in after each piece."""
    began = time.monotonic()
    expected = work(production(tmp_path / "undisturbed"))
    seconds = time.monotonic() - began
    base = production(tmp_path / "killed")
    chance = random.Random(4)
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", WORKER, base], env=environment(), stdout=subprocess.PIPE) as worker:
            worker.stdout.readline()
            time.sleep(chance.random() * seconds / 10)
            worker.send_signal(signal.SIGKILL)

    assert work(base) == expected
    assert {path.name.partition("-")[0] for path in (base / ".redistill").iterdir()} == {"intake.json", "keys", "pending", "window"}
    assert expected["counters"]["read"] == 160
