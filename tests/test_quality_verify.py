import json
import sys
from pathlib import Path

import pytest

from synthdistill import numeric
from synthdistill.errors import RecipeError
from synthdistill.evaluation import metrics
from synthdistill.quality.verify import check, verifier, verify_files
from synthdistill.records import Completion, Prompt, Usage

SCHEMA = {"type": "object", "required": ["intent"], "properties": {"intent": {"enum": ["refund", "other"]}, "order": {"type": "integer"}}}

METRICS = {name: lambda answer, reference, name=name: metrics.measure(name, metrics.Case(answer, reference))[0] for name in metrics.PLAIN}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "triage.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def judge(name, text, base=None, gold=None):
    completion = Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0)
    return verifier(name, base or Path(), METRICS).measure(completion, Prompt("p", [], [], "", "train", reference=gold))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jsn_schema:x", "did you mean 'json_schema'"),
        ("json_schema", "path of a schema"),
        ("json:x", "takes no argument"),
        ("regex", "takes a pattern"),
        ("regex:(", "is no pattern"),
        ("reference:x", "names no metric"),
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
        verify_files(["json_schema:none.json"], folder)


def test_the_hash_of_a_schema_changes_with_its_content(folder):
    before = verify_files(["json", "json_schema:triage.json"], folder)
    (folder / "triage.json").write_text("{}")
    after = verify_files(["json", "json_schema:triage.json"], folder)

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
    wide, narrow = (verifier(f"json_schema:{name}.json", folder).measure for name in ("wide", "narrow"))
    rows = [Completion("c", "p", [], 0, json.dumps(row), "stop", "m", Usage(), 0.0) for row in slots]
    prompt = Prompt("p", [], [], "", "train")

    assert all(wide(row, prompt).value for row in rows)
    assert [narrow(row, prompt).value for row in rows] == [0.0 if any(s["slot"] == "artist" for s in row) else 1.0 for row in slots]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("choice:yes|no", " yes\n", 1.0),
        ("choice:yes|no", "Yes", 0.0),
        ("choice:@labels.txt", "card lost", 1.0),
        ("choice:@labels.txt", "", 0.0),
        ("sql", "SELECT a FROM b WHERE c = 1", 1.0),
        ("sql:postgres", "SELECT a::int FROM b; DELETE FROM c", 1.0),
        ("sql", "", 0.0),
        ("sql", "I would join the two tables", 0.0),
        ("sql", "hello", 0.0),
        ("sql", '{"a": 1}', 0.0),
        ("sql", "1", 0.0),
        ("sql", "\ud800 '", 0.0),
        ("sql", "```sql\nSELECT 1\n```", 0.0),
        ("regex:(a+)+b", "a" * 5000, 0.0),
    ],
)
def test_forms(folder, name, text, value):
    (folder / "labels.txt").write_text("card lost\n\ncard stolen\n")

    assert judge(name, text, folder).value == value


@pytest.mark.parametrize(
    ("text", "gold", "value"),
    [
        ("It is 9 * 2 = $18 a day.\nA: $18.00", "18", 1.0),
        ("#### 1,234", "1234", 1.0),
        ("the answer is 0.5.", "1/2", 1.0),
        (r"so \boxed{\frac{1}{2}}", "0.5", 1.0),
        (r"\boxed{2\sqrt{3}}", r"$\sqrt{12}$", 1.0),
        ("A: 17 of 18", "18", 0.0),
        ("A: -5", "5", 0.0),
        ("no idea", "18", 0.0),
        ("5 - 3 = 2", "2", 1.0),
        ("from 3-5", "5", 1.0),
        ("1 1/2", "1.5", 1.0),
        (r"\boxed{9^{9^{9}}}", "5", 0.0),
        (r"\boxed{" + r"\sqrt{" * 60 + "2" + "}" * 61, "2", 0.0),
        ("1e99999", "5", 0.0),
        ("3", r"\frac{1}{0}", None),
        ("3", "(1, 2)", None),
        ("", "18", 0.0),
        ("18", "plenty", None),
        ("18", None, None),
    ],
)
def test_numbers(text, gold, value):
    assert judge("numeric", text, gold=gold).value == value


def test_a_tolerance_is_a_share_of_the_gold_number():
    assert [judge("numeric:tolerance=0.01", text, gold="200").value for text in ("202", "203")] == [1.0, 0.0]


