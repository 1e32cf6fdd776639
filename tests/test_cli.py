import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from counting import CountingServer
from project import command, environment, jsonl, project, synthdistill, texts

COMMANDS = [
    *("init", "generate", "filter", "train", "eval", "run", "demo"),
    *("redistill", "schedule", "promote", "rollback", "runs"),
    *("report", "show", "try", "doctor"),
]


def run_folder(recipe: Path, run: str = "main") -> Path:
    return recipe.parent / "runs" / "toy" / run


def api(server: CountingServer, **more) -> dict:
    return {"kind": "api", "model": "m", "answers": None, "base_url": server.url} | more


@pytest.fixture
def generated(tmp_path):
    recipe = project(tmp_path)
    done = synthdistill("generate", recipe)
    assert done.returncode == 0, done.stderr
    return recipe


def test_help_names_every_command_and_nothing_that_is_not_there():
    done = synthdistill("--help", env={"COLUMNS": "200"})

    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ") and not line.startswith("│ -")]
    assert [name for name in found if name in COMMANDS] == COMMANDS
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_imports_nothing_heavy(name):
    heavy = ("torch", "transformers", "trl", "vllm", "datasets", "openai", "ray", "pydantic", "pyarrow", "aiohttp", "numpy")
    arguments = [name, "--help"] if name else ["--help"]
    program = f"""
import sys
from synthdistill.cli import main
sys.argv = ["synthdistill", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
assert not set({heavy!r}) & set(sys.modules), set({heavy!r}) & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_stage_says_what_came_of_it_on_stdout(tmp_path):
    done = synthdistill("generate", project(tmp_path))

    assert done.stdout.startswith("generate  40 of 40")
    assert len(done.stdout.splitlines()) == 1


def test_a_second_start_is_up_to_date(generated):
    done = synthdistill("generate", generated)

    assert (done.returncode, done.stdout) == (0, "generate  up to date\n")


def test_json_is_one_object_on_stdout(tmp_path):
    done = synthdistill("generate", project(tmp_path), "--json")
    found = json.loads(done.stdout)

    assert done.stdout.count("\n") == 1
    assert found["run"] == str(tmp_path / "runs" / "toy" / "main")
    assert found["stages"]["generate"]["counts"]["written"] == 40


@pytest.mark.parametrize(
    "arguments", [["doctor"], ["show", "recipe.toml", "generate"], ["generate", "recipe.toml", "--dry-run"], ["init", "new"]]
)
def test_every_command_with_json_prints_one_object(generated, arguments):
    done = synthdistill(*arguments, "--json", cwd=generated.parent)

    assert isinstance(json.loads(done.stdout), dict)
    assert done.stdout.count("\n") == 1


def test_an_error_with_json_leaves_stdout_empty(tmp_path):
    done = synthdistill("generate", tmp_path / "gone.toml", "--json")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_quiet_says_nothing_on_stderr(tmp_path):
    done = synthdistill("generate", project(tmp_path), "--quiet")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("override", "key"), [("generate.samples=2", "generate.samples: 1 -> 2"), ("prompts.held_out=0.5", "prompts.held_out: 0.2 -> 0.5")]
)
def test_a_changed_what_key_is_refused_and_another_run_is_offered(generated, override, key):
    before = {path: path.read_bytes() for path in run_folder(generated).rglob("*") if path.is_file()}
    done = synthdistill("generate", generated, "--set", override)

    assert done.returncode == 2
    assert key in done.stderr
    assert "--run NEW" in done.stderr
    assert {path: path.read_bytes() for path in run_folder(generated).rglob("*") if path.is_file()} == before


def test_the_run_that_was_offered_takes_the_answers_over(generated):
    done = synthdistill("generate", generated, "--set", "generate.samples=2", "--run", "second", "--json")

    counts = json.loads(done.stdout)["stages"]["generate"]["counts"]
    assert counts["more"]["taken_over"] == 40
    assert counts["written"] > 40


@pytest.mark.parametrize(
    "override", ["run.timeout_s=5", "run.concurrency=3", "gate.retention=0.5", "generate.max_failed=0.5", "teacher.price={ input = 1.0 }"]
)
def test_a_changed_how_key_goes_on(generated, override):
    done = synthdistill("generate", generated, "--set", override)

    assert (done.returncode, done.stdout) == (0, "generate  up to date\n"), done.stderr


def test_a_changed_address_and_key_go_on(tmp_path):
    with CountingServer() as server:
        recipe = project(tmp_path, teacher=api(server))
        assert synthdistill("generate", recipe).returncode == 0
    done = synthdistill("generate", recipe, "--set", "teacher.base_url=http://127.0.0.1:9/v1", "--set", "teacher.api_key_env=NOT_SET")

    assert (done.returncode, done.stdout) == (0, "generate  up to date\n"), done.stderr


def test_a_stage_after_a_changed_one_is_refused(generated):
    done = synthdistill("filter", generated, "--set", "generate.samples=2")

    assert done.returncode == 2
    assert "generate of run main was made with other settings: generate.samples: 1 -> 2" in done.stderr


def test_a_dry_run_writes_nothing_and_asks_nobody(tmp_path):
    with CountingServer() as server:
        recipe = project(tmp_path, teacher=api(server, api_key_env="NOT_SET", price={"input": 1.0, "output": 2.0}))
        done = synthdistill("generate", recipe, "--dry-run", "--json")

    planned = json.loads(done.stdout)["plan"]["generate"]
    assert (planned["requests"], planned["to_ask"], server.asked.total()) == (40, 40, 0)
    assert planned["usd"]["at_most"] > 0
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_everything_says_what_waits_for_what(tmp_path):
    done = synthdistill("run", project(tmp_path), "--dry-run", "--json")

    planned = json.loads(done.stdout)["plan"]
    assert planned["generate"]["to_ask"] == 40
    assert [planned[name]["waits_for"] for name in ("filter", "train", "eval")] == ["generate"] * 3


def test_a_dry_run_says_what_would_be_refused(generated):
    done = synthdistill("generate", generated, "--set", "generate.samples=2", "--dry-run", "--json")

    assert json.loads(done.stdout)["plan"]["generate"] == {"refused": ["generate.samples: 1 -> 2"]}


def test_a_dry_run_knows_what_is_up_to_date(generated):
    done = synthdistill("run", generated, "--dry-run")

    assert "up_to_date: True" in done.stdout


def test_a_dry_run_of_the_demo_writes_nothing(tmp_path):
    done = synthdistill("demo", tmp_path / "demo", "--dry-run", "--json")

    assert json.loads(done.stdout)["plan"]["generate"]["to_ask"] > 1000
    assert not (tmp_path / "demo").exists()


def test_a_limit_is_part_of_what_was_done(tmp_path):
    recipe = project(tmp_path, texts(100))
    limited = synthdistill("generate", recipe, "--limit", "2", "--json")
    again = synthdistill("generate", recipe, "--limit", "2")
    whole = synthdistill("generate", recipe)

    assert json.loads(limited.stdout)["stages"]["generate"]["counts"]["written"] == 6
    assert "up to date" in again.stdout
    assert (whole.returncode, "limit: 2 -> not set" in whole.stderr) == (2, True)


def test_a_set_is_what_is_recorded_in_the_run(tmp_path):
    recipe = project(tmp_path)
    assert synthdistill("generate", recipe, "--set", "generate.samples=2").returncode == 0

    assert (run_folder(recipe) / "recipe.toml").read_bytes() == recipe.read_bytes()
    assert "samples = 2" in (run_folder(recipe) / "recipe.resolved.toml").read_text()


def test_a_recipe_may_be_named_by_its_folder_from_anywhere(tmp_path):
    project(tmp_path / "here")
    done = synthdistill("generate", "here", cwd=tmp_path)

    assert done.returncode == 0
    assert (tmp_path / "here" / "runs" / "toy" / "main" / "generate" / "manifest.json").is_file()


def test_a_second_process_is_told_that_the_run_is_held(tmp_path):
    with CountingServer(latency_s=0.3) as server:
        recipe = project(tmp_path, teacher=api(server), run={"concurrency": 1})
        first = subprocess.Popen(command("generate", recipe), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not server.asked:
            time.sleep(0.01)
        second = synthdistill("generate", recipe)
        first.kill()
        first.wait()

    assert second.returncode == 75
    assert f"process {first.pid} works on" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_an_interrupt_says_that_the_same_command_goes_on(tmp_path):
    with CountingServer(latency_s=0.3) as server:
        recipe = project(tmp_path, teacher=api(server), run={"concurrency": 1})
        process = subprocess.Popen(
            command("generate", recipe),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell lets what it starts in the background ignore it
        )
        while server.asked.total() < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)

    assert process.returncode == 130
    assert said == "stopped; the same command goes on from there\n"


def test_a_reader_that_goes_away_is_no_error_of_ours(generated):
    jsonl(generated.parent / "answers.jsonl", [{"text": "long " * 5000}])
    process = subprocess.Popen(
        command("show", generated, "generate", "--limit", "40"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(1)
    process.stdout.close()
    said = process.stderr.read()
    process.wait()

    assert b"Traceback" not in said


def test_a_key_is_sent_and_stands_nowhere_on_disk_or_screen(tmp_path):
    key = "sk-0123456789-very-secret"
    with CountingServer(fail={"number 3?": 400}) as server:
        recipe = project(tmp_path, teacher=api(server, api_key_env="SYNTHDISTILL_TEST_KEY"), generate={"max_failed": 0.1})
        done = synthdistill("generate", recipe, "--json", env={"SYNTHDISTILL_TEST_KEY": key})

    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()] == []


def test_show_prints_an_answer_as_text_never_as_markup_emoji_or_escape(tmp_path):
    recipe = project(tmp_path, texts(1), prompts={"held_out": 0.0})
    jsonl(tmp_path / "answers.jsonl", [{"text": "[bold]x[/bold] :smile: \x1b[31mred [/nothing]"}])
    assert synthdistill("generate", recipe).returncode == 0
    done = synthdistill("show", recipe, "generate", env={"COLUMNS": "200"})

    assert "[bold]x[/bold] :smile: \ufffd[31mred [/nothing]" in done.stdout
    assert "\x1b" not in done.stdout


def test_show_dropped_gives_reasons_and_the_users_ids(tmp_path):
    recipe = project(tmp_path, [*texts(10), {"id": "empty-one", "text": ""}])
    assert synthdistill("generate", recipe).returncode == 0
    done = synthdistill("show", recipe, "generate", "--dropped", "--json")

    assert [(row["source_ids"], row["reason"]) for row in json.loads(done.stdout)["rows"]] == [(["empty-one"], "empty")]


def test_show_of_an_unknown_stage_names_the_stages(generated):
    done = synthdistill("show", generated, "poems")

    assert (done.returncode, done.stderr) == (2, "error: 'poems' is no stage. Give one of generate, filter, label, train, eval\n")


def test_init_writes_a_recipe_that_runs_and_overwrites_nothing(tmp_path):
    first = synthdistill("init", tmp_path / "new")
    again = synthdistill("init", tmp_path / "new")
    planned = synthdistill("run", tmp_path / "new", "--dry-run")

    assert (first.returncode, planned.returncode) == (0, 0)
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_doctor_looks_at_the_machine_without_importing_what_it_looks_for():
    done = synthdistill("doctor", "--json", env={"HF_TOKEN": "hf_secret"})
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}

    assert {"synthdistill", "python", "torch", "transformers", "trl", "vllm", "gpu", "disk here"} <= found.keys()
    assert found["HF_TOKEN"]["found"] == "set"
    assert "hf_secret" not in done.stdout


def test_the_program_is_installed_under_its_name():
    program = Path(sys.executable).with_name("synthdistill")
    if not program.exists():
        pytest.skip("the package is not installed, only importable")
    done = subprocess.run([program, "--help"], capture_output=True, check=False, env=os.environ)

    assert done.returncode == 0
