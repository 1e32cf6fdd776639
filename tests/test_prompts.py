import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import jsonl, texts
from pydantic import ValidationError
from test_sources import as_csv, as_parquet

from synthdistill.errors import RecipeError
from synthdistill.prompts import Config, files, load, messages_for, of_text

RANK = {"held_out": 0, "validation": 1, "train": 2}
TEMPLATE = "--- system ---\nBe brief.\n--- user ---\n{{ text }}\n"


def loaded(folder, rows, *, template=TEMPLATE, limit=None, **config):
    jsonl(folder / "rows.jsonl", rows)
    if template is not None:
        (folder / "prompt.md").write_text(template, encoding="utf-8")
        config["template"] = "prompt.md"
    return load(Config(source="rows.jsonl", **config), folder, limit=limit)


def splits(found):
    """The split of every row, by the user's id."""
    return {source_id: prompt.split for prompt in found.prompts for source_id in prompt.source_ids}


# content and ids


def test_an_id_follows_the_content_and_nothing_else(tmp_path):
    one = loaded(tmp_path, [{"id": "1", "text": "a", "time": "monday"}]).prompts[0]
    other = loaded(tmp_path, [{"id": "2", "text": "a", "time": "friday"}]).prompts[0]
    third = loaded(tmp_path, [{"id": "1", "text": "b", "time": "monday"}]).prompts[0]

    assert one.id == other.id != third.id


def test_rows_with_the_same_content_are_one_prompt_with_all_their_ids(tmp_path):
    found = loaded(tmp_path, [{"id": "1", "text": "a"}, {"id": "2", "text": "a"}, {"id": "3", "text": "b"}])

    assert sorted(prompt.source_ids for prompt in found.prompts) == [["1", "2"], ["3"]]
    assert (found.rows, found.merged, found.dropped) == (3, 1, [])


def test_one_id_with_two_contents_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"the id '1' stands for two different contents, the second at rows\.jsonl line 2"):
        loaded(tmp_path, [{"id": 1, "text": "a"}, {"id": 1, "text": "b"}])


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_an_id_is_refused(tmp_path, missing):
    with pytest.raises(RecipeError, match=r"rows\.jsonl line 2 has no id in its column 'id'"):
        loaded(tmp_path, [{"id": 1, "text": "a"}, {"id": missing, "text": "b"}])


def test_without_an_id_column_the_place_is_the_id(tmp_path):
    assert loaded(tmp_path, [{"text": "a"}]).prompts[0].source_ids == ["rows.jsonl line 1"]


def test_files_of_one_name_in_two_folders_do_not_share_their_rows_ids(tmp_path):
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()
        jsonl(tmp_path / folder / "rows.jsonl", [{"messages": [{"role": "user", "content": folder}]}])
    found = load(Config(source="new/rows.jsonl", held_out="old/rows.jsonl"), tmp_path)

    assert {tuple(prompt.source_ids): prompt.text for prompt in found.prompts} == {
        ("new/rows.jsonl line 1",): "new",
        ("old/rows.jsonl line 1",): "old",
    }


def test_an_id_column_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"\[prompts\] id names the column 'ticket'"):
        loaded(tmp_path, [{"text": "a"}], id="ticket")


def test_an_empty_row_is_dropped_with_a_reason_and_its_id(tmp_path):
    found = loaded(tmp_path, [{"id": "1", "text": " \n"}, {"id": "2", "text": "a"}])

    assert [(row.source_ids, row.reason) for row in found.dropped] == [(["1"], "empty")]


def test_rows_that_are_all_empty_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="is empty"):
        loaded(tmp_path, [{"text": ""}])


def test_two_golds_for_one_content_keep_the_first_and_drop_the_other_with_a_reason(tmp_path):
    rows = [{"id": "1", "text": "a", "gold": "x"}, {"id": "2", "text": "a", "gold": "y"}, {"id": "3", "text": "a", "gold": "x"}]
    found = loaded(tmp_path, rows, reference="gold")

    assert [(prompt.source_ids, prompt.reference) for prompt in found.prompts] == [(["1", "3"], "x")]
    assert [(row.source_ids, row.reason, row.kept_instead) for row in found.dropped] == [(["2"], "reference_conflict", "1")]


def test_a_gold_that_one_of_two_rows_has_is_the_prompts(tmp_path):
    rows = [{"id": "1", "text": "a", "gold": None}, {"id": "2", "text": "a", "gold": "x"}]

    assert loaded(tmp_path, rows, reference="gold").prompts[0].reference == "x"


