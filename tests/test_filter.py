import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synthdistill import shards
from synthdistill.console import stage_line
from synthdistill.errors import ChangedError, RecipeError, UnfinishedError
from synthdistill.manifest import Counts, open_stage
from synthdistill.ops.rows import look
from synthdistill.progress import Silent
from synthdistill.records import Completion, Dropped, Example, Prompt, Usage, digest, encode
from synthdistill.runs import Run
from synthdistill.samplers.base import ScriptedModel, Workload
from synthdistill.stages import filter as stage

TEACHER = ScriptedModel(kind="scripted", answers="answers.jsonl")
"""Nobody asks it where there is no judge."""
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def prompt(text, split="train", **options):
    return Prompt(digest(text, split), [f"row {text}"], [{"role": "user", "content": text}], text, split, **options)


def answers(asked, *texts, finish="stop", **options):
    """Completions of a prompt, one a text."""
    return [
        Completion(digest(asked.id, index), asked.id, asked.source_ids, index, text, finish, "m", Usage(), 0.1, **options)
        for index, text in enumerate(texts)
    ]


def generated(folder, prompts, completions, *, order=None, count=3):
    """A run whose generate stage is sealed with these rows in `count` shards; `order` shuffles their lines."""
    place = Run(folder / "run", folder, "recipe.toml")
    opening = open_stage(place.stage("generate"), "generate", {}, inputs={}, run=place, shards=count)
    outputs = []
    for split in ("train", "validation", "held_out"):
        outputs += shards.write(opening.folder, f"prompts-{split}", [row for row in prompts if row.split == split], shards=count)
    lines = [(shards.shard_of(row.prompt_id, count), encode(row)) if isinstance(row, Completion) else (0, row) for row in completions]
    if order is not None:
        random.Random(order).shuffle(lines)
    for shard in range(count):
        (opening.folder / f"completions-train-{shard:05d}.jsonl").write_bytes(b"".join(line for number, line in lines if number == shard))
    opening.seal(outputs=outputs, counts=Counts())
    return place


def filtered(place, config=None, **options):
    """The manifest, the examples and the dropped rows by completion id."""
    manifest = stage.run(config or stage.Config(), teacher=TEACHER, place=place, workload=Workload(), progress=Silent(), **options)
    folder = place.stage("filter")
    examples = {row.completion_id: row for row in shards.read(folder, "examples", Example)}
    dropped = {row.completion_id: row for row in shards.read(folder, "dropped", Dropped)}
    return manifest, examples, dropped


def reasons(place, config=None):
    return Counter(row.reason for row in filtered(place, config)[2].values())


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": ["finishd"]}, "did you mean 'finished'"),
        ({"rules": ["length:x"]}, "MIN-MAX"),
        ({"verify": ["jsn"]}, "did you mean 'json'"),
        ({"agree": {"min_share": 0}}, "greater than 0"),
        ({"decontaminate": {"ngram": 0}}, "greater than or equal to 1"),
        ({"near_duplicates": {"threshold": 0.1}}, "greater than or equal to 0.2"),
        ({"rules": ["language:en,sure=2"]}, "sure as a probability from 0 to 1, given 2"),
        ({"verify": ["numeric:tolerance=-1"]}, "tolerance as a share of the reference, 0 or more, given -1"),
        ({"verify": ["reference:agreement"]}, "reference:agreement names no metric"),
    ],
)
def test_a_bad_key_or_name_is_refused_when_the_recipe_is_read(values, said):
    with pytest.raises(ValidationError, match=said):
        stage.Config.model_validate(values)


