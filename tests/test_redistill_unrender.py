"""A template read backwards: what was rendered comes out again, and nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from synthdistill.prompt_template import Template
from synthdistill.redistill.unrender import Unrender
from synthdistill.sources import Row


@pytest.fixture(scope="module")
def of(tmp_path_factory):
    """A template of some words."""
    folder = tmp_path_factory.mktemp("templates")

    def make(words):
        path = folder / "template.md"
        path.write_text(words, encoding="utf-8")
        return Template(path)

    return make


TWO_TURNS = "--- system ---\nAnswer in {{ language }}. (C) [x].*\n--- user ---\nTitle: {{ title }}\n\n{{ body }}\n"
ONE = "Classify this.\n\n{{ text }}\n\nAnswer with one word."


def found(of_template, **columns):
    return Unrender.of(of_template).columns(of_template.render(Row(columns, "row")))


@pytest.mark.parametrize("text", ["Where is it?", "", "two\n\nlines\n", "{{ title }} {% if %}", "Answer with one word.", "naïve 東京 🙂"])
def test_a_column_comes_out_as_it_went_in(of, text):
    assert found(of(ONE), text=text) == {"text": text}


def test_columns_of_several_turns_come_out(of):
    columns = {"language": "German", "title": "Parcel", "body": "Where\n\nis it?\n"}

    assert found(of(TWO_TURNS), **columns) == columns


@given(some.text(max_size=40), some.text(max_size=40))
def test_what_comes_out_renders_to_the_same_messages(tmp_path_factory, title, body):
    """Where a title holds the words that follow it, more than one pair of columns renders so, and any of them will do."""
    path = tmp_path_factory.getbasetemp() / "pair.md"
    path.write_text("T: {{ title }}\nB: {{ body }}.", encoding="utf-8")
    template = Template(path)
    messages = template.render(Row({"title": title, "body": body}, "row"))
    columns = Unrender.of(template).columns(messages)

    assert template.render(Row(columns, "row")) == messages


def test_a_column_that_stands_twice_must_be_the_same(of):
    template = of("{{ name }} asks: {{ text }}\nAnswer {{ name }}.")

    assert found(template, name="Ann", text="Why?") == {"name": "Ann", "text": "Why?"}
    assert Unrender.of(template).columns([{"role": "user", "content": "Ann asks: Why?\nAnswer Bob."}]) is None


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "user", "content": "Classify that.\n\nx\n\nAnswer with one word."}],
        [{"role": "user", "content": "Classify this.\n\nAnswer with one word."}],
        [{"role": "system", "content": "Classify this.\n\nx\n\nAnswer with one word."}],
        [{"role": "user", "content": "Classify this.\n\nx\n\nAnswer with one word."}, {"role": "assistant", "content": "y"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
    ],
)
def test_messages_of_another_template_are_none(of, messages):
    assert Unrender.of(of(ONE)).columns(messages) is None


def test_a_content_in_parts_of_text_is_read(of):
    parts = [{"type": "text", "text": "Classify this.\n\nx"}, {"type": "text", "text": "\n\nAnswer with one word."}]

    assert Unrender.of(of(ONE)).columns([{"role": "user", "content": parts}]) == {"text": "x"}


@pytest.mark.parametrize(
    "words",
    [
        "{{ title }}{{ text }}",
        "{{ text }}{% if premium == 'yes' %} Hurry.{% endif %}",
        "{{ text }} has {{ title | length }} letters",
        "{{ text | upper }}",
        "{% for each in text %}{{ each.name }}{% endfor %}",
    ],
)
def test_a_template_that_hides_a_column_cannot_be_read_backwards(of, words):
    template = of(words)
    columns = dict.fromkeys(template.columns, "x")

    assert Unrender.of(template).turns is None
    assert Unrender.of(template).columns([{"role": "user", "content": "x"}]) is None, columns


def test_a_trimmed_column_is_read_trimmed(of):
    assert found(of("Text: {{ text | trim }}!"), text="  a b ") == {"text": "a b"}


def test_a_row_that_took_the_other_branch_is_none_rather_than_wrong(of):
    template = of("{% if text %}Text: {{ text }}{% else %}Text: nothing{% endif %}!")

    assert found(template, text="a") == {"text": "a"}
    assert found(template, text="") in (None, {"text": "nothing"})


def test_a_null_and_an_object_come_out_as_the_text_that_was_rendered(of):
    columns = {"language": None, "title": {"a": 1}, "body": 5}

    assert found(of(TWO_TURNS), **columns) == {"language": "", "title": '{"a":1}', "body": "5"}


def test_a_text_made_to_mislead_takes_no_time(of):
    """A hundred thousand places where a column could end, and the last word missing: a pattern with backtracking would not come back."""
    template = of("{{ a }}, {{ b }}, {{ c }}, {{ d }}, {{ e }}.")

    assert Unrender.of(template).columns([{"role": "user", "content": ", " * 100_000}]) is None


def test_the_demos_messages_come_out_of_its_own_template():
    import gzip
    from pathlib import Path

    import synthdistill

    folder = Path(synthdistill.__file__).parent / "templates" / "triage"
    template = Template(folder / "prompts" / "triage.md")
    with gzip.open(folder / "messages.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(500), strict=False)]

    assert [found(template, **row) for row in rows] == [{name: row[name] for name in template.columns} for row in rows]
