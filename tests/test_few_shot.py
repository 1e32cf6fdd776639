"""Examples before what is asked, and the system's turn of messages that have none."""

import pytest
from project import jsonl, texts
from pydantic import ValidationError

from synthdistill.errors import RecipeError
from synthdistill.few_shot import FewShot
from synthdistill.prompts import Config, files, load, messages_for, of_text
from synthdistill.sources import read_rows

TEMPLATE = "--- system ---\nSort {{ kind }}.\n--- user ---\nText: {{ text }}\n"
EXAMPLES = [{"text": "It is late.", "label": "delivery"}, {"text": "Too dear.", "label": "billing"}, {"text": "Thanks!", "label": "other"}]


def loaded(folder, rows, *, template=TEMPLATE, examples=EXAMPLES, few_shot=None, **config):
    jsonl(folder / "rows.jsonl", rows)
    jsonl(folder / "examples.jsonl", examples)
    if template is not None:
        (folder / "prompt.md").write_text(template, encoding="utf-8")
        config["template"] = "prompt.md"
    shots = FewShot(**({"file": "examples.jsonl", "answer": "label"} | (few_shot or {})))
    return load(Config(source="rows.jsonl", few_shot=shots, **config), folder)


def turns(messages):
    return [(message["role"], message["content"]) for message in messages]


ROW = {"id": "1", "kind": "mails", "text": "Where is it?"}
BLOCK = [("user", "Text: It is late."), ("assistant", "delivery"), ("user", "Text: Too dear."), ("assistant", "billing")]


def test_the_first_examples_stand_between_the_system_and_what_is_asked(tmp_path):
    (prompt,) = loaded(tmp_path, [ROW], few_shot={"count": 2}).prompts

    assert turns(prompt.messages) == [("system", "Sort mails."), *BLOCK, ("user", "Text: Where is it?")]
    assert prompt.text == "mails\nWhere is it?"


def test_without_a_count_all_examples_stand_there(tmp_path):
    (prompt,) = loaded(tmp_path, [ROW]).prompts

    assert len(prompt.messages) == 8


def test_examples_come_after_turns_that_a_template_writes_out_itself(tmp_path):
    template = "--- system ---\nSort.\n--- user ---\nText: Hi\n--- assistant ---\nother\n--- user ---\nText: {{ text }}\n"
    (prompt,) = loaded(tmp_path, [ROW], template=template, few_shot={"count": 1}).prompts

    assert turns(prompt.messages) == [
        ("system", "Sort."),
        ("user", "Text: Hi"),
        ("assistant", "other"),
        *BLOCK[:2],
        ("user", "Text: Where is it?"),
    ]


def test_an_example_asks_with_all_turns_that_read_its_columns(tmp_path):
    template = "--- user ---\n{{ text }}\n--- assistant ---\nWhich order?\n--- user ---\n{{ order }}\n"
    examples = [{"text": "late", "order": 7, "label": "delivery"}]
    (prompt,) = loaded(tmp_path, [ROW | {"order": 8}], template=template, examples=examples).prompts

    assert [content for _, content in turns(prompt.messages)] == [
        "late",
        "Which order?",
        "7",
        "delivery",
        "Where is it?",
        "Which order?",
        "8",
    ]


def test_the_reference_is_the_answer_where_no_column_is_named(tmp_path):
    (prompt,) = loaded(tmp_path, [ROW | {"label": "SECRET"}], few_shot={"answer": None, "count": 1}, reference="label").prompts

    assert turns(prompt.messages)[1:3] == BLOCK[:2]
    assert "SECRET" not in str(prompt.messages)


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}]


def test_examples_of_rows_with_messages_come_after_the_systems_turn(tmp_path):
    examples = [
        {"messages": [{"role": "user", "content": "late"}], "label": "delivery"},
        {
            "messages": [
                {"role": "system", "content": "unused"},
                {"role": "user", "content": "dear"},
                {"role": "assistant", "content": "billing"},
            ]
        },
    ]
    (prompt,) = loaded(tmp_path, [{"messages": CHAT}], template=None, examples=examples).prompts

    expected = [("user", "late"), ("assistant", "delivery"), ("user", "dear"), ("assistant", "billing")]
    assert turns(prompt.messages) == [("system", "Be brief."), *expected, ("user", "Where is it?")]
    assert prompt.text == "Where is it?"


@pytest.mark.parametrize("held_out", [0.0, "held.jsonl"])
def test_a_row_that_is_an_example_is_dropped_whatever_its_case(tmp_path, held_out):
    jsonl(tmp_path / "held.jsonl", [ROW | {"id": "2", "text": " it is  LATE."}])
    rows = [ROW, ROW | {"id": "3", "text": "too DEAR."}]
    found = loaded(tmp_path, rows, held_out=held_out)

    assert {each.source_ids[0]: each.reason for each in found.dropped} == {"3": "few_shot"} | ({"2": "few_shot"} if held_out else {})
    assert found.rows == len(found.prompts) + len(found.dropped)