def test_an_example_is_the_prompt_and_the_answer(tmp_path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = prompt("where is my order", tools=tools)
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    (completion,) = answers(asked, "", finish="tool_calls", tool_calls=calls)
    _, examples, _ = filtered(generated(tmp_path, [asked], [completion]))

    example = examples[completion.id]
    assert example.id == digest(completion.id)
    assert example.messages == [*asked.messages, {"role": "assistant", "content": "", "tool_calls": calls}]
    assert (example.prompt_id, example.source_ids, example.tools, example.weight) == (asked.id, asked.source_ids, tools, 1.0)
    assert {score.name: score.value for score in example.scores} == {
        "finished": 1.0,
        "not_empty": 1.0,
        "no_refusal": 1.0,
        "no_repetition": 0.0,
        "decontaminate": 1.0,
    }


def test_a_rule_drops_with_its_name_the_users_ids_and_the_scores_so_far(tmp_path):
    asked = prompt("q")
    (completion,) = answers(asked, " ")
    dropped = filtered(generated(tmp_path, [asked], [completion]))[2][completion.id]

    assert (dropped.stage, dropped.reason, dropped.source_ids) == ("filter", "rules:not_empty", asked.source_ids)
    assert [(score.name, score.value) for score in dropped.scores] == [("finished", 1.0), ("not_empty", 0.0)]


def test_the_reference_keeps_the_gold_answer_and_counts_what_has_none(tmp_path):
    right, wrong, without = prompt("a", reference="yes"), prompt("b", reference="yes"), prompt("c")
    place = generated(tmp_path, [right, wrong, without], [*answers(right, "Yes"), *answers(wrong, "no"), *answers(without, "no")])
    manifest, examples, dropped = filtered(place, stage.Config(verify=["reference"]))

    assert {row.prompt_id for row in examples.values()} == {right.id, without.id}
    assert [row.reason for row in dropped.values()] == ["verify:reference"]
    assert manifest.counts.unscored == {"reference": 1}


def test_the_minority_yields_to_the_majority_and_names_it(tmp_path):
    asked = prompt("q")
    rows = answers(asked, "yes", "no", "Yes", "YES ")
    _, examples, dropped = filtered(generated(tmp_path, [asked], rows), stage.Config(agree={"min_share": 0.5}))
    yes = sorted(row.id for row in rows if row.text != "no")

    assert list(examples) == yes[:1]
    assert (dropped[rows[1].id].reason, dropped[rows[1].id].kept_instead) == ("agreement:minority", yes[0])
    assert {dropped[loser].reason for loser in yes[1:]} == {"best_of_prompt"}
    assert {dropped[loser].kept_instead for loser in yes[1:]} == {yes[0]}


def test_a_prompt_without_enough_agreement_loses_all(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked], answers(asked, "a", "b", "c", "c"))

    assert reasons(place, stage.Config(agree={"min_share": 0.6})) == {"agreement:min_share": 4}


def test_exactly_the_share_is_enough(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked], answers(asked, "a", "b", "c", "c"))

    assert reasons(place, stage.Config(agree={"min_share": 0.5})) == {"agreement:minority": 2, "best_of_prompt": 1}


def test_agreement_is_over_what_rules_and_verifiers_left(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked], answers(asked, "not json", "not json", "not json", "[1]"))
    manifest, examples, dropped = filtered(place, stage.Config(verify=["json"], agree={"min_share": 1.0}))

    assert len(examples) == 1
    assert manifest.counts.unscored == {"agreement": 1}
    assert Counter(row.reason for row in dropped.values()) == {"verify:json": 3}


def test_several_rows_of_a_prompt_are_different_answers_before_they_are_copies(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked], answers(asked, "a", "a", "a", "b"))
    _, examples, _ = filtered(place, stage.Config(select={"per_prompt": 2}))

    assert sorted(row.messages[-1]["content"] for row in examples.values()) == ["a", "b"]


@pytest.mark.parametrize("split", ["validation", "held_out"])
def test_a_row_that_overlaps_with_what_must_stay_unseen_is_dropped(tmp_path, split):
    long, short, clean = prompt(f"a b c d e {LONG} and more"), prompt("Where is it?"), prompt("something else")
    unseen = [prompt(f"well {LONG}", split), prompt("where is it", split)]
    rows = [row for asked in (long, short, clean) for row in answers(asked, "a")]
    _, examples, dropped = filtered(generated(tmp_path, [long, short, clean, *unseen], rows))

    assert {row.prompt_id for row in examples.values()} == {clean.id}
    assert Counter(row.reason for row in dropped.values()) == {"decontaminate:ngram": 1, "decontaminate:equal": 1}


def test_of_duplicates_between_prompts_the_smallest_id_stays(tmp_path):
    asked = [prompt("Where is  it?"), prompt("where is it?"), prompt("where is what?")]
    rows = [row for one in asked for row in answers(one, "here")]
    _, examples, dropped = filtered(generated(tmp_path, asked, rows))
    low, high = sorted(row.id for row in rows[:2])

    assert set(examples) == {low, rows[2].id}
    assert (dropped[high].reason, dropped[high].kept_instead) == ("duplicate:exact", low)


