"""Blind tables for people, and what they fill in."""

import csv
import io
import json
from types import SimpleNamespace

import pytest
from finished import RECIPE
from hypothesis import given, settings
from hypothesis import strategies as st
from test_eval import Bench, model

from synthdistill import cli, spreadsheet, verbs
from synthdistill.errors import ChangedError, RecipeError, UnfinishedError
from synthdistill.manifest import file_hash, load
from synthdistill.progress import Silent
from synthdistill.samplers.base import TransformersModel
from synthdistill.stages import review, run
from synthdistill.stages.eval import Gate
from synthdistill.stages.run import Job


@pytest.fixture
def bench(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch)
    bench.said["student"] = lambda i: f"reply {i}"
    bench.run()
    return bench


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def fill(path, rate, into=None, **dialect):
    """Rate every answer by what it says."""
    rows = table(path)
    for row in rows:
        for column in [name for name in row if name.startswith("answer_")]:
            row[column.replace("answer", "rating")] = rate(row[column])
    into = into or path
    with into.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), **dialect)
        writer.writeheader()
        writer.writerows(rows)
    return into


def strict(answer):
    return "5" if answer.startswith("answer") else "3"


def test_a_table_is_blind_and_its_key_lies_elsewhere(bench):
    path = review.write(bench.place, 10)
    rows, text = table(path), path.read_text("utf-8-sig")
    key = json.loads((bench.place.stage("eval") / "review-key.json").read_text())
    firsts = {row["answer_a"].split()[0] for row in rows}

    assert path == bench.place.stage("eval") / "review.csv"
    assert list(rows[0]) == ["id", "prompt", "answer_a", "rating_a", "answer_b", "rating_b"]
    assert (len(rows), {row["rating_a"] + row["rating_b"] for row in rows}) == (10, {""})
    assert [word for word in ("teacher", "student", "base") if word in text] == []
    assert firsts == {"answer", "reply"}, "systems are shuffled"
    assert {name for row in key.values() for name in row["systems"]} == {"teacher", "student"}


def test_which_prompts_are_drawn_and_in_which_order_follows_from_hashes(bench, tmp_path):
    few, again, more = (table(review.write(bench.place, n, to=tmp_path / f"{n}-{k}.csv")) for k, n in enumerate((5, 5, 20)))

    assert few == again == more[:5]
    assert len({row["prompt"] for row in more}) == 20
    assert [row["id"] for row in more] != sorted(row["id"] for row in more)


def test_ratings_become_the_metric_human_with_a_paired_interval_and_nobody_is_asked(bench):
    asked = len(bench.history)
    path = fill(review.write(bench.place, 30), strict)
    manifest = review.read(bench.place, path, slices=["kind"])
    found = bench.comparison("human")

    assert (found["teacher"], found["student"], found["base"], found["gap"]) == (1.0, 0.5, None, -0.5)
    assert (found["n"], found["unscored"]) == (30, 0)
    assert found["interval"]["low"] <= -0.5 <= found["interval"]["high"]
    assert {row["slice"] for row in bench.report["comparisons"] if row["metric"] == "human"} == {"all", "kind=even", "kind=odd"}
    assert bench.report["human"] == {"rows": 30, "rated": 30, "unscored": 0, "scale": [1, 5]}
    assert len(bench.history) == asked
    listed = {output.file: output.sha256 for output in load(bench.place.stage("eval")).outputs}
    assert manifest.outputs == load(bench.place.stage("eval")).outputs
    assert all(listed[name] == file_hash(bench.place.stage("eval") / name) for name in ("report.json", "reviewed.csv"))


def test_rows_that_are_not_rated_as_a_whole_are_unscored_and_counted(bench):
    path = review.write(bench.place, 30)
    rows = table(path)
    for number, row in enumerate(rows):
        row["rating_a"] = "" if number < 7 else "4"
        row["rating_b"] = "" if number < 5 else "2"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    review.read(bench.place, path, slices=[])

    assert (bench.comparison("human")["n"], bench.comparison("human")["unscored"]) == (23, 7)
    assert bench.report["human"]["unscored"] == 7


def test_another_table_takes_the_place_of_the_ratings_that_were_there(bench):
    path = review.write(bench.place, 10)
    before = bench.report["comparisons"]
    review.read(bench.place, fill(path, strict), slices=[])
    review.read(bench.place, fill(path, lambda answer: "1" if answer.startswith("answer") else "2"), slices=[])

    assert [row["student"] for row in bench.report["comparisons"] if row["metric"] == "human"] == [0.25]
    assert [row for row in bench.report["comparisons"] if row["metric"] != "human"] == before


def test_a_changed_gate_keeps_the_ratings_and_a_changed_metric_is_still_refused(bench):
    review.read(bench.place, fill(review.write(bench.place, 10), strict), slices=[])
    bench.run(Gate(retention=0.1))

    assert bench.comparison("human")["n"] == 10
    with pytest.raises(ChangedError):
        bench.run(metrics=["token_f1"])


def test_an_answer_that_is_not_there_is_shown_as_such_and_wrong_however_it_is_rated(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch, count=6)
    bench.said["student"] = lambda i: None if i % 2 else f"cut {i}..."
    bench.run()
    path = review.write(bench.place, 6)

    assert sum(review.MISSING in row.values() for row in table(path)) == 6
    review.read(bench.place, fill(path, lambda answer: "5"), slices=[])
    assert bench.comparison("human")["student"] == 0.0


