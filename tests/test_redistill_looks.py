"""What `redistill` makes of production logs: new prompts, drift, and the student's agreement with its teacher."""

import gzip
import json
import random

import pytest
from project import jsonl
from redistilling import Rehearsal
from servers import serve

from synthdistill.redistill.agreement import at_most

pytestmark = pytest.mark.usefixtures("one_thread")

PLACES = ["hall", "kitchen", "garden", "cellar", "attic", "garage", "office", "porch", "bath", "stairs", "nursery", "study"]
THINGS = ["lamp", "heater", "radio", "camera", "blind", "fan", "door", "oven", "speaker", "sprinkler", "alarm", "curtain"]
WHEN = ["now", "tonight", "at noon", "in the morning", "when I leave", "after dinner", "before bed", "on Sunday", "for an hour"]
DISHES = ["soup", "risotto", "pancakes", "salad", "stew", "curry", "dumplings", "gratin", "omelette", "casserole"]
LEFT = ["rice", "potatoes", "lentils", "beans", "pasta", "cabbage", "carrots", "bread", "chickpeas", "spinach"]


def known(count: int, seed: int) -> list[str]:
    """Requests of the usual kind, all different."""
    draw = random.Random(seed)
    ways = ("switch the {} in the {} on {}", "turn off the {} of the {} {}", "is the {} in the {} still on {}", "dim the {} near the {} {}")
    return _drawn(draw, ways, (THINGS, PLACES, WHEN), count)


def new(count: int) -> list[str]:
    """Requests of another kind."""
    ways = ("suggest a recipe for {} with leftover {} {}", "how do I cook a {} from {} {}", "which spice goes into {} with {} {}")
    return _drawn(random.Random(9), ways, (DISHES, LEFT, WHEN), count)


def _drawn(draw: random.Random, ways: tuple[str, ...], words: tuple[list[str], ...], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw.choice(ways).format(*(draw.choice(each) for each in words))] = None
    return list(found)


def numbered(count: int, seed: int) -> list[str]:
    """Usual requests that no other seed has."""
    return [f"{text}, number {seed}-{place}" for place, text in enumerate(known(count, seed))]