def test_other_examples_are_another_prompt_and_the_split_stays(tmp_path):
    rows = [row | {"kind": "mails"} for row in texts(60)]
    one, two = (loaded(tmp_path, rows, few_shot={"count": count}).prompts for count in (1, 2))

    assert {prompt.id for prompt in one} & {prompt.id for prompt in two} == set()
    assert {prompt.text: prompt.split for prompt in one} == {prompt.text: prompt.split for prompt in two}


def test_the_file_of_examples_is_part_of_the_fingerprint(tmp_path):
    loaded(tmp_path, [ROW])
    config = Config(source="rows.jsonl", template="prompt.md", few_shot=FewShot(file="examples.jsonl", answer="label"))
    before = files(config, tmp_path)
    jsonl(tmp_path / "examples.jsonl", EXAMPLES[:2])
    after = files(config, tmp_path)

    assert [name for name in before if before[name] != after[name]] == ["examples.jsonl"]


def test_the_students_own_template_has_no_examples(tmp_path):
    found = loaded(tmp_path, [ROW, ROW | {"id": "2", "text": "Too dear."}])
    (tmp_path / "student.md").write_text("{{ text }}")
    config = Config(source="rows.jsonl", template="prompt.md", few_shot=FewShot(file="examples.jsonl", answer="label"))

    assert messages_for(config, tmp_path, tmp_path / "student.md") == {found.prompts[0].id: [{"role": "user", "content": "Where is it?"}]}


def test_a_typed_message_is_asked_with_the_examples(tmp_path):
    template = "{{ text }}"
    (prompt,) = loaded(tmp_path, [ROW], template=template).prompts
    config = Config(source="rows.jsonl", template="prompt.md", few_shot=FewShot(file="examples.jsonl", answer="label"))

    assert of_text(config, tmp_path, "Where is it?").messages == prompt.messages


MISTAKES = {
    "too few rows": ({"count": 4}, EXAMPLES, r"examples\.jsonl has 3 rows, count = 4"),
    "no column of answers": ({"answer": None}, EXAMPLES, "does not say which column holds the answers"),
    "no answer": (
        {},
        [{"text": "a", "label": ""}],
        r"examples\.jsonl line 1 has no answer in its column 'label'; its columns",
    ),
    "no column": ({}, [{"label": "a"}], r"reads 'text', which examples\.jsonl line 1 has not"),
    "no file": ({"file": "gone.jsonl"}, EXAMPLES, r"\[prompts\] few_shot: no such file"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_examples_is_named(tmp_path, case):
    few_shot, examples, message = MISTAKES[case]

    with pytest.raises(RecipeError, match=message):
        loaded(tmp_path, [ROW], examples=examples, few_shot=few_shot)


def test_real_rows_may_be_the_examples_of_the_rest(tmp_path, data):
    """Banking77 (CC BY 4.0): the first three rows of the file that is also the source never count as prompts."""
    source = data / "banking77" / "test.jsonl"
    (tmp_path / "prompt.md").write_text("{{ text }}")
    config = Config(source=str(source), template="prompt.md", reference="label", few_shot=FewShot(file=str(source), count=3))
    found = load(config, tmp_path)
    examples = [row.values for row, _ in zip(read_rows(source), range(3), strict=False)]

    assert [row.reason for row in found.dropped].count("few_shot") == 3
    assert {prompt.text for prompt in found.prompts}.isdisjoint(row["text"] for row in examples)
    assert [content for _, content in turns(found.prompts[0].messages)[:-1]] == [
        row[name] for row in examples for name in ("text", "label")
    ]


# the system's turn


def test_messages_without_a_systems_turn_get_the_recipes_and_others_keep_theirs(tmp_path):
    (tmp_path / "system.md").write_text("Sort the mail.\n")
    jsonl(tmp_path / "rows.jsonl", [{"id": "own", "messages": CHAT}, {"id": "none", "messages": CHAT[1:]}])
    found = load(Config(source="rows.jsonl", system="system.md"), tmp_path)

    assert {prompt.source_ids[0]: turns(prompt.messages)[0] for prompt in found.prompts} == {
        "own": ("system", "Be brief."),
        "none": ("system", "Sort the mail."),
    }


def test_the_systems_turn_comes_before_the_examples(tmp_path):
    (tmp_path / "system.md").write_text("Sort the mail.")
    examples = [{"messages": [{"role": "user", "content": "late"}], "label": "delivery"}]
    (prompt,) = loaded(tmp_path, [{"messages": CHAT[1:]}], template=None, examples=examples, system="system.md").prompts

    assert [role for role, _ in turns(prompt.messages)] == ["system", "user", "assistant", "user"]


def test_the_systems_file_is_part_of_the_fingerprint(tmp_path):
    (tmp_path / "system.md").write_text("Sort the mail.")
    jsonl(tmp_path / "rows.jsonl", [{"messages": CHAT}])

    assert files(Config(source="rows.jsonl", system="system.md"), tmp_path).keys() == {"rows.jsonl", "system.md"}


def test_a_systems_turn_beside_a_template_is_refused():
    with pytest.raises(ValidationError, match="with a template, write its turn there"):
        Config(source="rows.jsonl", system="system.md", template="prompt.md")