def test_the_selection_is_the_last_step(tmp_path):
    asked = [prompt(f"question {number}") for number in range(20)]
    place = generated(tmp_path, asked, [row for one in asked for row in answers(one, "a", "b")])
    manifest, examples, _ = filtered(place, stage.Config(select={"count": 5}))

    assert len(examples) == 5
    assert manifest.counts.dropped == {"best_of_prompt": 20, "select:count": 15}
    assert [step["step"] for step in manifest.results["funnel"]] == [
        "quarantine",
        "rules",
        "best_of_prompt",
        "decontaminate",
        "duplicate",
        "near_duplicate",
        "select",
    ]


def test_the_funnel_leaves_no_gap_between_its_steps(tmp_path):
    asked = [prompt(f"question {number}") for number in range(9)]
    rows = [row for one in asked for row in answers(one, "a", "", "b")]
    manifest, _, _ = filtered(generated(tmp_path, asked, rows))
    funnel = manifest.results["funnel"]

    assert funnel[0]["in"] == manifest.counts.read == 27
    assert funnel[-1]["out"] == manifest.counts.written == 9
    assert [step["in"] for step in funnel[1:]] == [step["out"] for step in funnel[:-1]]
    assert all(step["in"] - step["out"] == sum(step["reasons"].values()) for step in funnel)


def test_a_row_never_ends_the_run(tmp_path):
    asked = prompt("q")
    good, nul, cut = answers(asked, "fine", "a\0b", "half \ufffd")
    stray = answers(prompt("unknown"), "x")
    bad = [b'{"id": "torn\n', b"\xff\xfe\n", encode(good).replace(b"fine", b"\\ud800"), encode(good).replace(b"fine", b"\xff"), b"\n"]
    deep = encode(good).replace(b'"tool_calls":null', b'"tool_calls":[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]")
    manifest, examples, _ = filtered(generated(tmp_path, [asked], [good, good, nul, cut, *stray, *bad, deep]))

    assert list(examples) == [good.id]
    assert manifest.counts.read == 11
    assert manifest.counts.dropped == {
        "quarantine:no_prompt": 1,
        "quarantine:nul": 1,
        "quarantine:repeated_id": 1,
        "quarantine:replacement_character": 1,
        "quarantine:undecodable": 6,
    }


def test_an_unreadable_line_is_found_again_by_its_place(tmp_path):
    place = generated(tmp_path, [prompt("q")], [b"{\n"])
    (dropped,) = filtered(place)[2].values()

    assert dropped.scores[0].reason.startswith("completions-train-00000.jsonl line 1: ")


def test_answers_of_other_splits_are_never_opened(tmp_path):
    """They may be anything, even folders in their place: the stage does not look."""
    asked, unseen = prompt("q"), prompt("v", "validation")
    place = generated(tmp_path, [asked, unseen, prompt("h", "held_out")], answers(asked, "a"))
    for split in ("validation", "held_out"):
        (place.stage("generate") / f"completions-{split}-00000.jsonl").mkdir()
    manifest, examples, _ = filtered(place)

    assert manifest.counts.read == len(examples) == 1


def test_filtered_once_it_is_up_to_date(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked], answers(asked, "a"))
    first = filtered(place)[0]
    before = {path.name: path.read_bytes() for path in place.stage("filter").iterdir()}
    again = filtered(place)[0]

    assert again.up_to_date
    assert again.fingerprint == first.fingerprint
    assert before == {path.name: path.read_bytes() for path in place.stage("filter").iterdir()}


def test_another_rule_is_refused_by_its_name(tmp_path):
    place = generated(tmp_path, [prompt("q")], [])
    filtered(place)
    with pytest.raises(ChangedError, match=r"filter\.rules"):
        filtered(place, stage.Config(rules=["finished"]))


def test_another_schema_behind_the_same_name_is_refused(tmp_path):
    (tmp_path / "s.json").write_text("{}")
    place = generated(tmp_path, [prompt("q")], [])
    filtered(place, stage.Config(verify=["json_schema:s.json"]))
    (tmp_path / "s.json").write_text('{"type": "object"}')
    with pytest.raises(ChangedError, match=r"s\.json"):
        filtered(place, stage.Config(verify=["json_schema:s.json"]))