def test_on_real_solutions_the_number_is_right_where_the_authors_say_so(data):
    with (data / "gsm8k/model_solutions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    said = [judge("numeric", row["solution"], gold=row["gold"]).value == 1.0 for row in rows]

    assert len(rows) == 5276
    assert said == [row["is_correct"] for row in rows]


def test_the_reference_by_a_metric_keeps_from_its_bound_on():
    check = verifier("reference:json_fields>=0.5", Path(), METRICS)
    score = judge("reference:json_fields>=0.5", '{"a": 1, "b": 2}', gold='{"a": 1, "b": 3}')

    assert score.value == 0.5
    assert check.keeps(score)
    assert not verifier("reference:json_fields", Path(), METRICS).keeps(score)


CHECKS = """
def polite(answer, prompt):
    return "please" in answer, "manners"

def tone(answer, prompt):
    return len(answer) / 10

def odd(answer, prompt):
    return {"": None, "text": "yes", "nan": float("nan"), "raise": lambda: 1 / 0}[answer]

def broken(answer, prompt):
    raise SystemExit(prompt["metadata"]["none"])
"""


@pytest.mark.parametrize(
    ("name", "text", "value", "reason"),
    [
        ("polite", "please do", 1.0, "manners"),
        ("polite", "do", 0.0, "manners"),
        ("tone", "four", 0.4, ""),
        ("odd", "", None, "could not tell"),
        ("odd", "text", 0.0, "returned 'yes'"),
        ("odd", "nan", 0.0, "returned 'nan'"),
        ("odd", "missing", 0.0, "KeyError"),
        ("broken", "x", 0.0, "KeyError: 'none'"),
    ],
)
def test_the_users_own_function(folder, name, text, value, reason):
    (folder / "checks.py").write_text(CHECKS)
    score = judge(f"python:checks.py:{name}", text, folder)

    assert score.value == value
    assert reason in score.reason


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("g = len", "It has: g"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_any_row(folder, source, said):
    (folder / "checks.py").write_text(source)
    with pytest.raises(RecipeError) as error:
        verifier("python:checks.py:f", folder)

    assert said in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sql:postgress", "did you mean 'postgres'"),
        ("python:checks.py", "python:checks.py:is_polite"),
        ("choice:", "given none"),
        ("reference:json_fields>=2", "from 0 to 1"),
        ("numeric:tol=1", "tolerance"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_recipe_is_read(spec, said):
    with pytest.raises(ValueError, match=said):
        check(spec)


def test_another_file_is_another_measure_and_another_bound_is_not(folder):
    (folder / "checks.py").write_text(CHECKS)
    keys = {verifier(name, folder).key for name in ("python:checks.py:tone", "python:checks.py:tone>=0.5")}
    (folder / "checks.py").write_text(CHECKS + "#")

    assert len(keys) == 1
    assert verifier("python:checks.py:tone", folder).key not in keys


def test_a_function_cannot_change_the_prompt_for_those_after_it(folder):
    (folder / "checks.py").write_text("def f(answer, prompt):\n    prompt['metadata']['seen'] = 1\n    return True\n")
    prompt = Prompt("p", [], [], "", "train")
    verifier("python:checks.py:f", folder).measure(Completion("c", "p", [], 0, "x", "stop", "m", Usage(), 0.0), prompt)

    assert prompt.metadata == {}


def test_two_versions_of_a_function_in_one_second_are_told_apart(folder):
    """Of one length: Python's cache of compiled files would take the first for the second."""
    found = []
    for value in ("True ", "False"):
        (folder / "checks.py").write_text(f"def f(answer, prompt):\n    return {value}\n")
        found.append(judge("python:checks.py:f", "x", folder).value)

    assert found == [1.0, 0.0]


def test_a_function_may_print_and_import_its_neighbours(tmp_path, capsys):
    (tmp_path / "neighbour.py").write_text("LEAST = 3\n")
    (tmp_path / "talks.py").write_text(
        "from neighbour import LEAST\nprint('imported')\ndef long(answer, prompt):\n    print('asked')\n    return len(answer) >= LEAST\n"
    )
    score = judge("python:talks.py:long", "four", tmp_path)
    said = capsys.readouterr()

    assert score.value == 1.0
    assert said.out == "" and said.err == "imported\nasked\n"
    assert str(tmp_path) not in sys.path


def test_punctuation_without_end_is_read_in_time_that_grows_with_it_only():
    """Each two more of these took four times as long."""
    assert numeric.equal("#### \\frac{1}{2} " + "!" * 100 + " b", "0.5") is not None
    assert numeric.equal("#### \\frac{1}{2} " + "a!" * 100 + " 7b", "0.5") is not None