def log(desk: Rehearsal, name: str, texts: list[str], answer: str | None = None) -> None:
    """A day's log of the server that serves the student."""
    choices = [] if answer is None else [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
    rows = [
        {"request": {"model": "student", "messages": [{"role": "user", "content": text}]}}
        | ({"response": {"model": "student", "choices": choices}} if answer else {})
        for text in texts
    ]
    folder = desk.folder / "logs"
    folder.mkdir(exist_ok=True)
    jsonl(folder / name, rows)


def prepared(folder, student, *, teacher=None, prompts=None, generate=None, **redistill) -> Rehearsal:
    """A project whose rows are 300 usual requests, with a student in use."""
    tables = {"teacher": teacher or {}, "prompts": prompts or {}, "generate": generate or {}, "redistill": {"logs": "logs", **redistill}}
    desk = Rehearsal(folder, student, **tables)
    jsonl(folder / "rows.jsonl", [{"text": text} for text in known(300, 1)])
    (folder / "logs").mkdir()
    desk.call()
    return desk


def test_new_prompts_of_the_logs_make_a_run_due_and_are_trained_on(tmp_path, student):
    desk = prepared(tmp_path, student, when={"new_prompts": 20})
    log(desk, "a.jsonl", [*known(300, 1)[:50], *numbered(15, 2)])
    assert desk.call().text == "nothing is due: new prompts 15 of 20"
    (desk.folder / "logs" / "b.jsonl.gz").write_bytes(
        gzip.compress(b"".join(json.dumps({"messages": [{"role": "user", "content": text}]}).encode() + b"\n" for text in numbered(5, 3)))
    )

    outcome = desk.call()

    assert (outcome.event, outcome.why) == ("promoted", "20 new prompts")
    assert desk.manifest("generate")["counts"]["read"] == 320
    assert desk.call().text == "nothing is due: new prompts 0 of 20"


def test_personal_data_of_the_logs_is_nowhere_on_disk(tmp_path, student):
    desk = prepared(tmp_path, student, when={"new_prompts": 1})
    log(desk, "a.jsonl", ["write to ada.lovelace@example.com about the lamp"])

    assert desk.call().event == "promoted"

    files = [path for path in desk.runs.rglob("*") if path.is_file()]
    assert [path for path in files if b"ada.lovelace" in path.read_bytes()] == []
    assert any(b"write to <EMAIL> about the lamp" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("template", "rows", "read"),
    [
        ("Please answer: {{ text }}", {}, 320),
        ("{{ text }} ({{ place }})", {"place": "home"}, 300),
    ],
)
def test_an_edited_template_takes_logged_rows_along_where_it_can(tmp_path, student, template, rows, read):
    desk = prepared(tmp_path, student, when={"new_prompts": 20})
    log(desk, "a.jsonl", numbered(20, 2))
    assert desk.call().event == "promoted"
    (tmp_path / "prompt.md").write_text(template)
    jsonl(tmp_path / "rows.jsonl", [{"text": text} | rows for text in known(300, 1)])

    outcome = desk.call()

    assert (outcome.event, desk.manifest("generate")["counts"]["read"]) == ("promoted", read)
    assert any("20 of 20 logged rows" in line for line in desk.notes.lines) == (read == 300)
    assert desk.call().event == "not_due"


def test_requests_that_fit_no_template_are_told_of(tmp_path, student):
    desk = prepared(tmp_path, student, prompts={"template": "prompt.md"}, when={"new_prompts": 20})
    (tmp_path / "prompt.md").write_text("Please answer: {{ text }}")
    log(desk, "a.jsonl", numbered(30, 2))

    desk.call()

    assert any("requests that are no prompts of this recipe were passed over: 30 not_of_template" in line for line in desk.notes.lines)


def test_the_newest_logged_prompts_stay_where_there_are_more_than_a_run_may_have(tmp_path, student):
    desk = prepared(tmp_path, student, when={"new_prompts": 10}, total=25)
    for day in range(4):
        log(desk, f"{day}.jsonl", numbered(10, 10 + day))
        assert desk.call().event == "promoted"

    assert desk.manifest("generate")["counts"]["read"] == 320
    assert len(list((desk.runs / ".redistill" / "logged").glob("*.jsonl"))) == 2


def test_slices_that_the_logs_lack_are_no_drift(tmp_path, student):
    desk = Rehearsal(tmp_path, student, prompts={"slices": ["channel"]}, redistill={"logs": "logs", "when": {"drift": {}}})
    jsonl(tmp_path / "rows.jsonl", [{"text": text, "channel": ("mail", "web")[n % 2]} for n, text in enumerate(known(300, 1))])
    (tmp_path / "logs").mkdir()
    desk.call()
    log(desk, "a.jsonl", known(200, 2))

    assert desk.call().event == "not_due"
    assert desk.state()["look"]["drift"]["n_window"] > 100


def test_a_prompt_of_both_source_and_logs_counts_once(tmp_path, student):
    desk = prepared(tmp_path, student, when={"new_prompts": 20})
    log(desk, "a.jsonl", numbered(10, 2))
    jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in [*known(300, 1), *numbered(10, 2)]])
    assert desk.call().text == "nothing is due: new prompts 10 of 20"
    log(desk, "b.jsonl", numbered(12, 2))

    assert desk.call().text == "nothing is due: new prompts 12 of 20"