def test_a_bad_schema_is_no_start_of_the_stage(tmp_path):
    """Once it is mended the same run goes on."""
    (tmp_path / "s.json").write_text("{")
    place = generated(tmp_path, [prompt("q")], [])
    with pytest.raises(RecipeError, match="no JSON schema"):
        filtered(place, stage.Config(verify=["json_schema:s.json"]))
    (tmp_path / "s.json").write_text("{}")

    assert filtered(place, stage.Config(verify=["json_schema:s.json"]))[0].counts.read == 0


def test_before_generate_has_ended_it_names_the_command(tmp_path):
    with pytest.raises(UnfinishedError, match=r"synthdistill generate recipe\.toml"):
        filtered(Run(tmp_path / "main", tmp_path, "recipe.toml"))


def test_a_limit_keeps_the_first_prompts_by_id_with_all_their_samples(tmp_path):
    asked = [prompt(f"question {number}") for number in range(6)]
    place = generated(tmp_path, asked, [row for one in asked for row in answers(one, "a", "b")])
    manifest, examples, _ = filtered(place, limit=2)

    assert manifest.counts.read == 4
    assert {row.prompt_id for row in examples.values()} == set(sorted(one.id for one in asked)[:2])


def test_a_plan_counts_names_the_steps_and_writes_nothing(tmp_path):
    asked = prompt("q")
    place = generated(tmp_path, [asked, prompt("v", "validation")], [*answers(asked, "a", "b"), b"{\n"])
    plan = stage.plan(stage.Config(verify=["json"]), teacher=TEACHER, place=place)

    assert (plan["rows"], plan["compared_with"]) == (3, 1)
    assert plan["steps"] == ["quarantine", "rules", "verify", "best_of_prompt", "decontaminate", "duplicate", "near_duplicate"]
    assert not place.stage("filter").exists()


def test_a_plan_before_generate_knows_the_steps_alone(tmp_path):
    plan = stage.plan(stage.Config(), teacher=TEACHER, place=Run(tmp_path / "main", tmp_path, "recipe.toml"))

    assert plan["rows"] is None
    assert plan["steps"][0] == "quarantine"


def test_it_says_so_when_nothing_is_left(tmp_path):
    asked = prompt("q")
    notes = Notes()
    place = generated(tmp_path, [asked], answers(asked, "", ""))
    stage.run(stage.Config(), teacher=TEACHER, place=place, workload=Workload(), progress=notes)

    assert len(notes.lines) == 1
    assert "kept none of 2 rows; rules:not_empty took 2" in notes.lines[0]


TEXTS = st.sampled_from(["where is it", "Where is it?", "WHERE  is it", LONG, f"so {LONG}", "x", "\u00e9", "e\u0301"])
ANSWERS = st.sampled_from(
    ["yes", "Yes", "no", "", "a\0", "\ufffd", '{"a": 1}', '{ "a": 1.0 }', "loop and again " * 40, "I can't help with that."]
)
SAMPLES = st.lists(st.tuples(ANSWERS, st.sampled_from(["stop", "length"])), max_size=4)
CONFIGS = st.builds(
    lambda agree, verify, select: stage.Config(agree=agree, verify=verify, select=select),
    st.sampled_from([None, {"min_share": 0.5}, {"min_share": 1.0}]),
    st.sampled_from([[], ["json"], ["reference"], ["regex:.*e.*"]]),
    st.sampled_from([{}, {"per_prompt": 2}, {"count": 3}]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, SAMPLES), max_size=8, unique_by=lambda pair: pair[0]), TEXTS, CONFIGS, st.integers(1, 1000))
def test_read_is_written_and_dropped_and_no_order_of_the_input_changes_a_byte(rows, held, config, order):
    prompts = [prompt(text, reference="yes" if number % 2 else None) for number, (text, _) in enumerate(rows)]
    completions = []
    for asked, (_, samples) in zip(prompts, rows, strict=True):
        for index, (text, finish) in enumerate(samples):
            completions += [Completion(digest(asked.id, index), asked.id, ["s"], index, text, finish, "m", Usage(), 0.1)]
    written = []
    for shuffled in (None, order):
        with tempfile.TemporaryDirectory() as folder:
            place = generated(Path(folder), [*prompts, prompt(held, "held_out")], completions, order=shuffled, count=2)
            manifest, examples, dropped = filtered(place, config)
            paths = sorted(place.stage("filter").glob("*-*.jsonl"))
            written.append([(path.name, path.read_bytes()) for path in paths])
        assert sorted([*examples, *dropped]) == sorted(row.id for row in completions)
        assert manifest.counts.read == len(completions) == manifest.counts.written + sum(manifest.counts.dropped.values())
        assert (manifest.counts.written, sum(manifest.counts.dropped.values())) == (len(examples), len(dropped))

    assert written[0] == written[1]


