"""Seeds that are aimed at weak slices: `eval --write-seeds`, `[prompts.synthesize] seeds`, `[redistill] aim`."""

import json
import random
from dataclasses import replace

import pytest
from project import jsonl, project, synthdistill
from redistilling import Rehearsal
from test_eval import Bench

from synthdistill import prompts as prompts_room
from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.evaluation.sliced import weak
from synthdistill.operations import SelfInstruct
from synthdistill.prompts import contents
from synthdistill.recipe import load as read_recipe
from synthdistill.records import Completion, Prompt, Usage, digest
from synthdistill.sources import Row
from synthdistill.stages import aim
from synthdistill.synthesis.form import Form
from synthdistill.synthesis.near import Texts, fold
from synthdistill.synthesis.seeds import collect
from synthdistill.text import normalise

WORDS = [a + b for a in ("ba", "de", "fi", "gor", "hu", "ka", "lem", "ni") for b in ("ta", "vo", "rik", "sun", "mel", "pa")]
CONFIG = prompts_room.Config(source="rows.jsonl", template="prompt.md", slices=["kind"], reference="label")


def sentence(draw, about="refund", length=6):
    return " ".join([about, *draw.sample(WORDS, length)])


class Weakness(Bench):
    """200 held-out prompts, half about a refund, where the student is wrong; more of both for training and validation."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        draw = random.Random(0)
        (folder / "prompt.md").write_text("{{ text }}", encoding="utf-8")
        self.held = [{"text": sentence(draw, "refund" if n % 2 else "parcel"), "kind": "odd" if n % 2 else "even"} for n in range(200)]
        self.others = {
            split: [{"text": sentence(draw, "refund" if n % 2 else "parcel"), "kind": "odd" if n % 2 else "even"} for n in range(60)]
            for split in ("train", "validation")
        }
        self.place_of = {row["text"]: n for n, row in enumerate(self.held)}

    def prompt(self, row, split):
        messages = contents(CONFIG, self.folder).of(Row(row, "a row")).messages
        return Prompt(digest(messages, None), [], messages, row["text"], split, reference="yes", metadata={"kind": row["kind"]})

    def prompts(self):
        return [self.prompt(row, "held_out") for row in self.held]

    def prepare(self):
        jsonl(self.folder / "rows.jsonl", [*self.held, *self.others["train"], *self.others["validation"]])
        super().prepare()
        for split, rows in self.others.items():
            shards.write(self.place.stage("generate"), f"prompts-{split}", [self.prompt(row, split) for row in rows], shards=2)
        return self

    def seeds(self):
        return aim.aimed(self.place, CONFIG)


@pytest.fixture
def weakness(tmp_path, monkeypatch):
    found = Weakness(tmp_path, monkeypatch)
    monkeypatch.setattr("test_eval.number", lambda prompt: found.place_of.get(prompt.text, 1000))
    found.said = {"teacher": lambda i: "yes", "student": lambda i: "no" if i % 2 else "yes", "base": lambda i: "no"}
    return found


def test_seeds_are_the_training_and_validation_prompts_of_the_weak_slice(weakness):
    weakness.run()
    found = weakness.seeds()

    assert [each.name for each in weak(weakness.report)] == ["kind=odd"]
    assert {row["text"].split()[0] for row in found.rows} == {"refund"}
    assert {row["aim"]["split"] for row in found.rows} == {"train", "validation"}
    assert {row["aim"]["slice"] for row in found.rows} == {"kind=odd"}
    assert found.rows[0]["aim"]["metadata"] == {"kind": "odd"}
    assert "refund" in found.rows[0]["aim"]["words"]
    assert found.slices["kind=odd"] == len(found.rows) == aim.MOST


def test_no_held_out_text_or_near_copy_is_a_seed_nor_a_word_that_only_they_have(weakness):
    """Training rows that are copies of held-out ones: equal but for case, one word changed, one word more, and as a part."""
    draw = random.Random(1)
    odd = [row["text"] for row in weakness.held if row["kind"] == "odd"]
    copies = [odd[1].upper(), odd[2].replace(odd[2].split()[3], "other"), f"{odd[3]} please", " ".join(sorted(odd[4].split()))]
    long = " ".join(["refund", *(draw.choice(WORDS) for _ in range(14))])
    weakness.held[1] = {"text": long, "kind": "odd"}
    weakness.place_of[long] = 1
    copies.append(f"{long} {' '.join(draw.choice(WORDS) for _ in range(40))}")
    weakness.others["train"] = [{"text": text, "kind": "odd"} for text in copies] + weakness.others["train"][:30]
    for row in weakness.held:
        row["text"] += " secretword" if row["kind"] == "odd" else ""
    weakness.place_of = {row["text"]: n for n, row in enumerate(weakness.held)}
    weakness.run()
    found = weakness.seeds()
    text = "\n".join(json.dumps(row) for row in found.rows)
    held = Texts(near=0.7)
    for row in weakness.held:
        held.add(row["text"], row["text"])

    assert len(found.rows) > 20
    assert [row["text"] for row in found.rows if held.equal(row["text"]) or held.closest(row["text"])] == []
    assert not any(normalise(row["text"]) in text for row in weakness.held)
    assert not any(copy in text for copy in copies)
    assert "secretword" in {word for each in weak(weakness.report) for word in each.words}
    assert "secretword" not in text
    assert found.like_held_out >= 4


def test_a_set_is_held_out_as_well(weakness):
    weakness.run()
    everything = weakness.seeds()
    jsonl(weakness.folder / "hard.jsonl", [{"text": row["text"]} for row in everything.rows[:10]])
    found = aim.aimed(weakness.place, CONFIG, {"hard": "hard.jsonl"})

    assert not {row["text"] for row in everything.rows[:10]} & {row["text"] for row in found.rows}


def test_prompts_without_reference_are_known_by_the_teachers_label(weakness):
    """The slice is of a label, which training prompts have only from the teacher's answers."""
    weakness.held = [row | {"kind": "any"} for row in weakness.held]
    said = {"refund": "money", "parcel": "post"}
    original = Weakness.prompt
    weakness.prompt = lambda row, split: replace(original(weakness, row, split), reference=None)
    weakness.said["teacher"] = lambda i: "money" if i % 2 else "post"
    weakness.said["student"] = lambda i: "wrong" if i % 2 else "post"
    weakness.prepare()
    for split, rows in weakness.others.items():
        prompts = [weakness.prompt(row, split) for row in rows]
        answers = [Completion(digest(p.id, "a"), p.id, [], 0, said[p.text.split()[0]], "stop", "m", Usage(), 0.1) for p in prompts]
        shards.write(weakness.place.stage("generate"), f"completions-{split}", answers, shards=2, key="prompt_id")
    weakness.run(calibration=0)  # the stub of a student has no weights to tell how sure it is
    found = weakness.seeds()

    assert any(name.startswith("label=money") for name in found.slices)
    assert {row["text"].split()[0] for row in found.rows} == {"refund"}