def test_a_look_asks_for_no_answer_that_a_run_holds(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        alike = {"sampling": {"max_tokens": 4}}
        desk = prepared(tmp_path, student, teacher=teacher, generate=alike, when={"agreement": {"min": 0.0001, "sample": 100}})
        log(desk, "a.jsonl", known(300, 1)[:150])
        before = server.requests
        desk.call()

    assert desk.state()["look"]["agreement"]["n"] == 100
    assert server.requests == before


def test_a_new_kind_of_request_makes_a_run_due_and_is_named(tmp_path, student):
    desk = prepared(tmp_path, student, when={"drift": {"p": 0.01, "share": 0.02}})
    log(desk, "a.jsonl", [*known(200, 2), *new(60)])

    outcome = desk.call()

    assert outcome.event == "promoted"
    assert outcome.why.startswith("drift: p ")
    words = {word["word"] for word in desk.state()["look"]["drift"]["words"]}
    assert words & {"recipe", "suggest", "leftover", "cook", "spice"}
    desk.later(hours=25)
    assert desk.call().event == "not_due"


def test_usual_requests_raise_no_alarm_and_are_looked_at_once_a_day(tmp_path, student):
    desk = prepared(tmp_path, student, when={"drift": {"p": 0.01, "share": 0.02}})
    log(desk, "a.jsonl", known(200, 2))
    assert desk.call().event == "not_due"
    assert desk.state()["look"]["number"] == 1

    log(desk, "b.jsonl", known(200, 3))
    desk.later(hours=23)
    assert desk.call().event == "not_due"
    assert desk.state()["look"]["number"] == 1
    desk.later(hours=1)
    assert desk.call().event == "not_due"
    assert desk.state()["look"]["number"] == 2
    desk.later(hours=30)
    assert desk.call().event == "not_due"
    assert desk.state()["look"]["number"] == 2


def test_an_alarm_survives_a_kill_after_the_look(tmp_path, student, monkeypatch):
    """The window is let go after the finding is kept, so that the alarm is there at the next call."""
    from synthdistill.redistill.intake import Intake

    desk = prepared(tmp_path, student, when={"drift": {"p": 0.01, "share": 0.02}})
    log(desk, "a.jsonl", [*known(200, 2), *new(60)])

    class Killed(BaseException):
        pass

    def killed(self):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Intake, "looked", killed)
        desk.call()

    assert desk.plan().text.startswith("due: drift: p ")
    assert desk.call().event == "promoted"


def test_a_student_that_agrees_too_little_makes_a_run_due_and_the_answers_are_used(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        desk = prepared(tmp_path, student, teacher=teacher, when={"agreement": {"min": 0.5, "sample": 100}})
        before = server.asked.copy()
        log(desk, "a.jsonl", numbered(150, 2))

        outcome = desk.call()

    look = desk.state()["look"]["agreement"]
    assert outcome.event == "promoted"
    assert outcome.why.startswith("agreement with the teacher: 0% of 100, p ")
    assert (look["agree"], look["n"]) == (0, 100)
    assert len(server.asked - before) == 150
    assert max((server.asked - before).values()) <= 2, "once for the look, once with the sampling of [generate]"


def test_requests_that_an_edited_template_cannot_ask_are_left_out_of_a_look(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        desk = prepared(tmp_path, student, teacher=teacher, when={"agreement": {"min": 0.0001, "sample": 100}, "changed": False})
        log(desk, "a.jsonl", known(60, 2))
        assert desk.call().event == "not_due"
        (tmp_path / "prompt.md").write_text("{{ text }} ({{ place }})")
        jsonl(tmp_path / "rows.jsonl", [{"text": text, "place": "home"} for text in known(300, 1)])
        fits = [{"request": {"messages": [{"role": "user", "content": f"{text} (home)"}]}} for text in known(150, 3)]
        jsonl(tmp_path / "logs" / "b.jsonl", fits)

        assert desk.call().event == "not_due"

    look = desk.state()["look"]["agreement"]
    assert 0 < look["n"] == look["asked"] < 100
    assert any("recent requests are no prompts of the recipe of now" in line for line in desk.notes.lines)


def test_a_look_keeps_to_its_budget(tmp_path, student):
    with serve() as server:
        teacher = {"kind": "api", "model": "m", "answers": None, "base_url": server.url}
        rule = {"min": 0.5, "sample": 100, "budget": {"tokens": 600}}
        desk = prepared(tmp_path, student, teacher=teacher, when={"agreement": rule})
        before = server.requests
        log(desk, "a.jsonl", known(150, 2))
        desk.call("redistill.when.agreement.min=0.0001")

    assert 0 < server.requests - before < 60
    assert desk.state()["look"]["agreement"]["asked"] == 100


@pytest.mark.parametrize(("hits", "n", "share"), [(0, 10, 0.5), (3, 20, 0.9), (95, 100, 0.9), (10, 10, 0.3), (700, 1000, 0.75)])
def test_the_chance_of_so_few_agreements_is_the_binomials(hits, n, share):
    from scipy.stats import binom

    assert at_most(hits, n, share) == pytest.approx(binom.cdf(hits, n, share), rel=1e-9)


def test_a_bound_of_one_is_broken_by_one_disagreement():
    assert (at_most(10, 10, 1.0), at_most(9, 10, 1.0)) == (1.0, 0.0)