def test_real_samples_go_through_with_no_row_lost(data, tmp_path):
    """GSM8K, four models a question: what its authors call wrong falls to the gold, one right answer a clean question stays."""
    prompts, completions, right = {}, [], set()
    with (data / "gsm8k/model_solutions.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            asked = prompts.setdefault(row["question"], prompt(row["question"], reference=row["gold"]))
            text = row["solution"].rsplit("A: ", 1)[-1]
            completions += [Completion(digest(asked.id, row["model"]), asked.id, ["s"], 0, text, "stop", row["model"], Usage(), 0.1)]
            if row["is_correct"]:
                right.add(asked.id)
    with (data / "gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        unseen = [prompt(json.loads(line)["question"], "held_out") for line in lines]
    place = generated(tmp_path, [*prompts.values(), *unseen], completions)
    manifest, examples, dropped = filtered(place, stage.Config(verify=["reference"]))
    unclean = {row.prompt_id for row in completions if row.id in dropped and dropped[row.id].reason == "decontaminate:ngram"}

    assert manifest.counts.read == 5276 == len(examples) + len(dropped)
    assert 0 < len(unclean) < 60
    assert {row.prompt_id for row in examples.values()} == right - unclean


def test_near_duplicates_are_dropped_by_default_for_the_row_that_stays(tmp_path):
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(5)]
    rows = [row for one in asked for row in answers(one, "send it")]
    manifest, examples, dropped = filtered(generated(tmp_path, asked, rows))
    (kept,) = examples

    assert kept == min(row.id for row in rows)
    assert {(row.reason, row.kept_instead) for row in dropped.values()} == {("near_duplicate", kept)}
    assert manifest.counts.more == {"conflict": 0}


def test_a_dropped_row_is_shown_beside_the_one_that_stayed(tmp_path):
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(2)]
    place = generated(tmp_path, asked, [row for one in asked for row in answers(one, "send it")])
    filtered(place)
    shown = look(place, "filter", reason="near_duplicate", dropped=True)
    (record,) = shown.records

    assert {record["row"]["asked"], record["kept_row"]["asked"]} == {one.text for one in asked}
    assert shown.cells[0][2:] == [f"{said['asked']}\n-> send it" for said in (record["row"], record["kept_row"])]


def test_near_prompts_that_are_answered_otherwise_stay_and_are_counted(tmp_path):
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(3)]
    rows = [row for number, one in enumerate(asked) for row in answers(one, f"label {number}")]
    manifest, examples, _ = filtered(generated(tmp_path, asked, rows))

    assert len(examples) == 3
    assert manifest.counts.more == {"conflict": 3}
    assert "; 3 kept beside a near prompt with another answer (conflict); " in stage_line("filter", manifest)
    assert all("conflict" in {score.name for score in row.scores} for row in examples.values())


def test_near_prompts_with_the_same_answer_written_otherwise_are_no_conflict(tmp_path):
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(2)]
    rows = [*answers(asked[0], '{"a": 1, "b": 2}'), *answers(asked[1], '{"b":2,"a":1}')]

    assert filtered(generated(tmp_path, asked, rows))[0].counts.more == {"conflict": 0}


def test_a_row_is_never_shown_beside_one_that_went_as_well(tmp_path):
    """A sample loses to the best of its prompt, which is near another prompt's row."""
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(6)]
    rows = [row for one in asked for row in answers(one, "send it", "send it now", "send it", "keep it")]
    for per_prompt in (1, 3):
        _, examples, dropped = filtered(
            generated(tmp_path / str(per_prompt), asked, rows), stage.Config(select={"per_prompt": per_prompt, "count": 1})
        )
        kept = {row.kept_instead for row in dropped.values()} - {None}
        assert kept <= examples.keys()
        assert kept


