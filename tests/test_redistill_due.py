"""What makes a new run due, on small models."""

from datetime import UTC, datetime, timedelta

import pytest
from project import jsonl, synthdistill, texts
from redistilling import Rehearsal
from servers import serve

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_first_call_makes_a_run_and_puts_it_in_use(tmp_path, student):
    desk = Rehearsal(tmp_path, student)

    outcome = desk.call()

    assert (outcome.event, outcome.run, outcome.why) == ("promoted", desk.current, "no student is in use yet")
    assert desk.current.startswith("2026-11-25-")
    assert desk.call().event == "not_due"
    assert desk.names() == [desk.current]


def test_a_run_that_a_person_promoted_is_what_new_prompts_are_new_to(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5}})
    assert synthdistill("run", desk.recipe).returncode == 0
    assert synthdistill("promote", desk.recipe).returncode == 0

    assert desk.call().text == "nothing is due: new prompts 0 of 5"
    desk.rows(44)
    assert desk.call().text == "nothing is due: new prompts 4 of 5"
    desk.rows(45)
    assert desk.call().event == "promoted"
    assert desk.registry.before() == "main"
    for _ in range(3):
        desk.call("redistill.keep=1", by_hand=True)
    assert "main" in desk.names()


def test_new_prompts_make_a_run_due_and_only_they_are_asked_for(tmp_path, student):
    with serve() as server:
        desk = Rehearsal(
            tmp_path,
            student,
            teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url},
            redistill={"when": {"new_prompts": 6}},
        )
        desk.call()
        first = server.asked.copy()
        desk.rows(45)
        assert desk.call().event == "not_due"
        desk.rows(46)
        outcome = desk.call()

    assert outcome.why == "6 new prompts"
    assert max(server.asked.values()) == 1
    assert sorted((server.asked - first).keys()) == [f"Where is parcel number {number}?" for number in range(40, 46)]
    assert desk.manifest("generate")["counts"]["more"]["taken_over"] == 40


def test_what_a_person_put_in_use_is_what_new_prompts_are_new_to_from_then_on(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 5}})
    desk.now = datetime.now(UTC) - timedelta(days=1)
    desk.call()
    desk.rows(50)
    assert synthdistill("run", desk.recipe).returncode == 0
    assert synthdistill("promote", desk.recipe).returncode == 0

    assert desk.call().text == "nothing is due: new prompts 0 of 5"


def test_rows_that_say_the_same_are_not_new(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 1}})
    desk.call()
    jsonl(tmp_path / "rows.jsonl", [*texts(40), {"id": "again", "text": "  WHERE is parcel   number 3? "}])

    assert desk.call().event == "not_due"


def test_days_make_a_run_due_and_a_clock_that_moves_makes_none_twice(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"days": 7}})
    desk.call()
    desk.later(days=6.9)
    assert desk.call().event == "not_due"
    desk.later(days=0.2)
    assert desk.call().event == "promoted"
    made = desk.names()

    for jump in (-30, 29, -300, 301, 6):
        desk.later(days=jump)
        assert desk.call().event == "not_due"
    assert desk.names() == made
    desk.later(days=1.1)
    assert desk.call().event == "promoted"


def test_a_clock_that_was_not_set_decides_and_notes_nothing(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"days": 7}})
    desk.call()
    before, now = desk.state(), desk.now

    desk.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert desk.call().text.startswith("the clock says 1970-01-01")
    assert desk.state() == before
    desk.now = now
    assert desk.call().event == "not_due"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda desk: ["train.epochs=2"], "train.epochs: 1.0 -> 2.0"),
        (lambda desk: (desk.folder / "prompt.md").write_text("Please: {{ text }}") and [], "prompt.md was edited"),
        (lambda desk: jsonl(desk.folder / "answers.jsonl", [{"text": "another"}]) and [], "teacher.revision"),
    ],
)
def test_a_changed_recipe_template_or_teacher_makes_a_run_due(tmp_path, student, change, named):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    settings = change(desk)

    assert desk.plan("redistill.when.changed=false", *settings).text.startswith("nothing is due; [redistill] when has no rule")
    outcome = desk.call(*settings)
    assert outcome.event == "promoted"
    assert named in outcome.why
    assert desk.call(*settings).event == "not_due"


def test_settings_that_decide_nothing_make_no_run_due(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    assert desk.call("gate.retention=0.5", "run.timeout_s=5.0", "redistill.keep=9").event == "not_due"


def test_a_run_by_hand_needs_no_rule(tmp_path, student):
    desk = Rehearsal(tmp_path, student)
    desk.call()

    outcome = desk.call(by_hand=True)

    assert (outcome.event, outcome.why) == ("promoted", "by hand")
    assert len(desk.names()) == 2


def test_a_dry_run_tells_the_rules_and_writes_nothing(tmp_path, student):
    desk = Rehearsal(tmp_path, student, redistill={"when": {"new_prompts": 50, "days": 7}})

    found = desk.plan()

    assert [(rule.name, rule.found, rule.wanted, rule.due) for rule in found.rules] == [
        ("first", "no student is in use", "one is", True),
        ("new prompts", "40", "50", False),
        ("days", "-", "7", False),
        ("recipe", "nothing", "a change", False),
    ]
    assert not desk.runs.exists()