def test_a_student_without_a_weak_slice_needs_no_seeds(weakness):
    weakness.said["student"] = lambda i: "yes"
    weakness.run()

    assert weakness.seeds() == aim.Aimed()


def test_a_report_of_an_older_version_has_no_weak_slice():
    assert weak({"slices": [{"slice": "all", "n": 3, "retention": {}}]}) == []


# the file as seeds


def grown(weakness, rows):
    jsonl(weakness.folder / "seeds.jsonl", rows)
    config = CONFIG.model_copy(update={"synthesize": SelfInstruct(kind="self_instruct", count=5, seeds="seeds.jsonl")})
    known = {each.id: "held_out" for each in weakness.prompts()}
    known |= {weakness.prompt(row, split).id: split for split, rows in weakness.others.items() for row in rows}
    return collect(config, Form(config, weakness.folder), weakness.folder, known.get)


def test_the_rows_of_the_file_alone_are_seeds_and_no_new_text_may_copy_the_others(weakness):
    weakness.run()
    rows = weakness.seeds().rows
    found = grown(weakness, rows)

    assert {seed.text for seed in found.seeds} == {row["text"] for row in rows}
    assert {seed.text for seed in [*found.seeds, *found.beside]} >= {row["text"] for row in weakness.others["train"]}
    assert {fold(row["text"]) for row in [*weakness.held, *weakness.others["validation"]]} == found.forbidden
    assert found.passed_over == 0


