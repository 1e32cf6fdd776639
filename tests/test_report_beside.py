"""Two runs side by side: who is compared on what, and what the page says."""

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finished import finished
from hypothesis import given
from hypothesis import strategies as some

from synthdistill import shards
from synthdistill.errors import RecipeError, UnfinishedError
from synthdistill.evaluation.metrics import Given
from synthdistill.evaluation.two_students import Both, compared
from synthdistill.records import Completion, Prompt
from synthdistill.report import beside
from synthdistill.report.pairing import Pair
from synthdistill.runs import Run

Change = Callable[[Completion, Prompt], Completion | None]


pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield finished(tmp_path_factory.mktemp("old"), rows=200)


def prompts_of(run: Run) -> list[Prompt]:
    return sorted(shards.read(run.stage("generate"), "prompts-held_out", Prompt), key=lambda prompt: prompt.id)


def another(old: Run, folder: Path, change: Change, name: str = "new") -> Run:
    """The same run, whose student says something else; None takes an answer away."""
    place = folder / "runs" / "triage" / name
    shutil.copytree(old.folder, place)
    run, by_id = Run.find(place), {prompt.id: prompt for prompt in prompts_of(old)}
    answers = [change(row, by_id[row.prompt_id]) for row in shards.read(run.stage("eval"), "answers-student", Completion)]
    for path in run.stage("eval").glob("answers-student-*"):
        path.unlink()
    shards.write(run.stage("eval"), "answers-student", [row for row in answers if row], shards=2, key="prompt_id")
    return run


def gold(row: Completion, prompt: Prompt) -> Completion:
    return replace(row, text=prompt.reference or "")


def wrong_on_typos(row: Completion, prompt: Prompt) -> Completion:
    return replace(row, text="no idea") if prompt.metadata["hard"] == "typo" else row


