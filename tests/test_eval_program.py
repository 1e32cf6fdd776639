"""The whole program on a tiny student: what it says of calibration, cascade and gate, and what `try` and `export` make of it."""

import contextlib
import io
import json
import math
import sys

import pytest
from project import project
from tiny import brief, tiny_model

from synthdistill import cli
from synthdistill.evaluation.calibration import log_odds
from synthdistill.manifest import folder_hash
from synthdistill.ops import trial
from synthdistill.ops.export import export
from synthdistill.progress import Silent
from synthdistill.runs import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def program(monkeypatch, *arguments):
    """Its exit code, in this process."""
    monkeypatch.setattr(sys, "argv", ["synthdistill", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    rows = [{"id": str(number), "text": f"Where is parcel {number}?", "channel": "chat" if number % 3 else "mail"} for number in range(300)]
    return project(
        folder,
        rows,
        prompts={"held_out": 0.2, "validation": 0.2, "slices": ["channel"]},
        filter={"near_duplicates": False},
        train={"student": str(brief(tiny_model(folder / "model"))), "epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
        eval={"sampling": {"max_tokens": 6}, "speed": {"prompts": 4, "rounds": 1, "single": 2}, "student_price": {"usd_per_hour": 1.0}},
        teacher={"price": {"input": 1.0, "output": 4.0}, "terms": {"licence": "apache-2.0", "training_allowed": True}},
        gate={"retention": 0.9, "validity": 0.5, "latency_ms": {"p95": 100000.0}, "slices": {"named": {"channel=chat": 0.9}}},
    )


@pytest.fixture(scope="module")
def done(recipe):
    """The run's folder, its exit code, and what it said."""
    out, error = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = program(patch, "run", recipe, "--json", "--quiet")
    assert code in (0, 4), error.getvalue()
    return Run.find(recipe.parent / "runs" / "toy" / "main"), code, json.loads(out.getvalue()), error.getvalue()


def test_each_failed_check_is_a_line_on_stderr_and_the_exit_code_is_4(done):
    _, code, found, error = done
    failed = [check for check in found["gate"]["checks"] if not check["passed"]]
    lines = [line for line in error.splitlines() if line.startswith("gate: ")]

    assert code == 4
    assert [check["name"] for check in failed] == ["retention", "retention channel=chat", "validity"]
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [check["name"] for check in failed]
    assert "at least 0.5 asked for" in lines[-1]


def test_json_has_calibration_cascade_and_cost(done):
    _, _, found, _ = done

    assert found["calibration"]["n"] >= 30 and found["calibration"]["temperature"] > 0
    assert {row["slice"] for row in found["calibration"]["slices"]} == {"channel=chat", "channel=mail", "label=an answer"}
    assert found["cascade"][-1]["share_on_student"] == 1.0
    assert found["cascade_chosen"]["reason"].endswith("all to the teacher")
    assert found["cost"]["break_even"]["spent_usd"] > 0
    assert found["systems"]["student"]["tokens_per_s_single"] > 0
    assert found["validity"]["student"] < 0.5


def test_try_prints_the_confidence_that_eval_has_calibrated(done, monkeypatch, capsys):
    place = done[0]
    calibrated = trial.ask(place, "Where is parcel 7?")["student"]
    temperature = json.loads((place.stage("eval") / "calibration.json").read_text())["temperature"]
    monkeypatch.setattr(trial, "temperature_of", lambda folder: None)
    raw = trial.ask(place, "Where is parcel 7?")["student"]
    odds = float(log_odds(math.log(raw["confidence"])))

    assert (raw["calibrated"], calibrated["calibrated"]) == (False, True)
    assert calibrated["confidence"] == pytest.approx(1 / (1 + math.exp(-odds / temperature)), abs=1e-6)
    program(monkeypatch, "try", place.folder, "Where is parcel 7?")
    assert "confident (not calibrated), " in capsys.readouterr().out


def test_an_export_carries_the_scale_and_is_the_same_model_with_it(done):
    place = done[0]
    scale = place.stage("eval") / "calibration.json"
    found = export(place, progress=Silent()).student
    known = folder_hash(found.folder)

    assert (found.folder / "calibration.json").read_bytes() == scale.read_bytes()
    (found.folder / "calibration.json").unlink()
    assert folder_hash(found.folder) == known
    again = export(place, progress=Silent()).student
    assert again.manifest.up_to_date
    assert (again.folder / "calibration.json").exists()