def test_further_systems_are_rated_too_and_the_base_is_not(tmp_path, monkeypatch):
    bench = Bench(tmp_path, monkeypatch, count=12)
    bench.said |= {"small": lambda i: f"small {i}", "student": lambda i: f"reply {i}"}
    bench.run(systems={"small": TransformersModel(kind="transformers", model=str(model(tmp_path / "small")))})
    path = review.write(bench.place, 12)
    review.read(bench.place, fill(path, lambda answer: {"answer": "5", "reply": "4", "small": "2"}[answer.split()[0]]), slices=[])

    assert bench.comparison("human") | {"interval": None} == {
        "metric": "human",
        "slice": "all",
        "student": 0.75,
        "teacher": 1.0,
        "base": None,
        "current": None,
        "gap": -0.25,
        "interval": None,
        "n": 12,
        "unscored": 0,
        "others": {"small": 0.25},
        "p": 0.0004883,  # 12 of 12 for the teacher: 2 / 2 ** 12
        "p_adjusted": 0.0004883,
    }


@pytest.mark.parametrize("dialect", [{"delimiter": ";"}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}])
def test_a_table_is_read_however_a_spreadsheet_saved_it(bench, dialect):
    path = review.write(bench.place, 10)
    review.read(bench.place, fill(path, lambda answer: "4,5" if answer.startswith("answer") else " 1.0 ", **dialect), slices=[])

    assert (bench.comparison("human")["teacher"], bench.comparison("human")["student"]) == (0.875, 0.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[2].update(rating_b="good"), "row 4 column rating_b: 'good' is no rating. Write a number from 1 to 5"),
        (lambda rows: rows[0].update(rating_a="6"), "row 2 column rating_a: '6' is no rating"),
        (lambda rows: rows[0].update(rating_a="nan"), "row 2 column rating_a: 'nan' is no rating"),
        (lambda rows: rows[1].update(id="p12"), "row 3 column id: 'p12' is no row that --review wrote"),
        (lambda rows: rows[1].update(id=rows[0]["id"]), "row 3 column id: p[0-9a-f]+ is there twice"),
        (lambda rows: [row.pop("rating_b") for row in rows], "has no column rating_b"),
        (lambda rows: [row.pop("id") for row in rows], "has no column id"),
        (lambda rows: [row.update(rating_a="", rating_b="") for row in rows], "holds no rating"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_refused_by_row_and_column(bench, tmp_path, change, expected):
    rows = table(fill(review.write(bench.place, 5), strict))
    change(rows)
    path = tmp_path / "filled.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    before = bench.report

    with pytest.raises(RecipeError, match=expected):
        review.read(bench.place, path, slices=[])
    assert bench.report == before


def test_a_table_that_somebody_began_to_fill_in_is_not_written_over(bench):
    path = review.write(bench.place, 5)
    review.write(bench.place, 6)
    fill(path, strict)

    with pytest.raises(RecipeError, match="is no empty table"):
        review.write(bench.place, 7)
    assert len(table(path)) == 6


def test_without_an_evaluation_or_a_table_there_is_nothing_to_rate(tmp_path, monkeypatch, bench):
    path = fill(review.write(bench.place, 5), strict)
    other = Bench(tmp_path, monkeypatch, name="other").prepare()
    with pytest.raises(UnfinishedError):
        review.write(other.place, 5)
    other.run()

    with pytest.raises(RecipeError, match="no table was written for the run other"):
        review.read(other.place, path, slices=[])


@pytest.mark.parametrize("options", [["--reviewed", "x.csv", "--review", "5"], ["--reviewed", "x.csv", "--dry-run"], ["--to", "x.csv"]])
def test_options_that_do_not_go_together_are_refused(options):
    with pytest.raises(RecipeError):
        cli.app(["eval", "recipe.toml", *options], standalone_mode=False)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_line_tells_what_people_think_and_writes_the_page(bench, tmp_path, as_json, capsys):
    bench.place.save_place()
    (bench.place.folder / "recipe.resolved.toml").write_text(RECIPE)
    job = Job(SimpleNamespace(prompts=SimpleNamespace(slices=["kind"])), bench.place, Silent())
    path = run.review(job, 10, tmp_path / "table.csv")
    verbs.take_ratings(job, fill(path, strict), as_json)
    told = capsys.readouterr().out

    assert (bench.place.stage("eval") / "report.html").is_file()
    if as_json:
        assert [row["slice"] for row in json.loads(told)["human"]] == ["all", "kind=even", "kind=odd"]
    else:
        assert "50.0%" in told
        assert "unscored: 0 of 10" in told


# spreadsheets


@settings(deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=3, max_size=3)))
def test_what_is_written_is_read_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(spreadsheet.written(["a", "b", "c"], rows))

    assert [list(row.values()) for row in spreadsheet.read(path)[1]] == rows


@settings(deadline=None)
@given(st.text(), st.sampled_from("=+-@\uff1d\uff0b\uff0d\uff20"), st.sampled_from(["", " ", "\t", "\n", "\r "]))
def test_no_cell_begins_as_a_formula(text, first, space):
    cell = spreadsheet.neutral(f"{space}{first}{text}")

    assert cell == f"'{space}{first}{text}"
    assert spreadsheet.restored(cell) == f"{space}{first}{text}"


def test_a_hostile_answer_stays_in_its_cell(tmp_path, monkeypatch):
    hostile = ['=cmd|" /C calc"!A0', '"a","b"\n=1+1', "x" * 200_000, "nul\0l", "\u202eright to left", "'=1"]
    bench = Bench(tmp_path, monkeypatch, count=6)
    bench.said["student"] = lambda i: hostile[i]
    bench.run()
    path = review.write(bench.place, 6)
    _, rows = spreadsheet.read(path)
    shown = {row[f"answer_{letter}"] for row in rows for letter in "ab"}

    assert {text.replace("\0", "\ufffd") for text in hostile} < shown
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for row in read_plainly(path) for cell in row)


def read_plainly(path):
    """The cells as a spreadsheet sees them."""
    csv.field_size_limit(1 << 20)
    return list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