def text_of(path: Path) -> str:
    page = re.sub(r"<(style|script|title|desc)\b.*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


# --- who is compared


def test_only_prompts_that_both_answered_are_compared_and_the_others_are_counted(old: Run, tmp_path: Path):
    gone = {prompt.id for prompt in prompts_of(old)[:7]}
    new = another(old, tmp_path, lambda row, prompt: None if prompt.id in gone else row)
    pair = Pair.of(new, old)

    assert (len(pair.rows), pair.only_this, pair.only_that) == (193, 0, 7)
    assert "7 prompts that only triage/main answered, and 0 that only triage/new did, are in none of the differences" in text_of(
        beside.write(pair)
    )


def test_a_prompt_with_another_template_is_known_by_its_words(old: Run, tmp_path: Path):
    new = another(old, tmp_path, gold)
    folder = new.stage("generate")
    again = {prompt.id: replace(prompt, id=prompt.id[::-1], text=f" {prompt.text.upper()}") for prompt in prompts_of(old)}
    told = [replace(row, prompt_id=again[row.prompt_id].id) for row in shards.read(new.stage("eval"), "answers-student", Completion)]
    for path in (*folder.glob("prompts-held_out-*"), *new.stage("eval").glob("answers-student-*")):
        path.unlink()
    shards.write(folder, "prompts-held_out", again.values(), shards=2)
    shards.write(new.stage("eval"), "answers-student", told, shards=2, key="prompt_id")
    words = [prompt.text for prompt in prompts_of(old)]
    alone = sum(words.count(each) == 1 for each in words)
    pair = Pair.of(new, old)

    assert len(pair.rows) == alone > 100
    assert all(row.this.prompt_id != row.that.prompt_id for row in pair.rows)


def test_runs_without_a_common_prompt_are_refused(old: Run, tmp_path: Path):
    strange = finished(tmp_path, rows=1, first={"prompt": "nobody else asks this"})

    with pytest.raises(RecipeError, match=r"no held-out prompt was answered by both students \(1 and 200 by one of them\)"):
        Pair.of(strange, old)


def test_runs_with_the_same_names_are_told_apart(old: Run, tmp_path: Path):
    pair = Pair.of(another(old, tmp_path, gold, "main"), old)

    assert (pair.this.label, pair.that.label) == ("triage/main (new)", "triage/main (old)")


def test_a_run_beside_itself_is_refused(old: Run):
    with pytest.raises(RecipeError, match="beside itself"):
        Pair.of(old, old)


def test_a_run_that_is_not_evaluated_is_refused(old: Run, tmp_path: Path):
    new = another(old, tmp_path, gold)
    (new.stage("eval") / "manifest.json").unlink()

    with pytest.raises(UnfinishedError):
        Pair.of(new, old)


def test_runs_of_other_recipes_carry_their_recipe_in_their_names(old: Run, tmp_path: Path):
    pair = Pair.of(another(old, tmp_path, gold), old)

    assert (pair.this.label, pair.that.label) == ("triage/new", "triage/main")
    assert beside.write(pair).name == "report-beside-triage-main.html"


def test_runs_of_one_recipe_are_called_by_their_own_names(old: Run):
    new = another(old, old.folder.parent.parent.parent, gold, "newer")
    pair = Pair.of(new, old)

    assert beside.write(pair) == new.stage("eval") / "report-beside-main.html"


# --- the differences


def prompt(number: int, group: str | None = None) -> Prompt:
    return Prompt(f"{number:032x}", [str(number)], [], f"words {number}", "held_out", reference="right", group=group)


def test_the_difference_is_paired_with_an_interval_and_n():
    rows = [Both(prompt(n), "right" if n < 90 else "wrong", "right" if n < 80 else "wrong", "right", ["a=1"]) for n in range(100)]
    found = {(row.metric, row.slice): row for row in compared(rows, ["exact_match"], Given())}[("exact_match", "all")]

    assert (found.student, found.teacher, found.gap, found.n) == (0.9, 0.8, 0.1, 100)
    assert found.interval is not None
    assert 0.03 < found.interval.low < 0.1 < found.interval.high < 0.18


@given(some.lists(some.tuples(some.booleans(), some.booleans()), min_size=2, max_size=60))
def test_the_difference_turns_round_with_the_runs(hits: list[tuple[bool, bool]]):
    said = {True: "right", False: "wrong"}
    there = compared([Both(prompt(n), said[a], said[b], "right") for n, (a, b) in enumerate(hits)], ["exact_match"], Given())[0]
    back = compared([Both(prompt(n), said[b], said[a], "right") for n, (a, b) in enumerate(hits)], ["exact_match"], Given())[0]

    assert there.gap == pytest.approx(-(back.gap or 0.0))
    assert there.gap == pytest.approx(sum(a - b for a, b in hits) / len(hits), abs=1e-6)


def test_an_answer_that_was_cut_is_wrong_not_left_out(old: Run, tmp_path: Path):
    found = beside.beside(Pair.of(another(old, tmp_path, lambda row, prompt: replace(gold(row, prompt), finish="length")), old))
    whole = next(row for row in found.comparisons if row.metric == "json_fields" and row.slice == "all")

    assert (whole.student, whole.n) == (0.0, 200)


def test_the_verdict_says_which_is_better(old: Run, tmp_path: Path):
    better = beside.beside(Pair.of(another(old, tmp_path / "a", gold), old)).said
    same = beside.beside(Pair.of(another(old, tmp_path / "b", lambda row, prompt: row), old)).said

    assert re.fullmatch(
        r"On the 200 held-out prompts that both students answered, triage/new is [\d.]+ points above triage/main by json_fields "
        r"\(95% \+[\d.]+ to \+[\d.]+, n = 200\): it is better\.",
        better,
    )
    assert same.endswith(": which is the better one cannot be said.")


def test_slices_that_moved_are_named_and_others_are_not(old: Run, tmp_path: Path):
    pair = Pair.of(another(old, tmp_path, wrong_on_typos), old)
    found = beside.beside(pair)

    assert found.moved[0].slice == "hard=typo"
    assert "hard=none" not in [row.slice for row in found.moved]
    assert re.search(r"moved for sure .*: hard=typo \u2212\d\d\.\d \(n = \d+\)", text_of(beside.write(pair)))


def test_examples_that_changed_are_there_with_both_answers_and_broken_ones_first(old: Run, tmp_path: Path):
    pair = Pair.of(another(old, tmp_path, wrong_on_typos), old)
    page = beside.write(pair).read_text(encoding="utf-8")
    rows = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["rows"]  # type: ignore[index]

    typos = sum(each.metadata["hard"] == "typo" for each in prompts_of(old))
    assert len(rows) == typos > 10
    assert rows[0]["is"] == ["broken"]
    assert rows[0]["who"] == ["gold", "teacher", "run triage/main", "run triage/new"]
    assert {tuple(row["is"]) for row in rows} <= {("broken",), ("changed",)}
    assert f"{200 - typos} of 200 say the same." in text_of(beside.write(pair))


def test_the_same_runs_give_the_same_bytes(old: Run, tmp_path: Path):
    pair = Pair.of(another(old, tmp_path, gold), old)
    first = beside.write(pair).read_bytes()

    assert beside.write(Pair.of(pair.this.place, old)).read_bytes() == first


def test_without_gold_the_teacher_says_what_is_right():
    rows = [Both(replace(prompt(n), reference=None), "same", "other", "same") for n in range(5)]

    assert [row.gap for row in compared(rows, ["exact_match", "agreement"], Given())] == [None, 1.0]