def test_a_setting_that_cannot_be_done_binds_nobody(tmp_path):
    """Scores lie on disk by then; they are known by what they are of."""
    asked = [prompt(f"question {number}") for number in range(5)]
    place = generated(tmp_path, asked, [row for one in asked for row in answers(one, "a")])
    for select in ({"count": 3, "balance": "colour"}, {"count": 3, "by": "score"}):
        with pytest.raises(RecipeError):
            filtered(place, stage.Config(select=select))

    assert len(filtered(place, stage.Config(select={"count": 3}))[1]) == 3


def test_a_file_that_is_not_there_is_named(tmp_path):
    asked = prompt("a question")
    with pytest.raises(RecipeError, match=r"\[filter\] decontaminate files: no such file: .*gone.jsonl"):
        filtered(generated(tmp_path, [asked], answers(asked, "a")), stage.Config(decontaminate={"files": ["gone.jsonl"]}))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Say it in French", "input": "Good day"},
        {"subject": "Say it in French", "body": "Good day"},
        {"messages": [{"role": "user", "content": "Say it in French\nGood day"}, {"role": "assistant", "content": "Bonjour"}]},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say it in french\ngood day!"}]},
    ],
)
def test_a_row_of_a_file_is_what_a_prompt_would_be_made_of(tmp_path, row):
    (tmp_path / "bench.jsonl").write_text(json.dumps(row) + "\n")
    asked = [prompt("Say it in French\nGood day"), prompt("Bonjour")]
    rows = [row for one in asked for row in answers(one, "a")]
    _, examples, _ = filtered(generated(tmp_path, asked, rows), stage.Config(decontaminate={"files": ["bench.jsonl"]}))

    assert [one.prompt_id for one in examples.values()] == [asked[1].id]


def test_near_duplicates_can_be_left(tmp_path):
    words = " ".join(f"w{number}" for number in range(60))
    asked = [prompt(f"{words} x{number}") for number in range(5)]
    rows = [row for one in asked for row in answers(one, "send it")]

    assert len(filtered(generated(tmp_path, asked, rows), stage.Config(near_duplicates=False))[1]) == 5


@pytest.mark.parametrize("count", [1, 2, 16])
def test_the_number_of_shards_changes_no_decision(tmp_path, count):
    rng = random.Random(3)
    words = [f"w{number}" for number in range(400)]
    texts = [" ".join(rng.choices(words, k=40)) for _ in range(60)]
    texts += [text.replace(text.split()[7], "other") for text in texts]
    asked = [prompt(text) for text in dict.fromkeys(texts)]
    rows = [row for one in asked for row in answers(one, "yes", "no", "yes")]
    config = stage.Config(agree={"min_share": 0.5}, select={"count": 50})
    found = []
    for number in (3, count):
        _, examples, dropped = filtered(generated(tmp_path / str(number), asked, rows, count=number, order=number), config)
        found.append((sorted(examples), sorted((row.completion_id, row.reason, row.kept_instead) for row in dropped.values())))

    assert found[0] == found[1]
    assert len(found[0][0]) == 50


def test_other_settings_measure_nothing_again_and_say_what_they_would_move(tmp_path):
    """A function of the user's notes each call."""
    (tmp_path / "checks.py").write_text(
        "def size(answer, prompt):\n    open(prompt['reference'], 'a').write('x')\n    return min(1, len(answer) / 10)\n"
    )
    calls = tmp_path / "calls"
    asked = [prompt(f"question {number}", reference=str(calls)) for number in range(10)]
    place = generated(tmp_path, asked, [row for number, one in enumerate(asked) for row in answers(one, "y" * number)])
    rules = ["finished", "not_empty"]
    low, high = (stage.Config(rules=rules, verify=[f"python:checks.py:size>={least}"]) for least in (0.3, 0.6))
    filtered(place, low)
    first = calls.read_text()
    before = {path.name: path.read_bytes() for path in place.stage("filter").iterdir()}

    assert first == "x" * 9
    assert stage.moved(high, teacher=TEACHER, place=place) == {
        "kept": {"now": 7, "then": 4},
        "moves": {"kept -> verify:python": 3},
    }
    assert before == {path.name: path.read_bytes() for path in place.stage("filter").iterdir()}

    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "generate").symlink_to(place.stage("generate"))
    other = Run(tmp_path / "new", tmp_path, "recipe.toml")
    _, examples, _ = filtered(other, high)

    assert len(examples) == 4
    assert calls.read_text() == first, "another run of the recipe takes the scores over"


