"""Rows that were stored under an earlier recipe are rows of the one of now, or left out and counted."""

import pytest
from project import jsonl
from test_redistill_intake import log, take

from synthdistill.content import Contents
from synthdistill.prompt_template import Template
from synthdistill.prompts import Config, load
from synthdistill.redistill.refit import refit

ONE, TWO = "Classify this.\n\n{{ text }}", "In {{ tone }}: {{ text }}"


@pytest.fixture
def stored(tmp_path):
    """What a recipe stores of a log: with the words of a template, or none."""

    def make(words, rows, student=None, **options):
        (tmp_path / "logs").mkdir(exist_ok=True)
        jsonl(tmp_path / "logs" / "a.jsonl", rows)
        return take(tmp_path, **reading(tmp_path, words, student), **options).pending

    return make


def reading(folder, words, student=None):
    for name, text in (("teacher", words), ("student", student)):
        (folder / f"{name}.md").write_text(text or "")
    return {
        "contents": Contents(Template(folder / "teacher.md") if words else None),
        "student": Template(folder / "student.md") if student else None,
    }


def now(folder, rows, words, student=None, id_column="id", columns=()):
    return refit(rows, **reading(folder, words, student), id_column=id_column, columns=columns)


LOGS = [log("Classify this.\n\none", tone="calm"), log("Classify this.\n\ntwo", answer='{"a": 1}')]


@pytest.mark.parametrize("words", [None, ONE])
@pytest.mark.parametrize("columns", [(), ("tone",), ("response", "answer")])
def test_under_the_same_recipe_rows_are_as_they_were(stored, tmp_path, words, columns):
    for row in LOGS:
        row["request"]["metadata"] = {"response": "gold", "answer": "gold"}
    rows = stored(words, LOGS, columns=columns)

    assert now(tmp_path, rows, words, columns=columns) == (rows, 0)


@pytest.mark.parametrize("words", [None, ONE])
def test_a_column_that_is_named_now_is_null_and_the_id_is_called_as_the_recipe_does(stored, tmp_path, words):
    rows = stored(words, LOGS)
    fitted, unfit = now(tmp_path, rows, words, id_column="ticket", columns=("label", "tone"))
    loaded = load(
        Config(
            source=str(jsonl(tmp_path / "rows.jsonl", fitted)),
            id="ticket",
            template="teacher.md" if words else None,
            reference="label",
            slices=["tone"],
            held_out=0.0,
            validation=0.0,
        ),
        tmp_path,
        teacher={"big"},
    )

    assert (unfit, [row["ticket"] for row in fitted]) == (0, [row["id"] for row in rows])
    assert [(prompt.reference, prompt.metadata) for prompt in loaded.prompts] == [(None, {"tone": None})] * 2
    assert [prompt.logged for prompt in loaded.prompts] == ([0, 0] if words else [1, 1])


def test_other_words_of_a_template_leave_the_columns(stored, tmp_path):
    rows, _ = now(tmp_path, stored(ONE, LOGS), "Say: {{ text }}")

    assert sorted((row["text"], row["logged_answer"]) for row in rows) == [("one", "ok"), ("two", '{"a": 1}')]


def test_a_request_is_read_backwards_through_a_template_that_came_since(stored, tmp_path):
    rows, unfit = now(tmp_path, stored(None, [*LOGS, log("three")], columns=("tone",)), ONE, columns=("tone", "response"))
    found = sorted((row["text"], row["tone"], row["response"], row["logged_answer"]) for row in rows)

    assert (found, unfit) == ([("one", "calm", None, "ok"), ("two", None, None, '{"a": 1}')], 1)


@pytest.mark.parametrize("words", [None, TWO, "{{ text.subject }}", "{{ id }} {{ text }}"])
def test_columns_that_the_recipe_of_now_cannot_ask_are_left_out(stored, tmp_path, words):
    assert now(tmp_path, stored(ONE, LOGS), words) == ([], 2)


def test_rows_that_the_students_template_cannot_render_are_left_out(stored, tmp_path):
    assert now(tmp_path, stored(ONE, LOGS), ONE, student=TWO) == ([], 2)


def test_a_column_that_a_template_reads_since_is_there_where_it_was_stored(stored, tmp_path):
    rows, unfit = now(tmp_path, stored(ONE, [*LOGS, {"text": "three", "tone": "loud"}], columns=("tone",)), TWO)
    found = sorted((row["text"], row["tone"]) for row in rows)

    assert (found, unfit) == ([("one", "calm"), ("three", "loud"), ("two", None)], 0)
