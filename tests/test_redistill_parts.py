"""The parts that a call of `redistill` is made of: state, copies of rows, what has changed, what is removed."""

import json

import pytest
from project import jsonl, texts

from synthdistill import prompts
from synthdistill.errors import StorageError
from synthdistill.records import Completion, Usage, digest, encode
from synthdistill.redistill.due import Facts, rules
from synthdistill.redistill.essence import essence
from synthdistill.redistill.freeze import freeze, torn_at
from synthdistill.redistill.prune import leftovers, prune
from synthdistill.redistill.signature import signature
from synthdistill.redistill.state import Look, State, Work
from synthdistill.sources import read_rows
from synthdistill.upkeep import When

# the state


def test_a_state_is_read_as_it_was_saved(tmp_path):
    state = State(last="a", last_at=1.5, work=Work(run="b", why="w", began=2.0, champion="a"), look=Look(at=3.0))
    state.save(tmp_path)

    assert State.load(tmp_path) == state


def test_without_a_file_the_state_is_new(tmp_path):
    assert State.load(tmp_path) == State()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "no": 2}', '{"last_at": "soon"}'])
def test_a_broken_state_is_one_clear_line(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(StorageError, match="cannot be read"):
        State.load(tmp_path)


# the copies


@pytest.fixture
def task(tmp_path):
    base = tmp_path / "task"
    (base / "more").mkdir(parents=True)
    (base / "prompt.md").write_text("{{ text }}")
    jsonl(base / "rows.jsonl", texts(3))
    jsonl(base / "more" / "a.jsonl", texts(2))
    jsonl(tmp_path / "outside.jsonl", texts(4))
    return base


@pytest.mark.parametrize(
    ("source", "rows"),
    [("rows.jsonl", 3), ("more", 2), ("more/*.jsonl", 2), ("../outside.jsonl", 4), (["rows.jsonl", "more/*.jsonl"], 5), ("**/*.jsonl", 5)],
)
def test_copies_are_read_in_place_of_the_sources(task, tmp_path, source, rows):
    config = prompts.Config(source=source, template="prompt.md")
    before = prompts.load(config, task).prompts

    frozen = freeze(config, task, tmp_path / "copy", earlier=None, segments=[])
    for path in [*task.rglob("*.jsonl"), tmp_path / "outside.jsonl"]:
        path.write_text("")

    assert len(list(read_rows(frozen.source, base=tmp_path / "copy"))) == rows
    assert [(row.id, row.source_ids) for row in prompts.load(frozen, task).prompts] == [(row.id, row.source_ids) for row in before]


def test_rows_without_ids_are_known_by_the_same_place_in_a_copy(task, tmp_path):
    jsonl(task / "rows.jsonl", [{"text": "one"}, {"text": "two"}])
    config = prompts.Config(source="rows.jsonl", template="prompt.md")

    frozen = freeze(config, task, tmp_path / "copy", earlier=None, segments=[])

    assert sorted(row.source_ids[0] for row in prompts.load(frozen, task).prompts) == ["rows.jsonl line 1", "rows.jsonl line 2"]


def test_a_file_that_did_not_change_is_linked_to_the_earlier_copy_and_logged_rows_come_along(task, tmp_path):
    config = prompts.Config(source=["rows.jsonl", "more"], template="prompt.md")
    segment = jsonl(tmp_path / "s1.jsonl", [{"text": "logged"}])
    freeze(config, task, tmp_path / "one", earlier=None, segments=[segment])
    jsonl(task / "rows.jsonl", texts(9))

    frozen = freeze(config, task, tmp_path / "two", earlier=tmp_path / "one", segments=[segment])

    linked = {str(path.relative_to(tmp_path / "two")): path.stat().st_nlink for path in (tmp_path / "two").rglob("*.jsonl")}
    assert linked == {"rows.jsonl": 1, "more/a.jsonl": 2, "logged/s1.jsonl": 2}
    assert len(prompts.load(frozen, task).prompts) == 10


@pytest.mark.parametrize(("end", "expected"), [("", None), ("\n", None), ('{"text": "a"}', None), ('{"tex', 14), ("  ", None)])
def test_a_torn_last_line_is_seen(tmp_path, end, expected):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n' + end)

    assert torn_at(path) == expected


# what has changed


def test_a_source_that_grew_is_no_other_recipe():
    one = {"prompts": {"source": "a.jsonl", "held_out": "h.jsonl"}, "files": {"a.jsonl": "1", "h.jsonl": "2", "t.md": "3"}}
    other = {
        "prompts": {"source": ["b.jsonl", "c.jsonl"], "held_out": "x.jsonl"},
        "files": {"b.jsonl": "8", "c.jsonl": "9", "x.jsonl": "2", "t.md": "3"},
    }

    assert essence({"generate": one}) == essence({"generate": other})


@pytest.mark.parametrize(
    "changed",
    [
        {"files": {"a.jsonl": "1", "h.jsonl": "2", "t.md": "4"}},
        {"files": {"a.jsonl": "1", "h.jsonl": "7", "t.md": "3"}},
        {"prompts": {"source": "a.jsonl", "held_out": "h.jsonl", "group": "g"}},
    ],
)
def test_an_edited_template_another_held_out_file_or_key_is_another_recipe(changed):
    one = {"prompts": {"source": "a.jsonl", "held_out": "h.jsonl"}, "files": {"a.jsonl": "1", "h.jsonl": "2", "t.md": "3"}}

    assert essence({"generate": one}) != essence({"generate": one | changed})


def test_where_a_student_started_decides_no_recipe():
    plain = {"train": {"student": "builtin"}, "student": "1"}
    started = {"train": {"student": "builtin", "start": {"run": "a"}}, "student": "1", "start": "2"}

    assert essence({"train": plain}) == essence({"train": started})


def test_a_signature_sees_each_file_that_a_recipe_names(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("rows.jsonl", "schema.json", "more/a.jsonl"):
        (tmp_path / name).write_text("{}")
    values = {
        "source": ["rows.jsonl", "more/*.jsonl"],
        "verify": ["json_schema:schema.json"],
        "n": 3,
        "long": "x" * 5000,
        "url": "http://a/b",
    }
    seen = [signature(values, tmp_path)]
    assert signature(values, tmp_path) == seen[0]

    for name in ("rows.jsonl", "schema.json", "more/a.jsonl", "more/b.jsonl"):
        (tmp_path / name).write_text("{ }")
        seen.append(signature(values, tmp_path))
    seen.append(signature(values | {"n": 4}, tmp_path))

    assert len(set(seen)) == len(seen)


# what is due


def test_rules_that_the_recipe_has_not_are_not_in_the_table():
    assert [rule.name for rule in rules(When(changed=False), Facts(in_use=True))] == []


def test_a_time_in_the_future_is_no_time_passed():
    [rule] = rules(When(days=7, changed=False), Facts(in_use=True, since_last_s=-5000.0))

    assert (rule.found, rule.due) == ("0.0", False)


# what is removed


def answered(folder, *names: str) -> None:
    """A run's answers on disk."""
    (folder / "generate").mkdir(parents=True)
    rows = [Completion(digest(name), digest("p", name), [], 0, name, "stop", "m", Usage(), 0.1) for name in names]
    (folder / "generate" / "completions-train-00000.jsonl").write_bytes(b"".join(map(encode, rows)))


def texts_in(folder) -> list[str]:
    return sorted(json.loads(line)["text"] for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines())


def test_answers_that_another_run_holds_go_and_the_others_stay_once(tmp_path):
    answered(tmp_path / "new", "a", "b")
    answered(tmp_path / "old", "a", "c")
    answered(tmp_path / "older", "c", "d")

    gone = prune([tmp_path / "old", tmp_path / "older"], keep=[tmp_path / "new"], store=tmp_path / ".store")

    assert gone == ["old", "older"]
    assert texts_in(tmp_path / ".store" / "generate") == ["c", "d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".store", "new"]


def test_what_a_kill_left_of_a_removed_run_goes_at_the_next_call(tmp_path):
    answered(tmp_path / ".old.gone", "a")

    leftovers(tmp_path)

    assert list(tmp_path.iterdir()) == []
