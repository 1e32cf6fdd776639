import json

import pytest

from synthdistill.errors import RecipeError
from synthdistill.quality.verify import check, schema_files, verifier
from synthdistill.records import Completion, Prompt, Usage

SCHEMA = {"type": "object", "required": ["intent"], "properties": {"intent": {"enum": ["refund", "other"]}, "order": {"type": "integer"}}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "triage.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def judge(name, text, base=None, gold=None):
    completion = Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0)
    return verifier(name, base)(completion, Prompt("p", [], [], "", "train", reference=gold))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jsn_schema:x", "did you mean 'json_schema'"),
        ("json_schema", "path of a schema"),
        ("json:x", "takes no argument"),
        ("regex", "takes a pattern"),
        ("regex:(", "is no pattern"),
        ("reference:x", "takes no argument"),
    ],
)
def test_a_bad_name_or_argument_says_what_would_be_right(name, said):
    with pytest.raises(ValueError, match=said):
        check(name)


def test_a_check_opens_no_file():
    check("json_schema:/nowhere/at/all.json")


@pytest.mark.parametrize("text", ["{}", " [1, 2.5] ", '"a"', "12", "null"])
def test_json_is_kept(text):
    assert judge("json", text).value == 1.0


@pytest.mark.parametrize(
    "text", ["", "yes", "{'a': 1}", "[NaN]", '```json\n{"a": 1}\n```', '{"a": 1} thanks', "[" * 100_000, '"\\ud800"', '"\ud800"']
)
def test_what_is_not_wholly_json_is_wrong_and_not_unscored(text):
    score = judge("json", text)

    assert score.value == 0.0
    assert score.reason.startswith("no JSON")


def test_an_answer_that_the_schema_allows_is_kept(folder):
    assert judge("json_schema:triage.json", '{"intent": "refund", "order": 12}', folder).value == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"intent": "refnd"}', "at intent:"),
        ('{"order": 1}', "at the top:"),
        ('{"intent": "other", "order": "12"}', "at order:"),
        ("refund", "no JSON"),
    ],
)
def test_the_reason_says_where_the_schema_is_broken(folder, text, reason):
    score = judge("json_schema:triage.json", text, folder)

    assert score.value == 0.0
    assert score.reason.startswith(reason)


def test_a_schema_of_itself_takes_deep_answers(folder):
    (folder / "tree.json").write_text('{"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}')

    assert judge("json_schema:tree.json", "[" * 400 + "]" * 400, folder).value == 1.0


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b'{"type": "strng"}',
        b"[1]",
        b'"string"',
        b'{"pattern": "("}',
        b'{"$ref": "http://example.invalid/schema.json"}',
        b'{"$ref": "other.json"}',
        b'{"$ref": "file:///etc/hostname"}',
    ],
)
def test_a_bad_schema_is_refused(folder, content):
    (folder / "bad.json").write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.json is no JSON schema"):
        verifier("json_schema:bad.json", folder)


def test_a_missing_schema_is_refused(folder):
    with pytest.raises(RecipeError, match="cannot be read"):
        verifier("json_schema:none.json", folder)
    with pytest.raises(RecipeError, match="cannot be read"):
        schema_files(["json_schema:none.json"], folder)


def test_the_hash_of_a_schema_changes_with_its_content(folder):
    before = schema_files(["json", "json_schema:triage.json"], folder)
    (folder / "triage.json").write_text("{}")
    after = schema_files(["json", "json_schema:triage.json"], folder)

    assert list(before) == list(after) == ["triage.json"]
    assert before != after


def test_a_regex_takes_the_whole_answer_without_the_space_around_it():
    assert [judge("regex:yes|no", text).value for text in ("yes", " no\n", "yes!", "oh no")] == [1.0, 1.0, 0.0, 0.0]


def test_a_colon_belongs_to_the_pattern():
    assert judge(r"regex:\d+:\d+", "12:30").value == 1.0


@pytest.mark.parametrize(("text", "gold"), [("Refund", " refund"), ('{"b": 1.0, "a": 2}', '{"a":2,"b":1}'), ("18", "18.0")])
def test_the_gold_answer_is_kept_however_it_is_written(text, gold):
    assert judge("reference", text, gold=gold).value == 1.0


@pytest.mark.parametrize(("text", "gold"), [("refund it", "refund"), ('{"a": 1}', '{"a": 2}'), ("true", "1")])
def test_another_than_the_gold_answer_is_dropped(text, gold):
    assert judge("reference", text, gold=gold).value == 0.0


def test_without_gold_nothing_is_judged():
    score = judge("reference", "anything")

    assert (score.value, score.reason) == (None, "no gold answer")


def test_real_slots_pass_their_schema_and_fail_a_narrower_one(data, folder):
    """13,784 SNIPS annotations: all are lists of slots; those with a slot named otherwise fail exactly where it is left out."""
    with (data / "snips/train.jsonl").open(encoding="utf-8") as lines:
        slots = [json.loads(line)["slots"] for line in lines]
    item = {"type": "object", "required": ["slot", "value"], "properties": {"slot": {"type": "string"}, "start": {"type": "integer"}}}
    (folder / "wide.json").write_text(json.dumps({"type": "array", "items": item}))
    item["properties"]["slot"] = {"not": {"const": "artist"}}
    (folder / "narrow.json").write_text(json.dumps({"type": "array", "items": item}))
    wide, narrow = verifier("json_schema:wide.json", folder), verifier("json_schema:narrow.json", folder)
    rows = [Completion("c", "p", [], 0, json.dumps(row), "stop", "m", Usage(), 0.0) for row in slots]
    prompt = Prompt("p", [], [], "", "train")

    assert all(wide(row, prompt).value for row in rows)
    assert [narrow(row, prompt).value for row in rows] == [0.0 if any(s["slot"] == "artist" for s in row) else 1.0 for row in slots]