def test_a_seed_that_is_held_out_by_now_is_passed_over(weakness):
    weakness.prepare()
    found = grown(weakness, [weakness.held[0], weakness.others["train"][0]])

    assert ([seed.text for seed in found.seeds], found.passed_over) == ([weakness.others["train"][0]["text"]], 1)


def test_a_file_without_a_seed_is_refused_with_the_command_that_writes_one(weakness):
    weakness.prepare()
    with pytest.raises(RecipeError, match=r"synthesize\] seeds: no row") as caught:
        grown(weakness, [weakness.held[0]])

    assert "--write-seeds" in caught.value.hint


# the program, and redistill


def sources(folder, count=60):
    draw = random.Random(2)
    rows = [{"id": f"row-{n}", "text": sentence(draw, "refund" if n % 2 else "parcel")} for n in range(count)]
    jsonl(folder / "rows.jsonl", rows)
    jsonl(folder / "answers.jsonl", [{"match": "Some of its texts", "text": "a wholly new question about gardens"}, {"text": "an answer"}])
    return rows


def weaken(run):
    """Say in a report that the student is weak where a text holds `refund`."""
    path = run / "eval" / "report.json"
    report = json.loads(path.read_bytes())
    report["found_slices"] = [{"slice": 'word "refund"', "words": ["refund"], "where": [[["word", "", "refund"]]]}]
    path.write_text(json.dumps(report))


def test_the_command_writes_seeds_and_says_of_what(tmp_path, student):
    recipe = project(
        tmp_path,
        train={"student": str(student), "epochs": 1},
        eval={"sampling": {"max_tokens": 4}, "self_agreement": 0, "speed": {"prompts": 0}},
        gate={"retention": 0.0},
    )
    sources(tmp_path)
    assert synthdistill("run", recipe).returncode == 0
    none = synthdistill("eval", recipe, "--write-seeds", tmp_path / "seeds.jsonl")
    assert "no slice is surely weak, nothing is written" in none.stdout
    assert not (tmp_path / "seeds.jsonl").exists()

    weaken(tmp_path / "runs" / "toy" / "main")
    done = synthdistill("eval", recipe, "--write-seeds", tmp_path / "seeds.jsonl", "--json")
    rows = [json.loads(line) for line in (tmp_path / "seeds.jsonl").read_text().splitlines()]

    assert json.loads(done.stdout)["seeds"]["slices"] == {'word "refund"': len(rows)}
    assert len(rows) > 10
    assert all(row["text"].startswith("refund") for row in rows)


def test_redistill_aims_the_next_run_at_where_the_last_student_is_weak(tmp_path, student):
    desk = Rehearsal(
        tmp_path,
        student,
        prompts={"synthesize": {"kind": "self_instruct", "count": 1, "per_answer": 1, "examples": 3}},
        redistill={"aim": True, "when": {"new_prompts": 5}},
    )
    sources(tmp_path)
    first = desk.call().run
    assert "seeds" not in desk.manifest("generate", first)["config"]["prompts"]["synthesize"]
    weaken(desk.runs / first)
    sources(tmp_path, 90)

    second = desk.call().run
    synthesize = desk.manifest("generate", second)["config"]["prompts"]["synthesize"]
    seeds = [json.loads(line) for line in (desk.runs / second / "source" / synthesize["seeds"]).read_text().splitlines()]
    [row] = [json.loads(line) for line in (desk.runs / second / "generate" / "synthesized.jsonl").read_text().splitlines()]

    assert second != first
    assert all(each["text"].startswith("refund") for each in seeds)
    assert len(row["lineage"]["seeds"]) == 3
    assert any("aimed at" in line and "refund" in line for line in desk.notes.lines)
    assert desk.call().event == "not_due"  # the seeds are no change of the recipe


@pytest.mark.parametrize(
    ("prompts", "message"),
    [({}, r"add that table"), ({"synthesize": {"kind": "self_instruct", "count": 1, "seeds": "s.jsonl"}}, "leave one out")],
)
def test_aim_needs_something_to_aim_and_nothing_else_that_aims(tmp_path, prompts, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(project(tmp_path, prompts=prompts, redistill={"aim": True}))