def test_a_start_that_ended_goes_on_with_what_was_measured(tmp_path):
    """The second shard is at fault; once it is mended, the first is not measured again."""
    (tmp_path / "checks.py").write_text(
        "def size(answer, prompt):\n    open(prompt['reference'], 'a').write('x')\n"
        "    if answer == 'stop': raise KeyboardInterrupt\n    return 1\n"
    )
    calls = tmp_path / "calls"
    asked = [prompt(f"question {number}", reference=str(calls)) for number in range(40)]
    order = sorted(asked, key=lambda one: shards.shard_of(one.id, 3))
    place = generated(tmp_path, asked, [row for one in order for row in answers(one, "stop" if one == order[-1] else "go")])
    config = stage.Config(verify=["python:checks.py:size"])
    with pytest.raises(KeyboardInterrupt):
        filtered(place, config)
    done = sum(shards.shard_of(one.id, 3) < 2 for one in asked)
    before = len(calls.read_text())
    (place.stage("generate") / "completions-train-00002.jsonl").unlink()
    filtered(place, config)

    assert done > 0
    assert before > done
    assert len(calls.read_text()) == before


def test_rows_of_a_file_are_stayed_clear_of_as_well(tmp_path):
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": "Where is my card?", "answer": "here"}) + "\n")
    asked = [prompt("where is my card"), prompt("here")]
    rows = [row for one in asked for row in answers(one, "a")]
    _, examples, dropped = filtered(generated(tmp_path, asked, rows), stage.Config(decontaminate={"files": ["bench.jsonl"]}))
    (row,) = dropped.values()

    assert [one.prompt_id for one in examples.values()] == [asked[1].id]
    assert row.reason == "decontaminate:equal"
    assert "bench.jsonl line 1" in row.scores[-1].reason


def test_personal_data_is_dropped_or_replaced_in_prompt_and_answer(tmp_path):
    asked = prompt("write to ann@example.com please")
    rows = answers(asked, "I wrote to ann@example.com")
    _, _, dropped = filtered(generated(tmp_path / "a", [asked], rows), stage.Config(pii={"action": "drop"}))
    _, examples, _ = filtered(generated(tmp_path / "b", [asked], rows), stage.Config(pii={"action": "redact"}))

    assert [row.reason for row in dropped.values()] == ["pii:pii"]
    assert [turn["content"] for turn in examples[rows[0].id].messages] == ["write to <EMAIL> please", "I wrote to <EMAIL>"]


def test_a_prompt_half_of_whose_samples_fail_is_half_as_difficult_as_can_be(tmp_path):
    asked = prompt("q")
    rows = answers(asked, "yes", "yes", "no", "")
    _, examples, _ = filtered(generated(tmp_path, [asked], rows), stage.Config(agree={"min_share": 0.5}))
    (example,) = examples.values()

    assert {score.name: score.value for score in example.scores}["difficulty"] == 0.5


def test_the_selection_is_balanced_and_mixed_by_what_the_steps_before_it_found(tmp_path):
    """Twenty prompts of two channels, four samples each, of which all or half pass."""
    asked = [prompt(f"question {number}", metadata={"channel": "mail" if number < 16 else "chat"}) for number in range(20)]
    rows = [row for number, one in enumerate(asked) for row in answers(one, *(["yes"] * 4 if number % 2 else ["yes", "yes", "", ""]))]
    config = stage.Config(select={"count": 8, "balance": "channel", "difficulty": {"easy": 0.5, "medium": 0.5}})
    _, examples, dropped = filtered(generated(tmp_path, asked, rows), config)
    channel = {one.id: one.metadata["channel"] for one in asked}

    assert Counter(channel[row.prompt_id] for row in examples.values()) == {"mail": 4, "chat": 4}
    assert Counter(score.value for row in examples.values() for score in row.scores if score.name == "difficulty") == {0.0: 4, 0.5: 4}
    assert Counter(row.reason for row in dropped.values())["select:count"] == 12


def test_the_most_diverse_rows_are_selected(tmp_path):
    asked = [prompt(f"the same question about a parcel {number}") for number in range(20)] + [prompt("something else entirely")]
    rows = [row for one in asked for row in answers(one, "a")]
    _, examples, _ = filtered(generated(tmp_path, asked, rows), stage.Config(select={"count": 2, "by": "diversity"}))

    assert asked[-1].id in {row.prompt_id for row in examples.values()}