@given(st.lists(st.tuples(st.sampled_from(["a", "A", "b", " ", ""]), st.sampled_from(["x", "y", None])), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_row_is_a_prompts_or_merged_or_dropped(tmp_path_factory, given_rows):
    rows = [{"id": str(number), "text": text, "gold": gold} for number, (text, gold) in enumerate([*given_rows, ("last", None)])]
    found = loaded(tmp_path_factory.mktemp("rows"), rows, reference="gold")

    assert found.rows == len(found.prompts) + found.merged + len(found.dropped) == len(rows)
    ids = [source_id for row in (*found.prompts, *found.dropped) for source_id in row.source_ids]
    assert sorted(ids) == sorted(row["id"] for row in rows)


MESSAGES = {
    "an unknown role": [{"role": "bot", "content": "hello"}],
    "a role that is no text": [{"role": ["user"], "content": "hello"}],
    "a content that is a number": [{"role": "user", "content": 5}],
    "no turns": [],
    "a text": "hello",
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_that_are_none_are_refused_with_the_form_that_they_should_have(tmp_path, case):
    with pytest.raises(RecipeError, match=r"line 1 has `messages` that are not in OpenAI form.*roles system, user"):
        loaded(tmp_path, [{"messages": MESSAGES[case]}], template=None)


def test_messages_that_end_with_an_answer_are_refused(tmp_path):
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]

    with pytest.raises(RecipeError, match=r"line 1 has `messages` that end with an answer.*reference"):
        loaded(tmp_path, [{"messages": turns}], template=None)


def test_the_gold_is_not_in_the_messages(tmp_path):
    (prompt,) = loaded(tmp_path, [{"text": "a", "gold": "SECRET"}], reference="gold").prompts

    assert "SECRET" not in json.dumps(prompt.messages)
    assert prompt.reference == "SECRET"


def test_slices_are_kept_beside_the_prompt(tmp_path):
    (prompt,) = loaded(tmp_path, [{"text": "a", "hard": True, "channel": "mail"}], slices=["hard", "channel"]).prompts

    assert prompt.metadata == {"hard": "true", "channel": "mail"}


def test_every_format_gives_the_same_prompts(tmp_path):
    rows = [{"id": str(n), "text": f'line {n}\n"quoted", é', "gold": "x" if n % 2 else None, "group": f"g{n % 3}"} for n in range(20)]
    (tmp_path / "prompt.md").write_text(TEMPLATE, encoding="utf-8")
    found = []
    for ending, write in (("jsonl", jsonl), ("csv", as_csv), ("parquet", as_parquet)):
        write(tmp_path / f"rows.{ending}", rows)
        found.append(load(Config(source=f"rows.{ending}", template="prompt.md", reference="gold", group="group"), tmp_path).prompts)

    assert found[0] == found[1] == found[2]


# rows with messages

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
CALL = [
    {"role": "user", "content": "weather?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
]
RESULT = {"role": "tool", "tool_call_id": "1", "content": "rain"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def test_rows_with_messages_need_no_template(tmp_path):
    (prompt,) = loaded(tmp_path, [{"messages": CHAT, "tools": TOOLS}], template=None).prompts

    assert (prompt.messages, prompt.tools, prompt.text) == (CHAT, TOOLS, "hello")


def test_messages_and_tools_as_json_text_are_the_same_prompt(tmp_path):
    one = loaded(tmp_path, [{"messages": CHAT, "tools": TOOLS}], template=None).prompts[0]
    other = loaded(tmp_path, [{"messages": json.dumps(CHAT), "tools": json.dumps(TOOLS)}], template=None).prompts[0]

    assert one.id == other.id


def test_messages_from_parquet_are_the_same_prompts(tmp_path):
    rows = [{"id": "1", "messages": CHAT}, {"id": "2", "messages": [*CALL, RESULT]}]
    as_parquet(tmp_path / "rows.parquet", rows)
    found = load(Config(source="rows.parquet"), tmp_path)

    assert found.prompts == loaded(tmp_path, rows, template=None).prompts


def test_no_tools_and_an_empty_list_of_tools_are_the_same_prompt(tmp_path):
    found = loaded(tmp_path, [{"id": 1, "messages": CHAT}, {"id": 2, "messages": CHAT, "tools": []}], template=None)

    assert found.merged == 1


@pytest.mark.parametrize("tools", ["{broken", '{"a": 1}', [1], {"a": 1}])
def test_tools_that_are_none_are_refused_not_left_out(tmp_path, tools):
    with pytest.raises(RecipeError, match=r"rows\.jsonl line 1 has `tools` that are no list of objects"):
        loaded(tmp_path, [{"messages": CHAT, "tools": tools}], template=None)


def test_rows_without_template_and_messages_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"no `messages`, and .* has no template"):
        loaded(tmp_path, [{"text": "a"}], template=None)


# the split

ROWS = texts(400)


def test_the_shares_are_about_what_was_asked_for(tmp_path):
    sizes = loaded(tmp_path, ROWS, held_out=0.25, validation=0.25).counts

    assert sum(sizes.values()) == 400
    assert 60 < sizes["held_out"] < 140
    assert 60 < sizes["validation"] < 140


CHANGES = {
    "an edited template": lambda rows: (rows, "--- user ---\nAnother wording: {{ text }}\n"),
    "a changed timestamp column": lambda rows: ([row | {"time": "later"} for row in rows], TEMPLATE),
    "changed ids": lambda rows: ([row | {"id": f"new-{row['id']}", "old": row["id"]} for row in rows], TEMPLATE),
    "another order": lambda rows: (rows[::-1], TEMPLATE),
    "a row given twice under two ids": lambda rows: ([*rows, *({**row, "id": f"again-{row['id']}"} for row in rows[::3])], TEMPLATE),
    "another spacing and case": lambda rows: ([row | {"text": f"  {row['text'].upper()} "} for row in rows], TEMPLATE),
    "more rows": lambda rows: ([*rows, *({"id": f"more-{n}", "text": f"another {n}"} for n in range(50))], TEMPLATE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_moves_across_the_split_for(tmp_path, change):
    before = splits(loaded(tmp_path, ROWS, held_out=0.3, validation=0.2))
    rows, template = CHANGES[change](ROWS)
    after = splits(loaded(tmp_path, rows, template=template, held_out=0.3, validation=0.2))

    old_id = {row["id"]: row.get("old", row["id"].removeprefix("again-")) for row in rows}
    assert {old_id[name]: split for name, split in after.items() if old_id[name] in before} == before


@given(low=st.floats(0, 0.99), high=st.floats(0, 0.99), validation=st.floats(0, 0.99))
@settings(max_examples=40, deadline=None)
def test_raising_held_out_only_moves_rows_into_it(tmp_path_factory, low, high, validation):
    low, high = sorted((low, high))
    folder = tmp_path_factory.mktemp("rows")
    before = splits(loaded(folder, ROWS[:60], held_out=low, validation=validation))
    after = splits(loaded(folder, ROWS[:60], held_out=high, validation=validation))

    assert {(old, after[name]) for name, old in before.items() if old != after[name]} <= {("train", "held_out"), ("validation", "held_out")}


@given(groups=st.lists(st.integers(0, 6), min_size=1, max_size=40), held_out=st.floats(0, 0.9), validation=st.floats(0, 0.9))
@settings(max_examples=40, deadline=None)
def test_rows_of_one_group_never_straddle(tmp_path_factory, groups, held_out, validation):
    rows = [{"id": str(n), "text": f"text {n}", "conversation": f"c{group}"} for n, group in enumerate(groups)]
    found = loaded(tmp_path_factory.mktemp("rows"), rows, group="conversation", held_out=held_out, validation=validation)

    seen: dict[str, set[str]] = {}
    for prompt in found.prompts:
        seen.setdefault(prompt.group, set()).add(prompt.split)
    assert all(len(each) == 1 for each in seen.values())


def test_a_new_row_of_a_group_moves_nothing_and_follows_its_group(tmp_path):
    rows = [{"id": str(n), "text": f"text {n}", "conversation": f"c{n % 30}"} for n in range(90)]
    before = splits(loaded(tmp_path, rows, group="conversation", held_out=0.3, validation=0.3))
    more = [{"id": f"new-{n}", "text": f"more {n}", "conversation": f"c{n}"} for n in range(30)]
    after = splits(loaded(tmp_path, rows + more, group="conversation", held_out=0.3, validation=0.3))

    assert after == before | {f"new-{n}": before[str(n)] for n in range(30)}


def test_a_row_without_a_group_is_split_by_its_own_text(tmp_path):
    rows = [{"id": str(n), "text": f"text {n}", "conversation": None} for n in range(60)]

    assert len(set(splits(loaded(tmp_path, rows, group="conversation", held_out=0.3)).values())) > 1


def test_a_content_that_two_groups_share_takes_the_stricter_split(tmp_path):
    rows = [{"id": str(n), "text": "the same", "conversation": f"c{n}"} for n in range(50)]
    (prompt,) = loaded(tmp_path, rows, group="conversation", held_out=0.3, validation=0.3).prompts

    assert (prompt.split, len(prompt.source_ids)) == ("held_out", 50)


@pytest.mark.parametrize("group", [None, "conversation"])
def test_a_held_out_file_keeps_its_rows_out_of_the_other_splits_however_they_are_cased(tmp_path, group):
    rows = [row | {"conversation": f"c{row['id']}"} for row in ROWS[:50]]
    jsonl(tmp_path / "held.jsonl", [{"id": f"h{n}", "text": f" {rows[n]['text'].upper()}", "conversation": "other"} for n in range(20)])
    found = loaded(tmp_path, rows, held_out="held.jsonl", validation=0.3, group=group)

    split = splits(found)
    assert {split[row["id"]] for row in rows[:20]} == {"held_out"}
    assert {split[row["id"]] for row in rows[20:]} == {"train", "validation"}


def test_a_held_out_file_keeps_whole_groups_out_of_the_other_splits(tmp_path):
    rows = [row | {"conversation": f"c{number % 5}"} for number, row in enumerate(ROWS[:50])]
    jsonl(tmp_path / "held.jsonl", [{"id": "h", "text": "of a known conversation", "conversation": "c3"}])
    found = loaded(tmp_path, rows, held_out="held.jsonl", validation=0.0, group="conversation")

    assert {prompt.group for prompt in found.prompts if prompt.split == "held_out"} == {"c3"}
    assert {prompt.group for prompt in found.prompts if prompt.split == "train"} == {"c0", "c1", "c2", "c4"}


def test_an_edited_system_turn_of_given_messages_moves_nothing(tmp_path):
    def chats(system):
        return [
            {"id": str(n), "messages": [{"role": "system", "content": system}, {"role": "user", "content": f"q {n}"}]} for n in range(100)
        ]

    before = splits(loaded(tmp_path, chats("Be brief."), template=None, held_out=0.3))

    assert splits(loaded(tmp_path, chats("Be polite."), template=None, held_out=0.3)) == before


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, True])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValidationError):
        Config(source="rows.jsonl", held_out=share)


# the rest


def test_a_limit_keeps_the_first_prompts_of_each_split_by_id(tmp_path):
    everything = loaded(tmp_path, ROWS, held_out=0.3, validation=0.3).prompts
    few = loaded(tmp_path, ROWS, held_out=0.3, validation=0.3, limit=5).prompts

    assert [prompt.id for prompt in few] == sorted(
        prompt.id for split in RANK for prompt in [p for p in everything if p.split == split][:5]
    )


@pytest.mark.parametrize("limit", [None, 3])
def test_what_a_limit_leaves_out_is_counted(tmp_path, limit):
    rows = [*texts(40), {"id": "twin", "text": texts(1)[0]["text"]}, {"id": "empty", "text": ""}]
    found = loaded(tmp_path, rows, limit=limit)

    assert found.rows == 42 == len(found.prompts) + found.beyond + found.merged + len(found.dropped)
    assert bool(found.beyond) == bool(limit)


def test_files_are_hashed_by_content(tmp_path):
    loaded(tmp_path, ROWS[:3])
    config = Config(source="rows.jsonl", template="prompt.md")
    before = files(config, tmp_path)
    (tmp_path / "prompt.md").write_text("{{ text }}!")
    after = files(config, tmp_path)

    assert before.keys() == {"rows.jsonl", "prompt.md"}
    assert [name for name in before if before[name] != after[name]] == ["prompt.md"]


def test_the_students_template_sees_the_same_rows(tmp_path):
    found = loaded(tmp_path, ROWS[:5])
    (tmp_path / "student.md").write_text("{{ text }}")
    student = messages_for(Config(source="rows.jsonl", template="prompt.md"), tmp_path, tmp_path / "student.md")

    assert student == {prompt.id: [{"role": "user", "content": prompt.text}] for prompt in found.prompts}


def test_a_typed_message_becomes_the_prompt_that_a_row_with_it_would(tmp_path):
    (prompt,) = loaded(tmp_path, [{"text": "hello"}]).prompts

    assert of_text(Config(source="rows.jsonl", template="prompt.md"), tmp_path, "hello").id == prompt.id


def test_a_template_with_two_columns_wants_an_object(tmp_path):
    loaded(tmp_path, [{"a": "1", "b": "2"}], template="{{ a }}{{ b }}")
    config = Config(source="rows.jsonl", template="prompt.md")

    assert of_text(config, tmp_path, '{"a": "x", "b": "y"}').messages[0]["content"] == "xy"
    with pytest.raises(RecipeError, match="reads a, b, given was a text"):
        of_text(config, tmp_path, "x")
