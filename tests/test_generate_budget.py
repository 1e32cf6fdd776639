"""What `generate` spends, through the real program and a real server that bills: the hard stop, going on after it, sealing what is there,
a look ahead, signals and kills."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from counting import CountingServer
from project import command, environment, jsonl, project, synthdistill, texts

from synthdistill.budget import spent_before

PRICE = {"input": 1.0, "output": 2.0}
EACH = (7 + 8 * 2) / 1e6
"""Dollars of one answer of the server."""
SHORT = {"max_tokens": 16}


@pytest.fixture
def server():
    with CountingServer(latency_s=0.005) as found:
        yield found


def paid(folder: Path, server: CountingServer, budget=None, rows=100, price=PRICE, **more) -> Path:
    """A project whose teacher is paid for."""
    given = {
        "teacher": {"kind": "api", "model": "m", "answers": None, "base_url": server.url, "price": price},
        "generate": {"sampling": SHORT, "budget": budget},
        "eval": {"sampling": SHORT},
        "run": {"concurrency": 8, "shards": 4},
    }
    return project(folder, texts(rows), **{name: given.get(name, {}) | more.get(name, {}) for name in given | more})


def stage(recipe: Path, name="generate") -> Path:
    return recipe.parent / "runs" / "toy" / "main" / name


def manifest(recipe: Path, name="generate") -> dict:
    return json.loads((stage(recipe, name) / "manifest.json").read_bytes())


def sealed(recipe: Path, stem="completions") -> list[dict]:
    return [json.loads(line) for path in sorted(stage(recipe).glob(f"{stem}-*.jsonl")) for line in path.read_bytes().splitlines()]


def journaled(recipe: Path) -> list[dict]:
    return [json.loads(line) for path in stage(recipe).glob("completions-*.part") for line in path.read_bytes().splitlines()]


def budget(**limit) -> list[str]:
    return ["--set", "generate.budget={ " + ", ".join(f"{name} = {value}" for name, value in limit.items()) + " }"]


def stopped(folder: Path, server: CountingServer, usd=0.001) -> Path:
    """One whose budget is used up."""
    recipe = paid(folder, server, {"usd": usd})
    done = synthdistill("generate", recipe)
    assert done.returncode == 5, done.stderr
    return recipe


# the hard stop


def test_a_budget_that_is_used_up_is_exit_5_and_one_line_that_says_how_to_go_on(tmp_path, server):
    recipe = paid(tmp_path, server, {"usd": 0.001})
    done = synthdistill("generate", recipe)

    assert (done.returncode, done.stdout) == (5, "")
    assert re.fullmatch(
        r"error: the budget is used up: \$0\.0\d{3} of \$0\.0010, \d+ of 100 answers\. Raise \[generate\] budget and start again, "
        rf"or seal what is there: synthdistill generate {re.escape(str(recipe))} --seal\n",
        done.stderr,
    )


def test_a_budget_is_never_passed_and_most_of_it_is_used(tmp_path, server):
    stopped(tmp_path, server)

    assert 0.5 * 0.001 < server.asked.total() * EACH <= 0.001


def test_a_budget_in_tokens_is_a_hard_stop_too(tmp_path, server):
    recipe = paid(tmp_path, server, {"tokens": 700}, price=None)
    done = synthdistill("generate", recipe)

    assert (done.returncode, "of 700 tokens" in done.stderr) == (5, True)
    assert 0 < server.asked.total() * 15 <= 700


def test_the_same_command_stops_again_and_asks_no_more_than_is_left(tmp_path, server):
    recipe = stopped(tmp_path, server)
    for _ in range(3):
        assert synthdistill("generate", recipe).returncode == 5

    assert server.asked.total() * EACH <= 0.001


def test_a_raised_budget_goes_on_and_asks_nothing_twice(tmp_path, server):
    recipe = stopped(tmp_path, server)
    done = synthdistill("generate", recipe, *budget(usd=1.0))

    assert done.returncode == 0, done.stderr
    assert (len(server.asked), server.asked.total(), len(sealed(recipe))) == (100, 100, 100)


def test_a_budget_that_is_only_just_enough_is_enough(tmp_path, server):
    """100 answers take 1,500 tokens. Near the end not all that might be in flight fits, and waits until it does."""
    recipe = paid(tmp_path, server, {"tokens": 1560}, price=None)
    done = synthdistill("generate", recipe)

    assert done.returncode == 0, done.stderr
    assert (len(sealed(recipe)), manifest(recipe)["results"]["spend"]["tokens"]) == (100, 1500)


def test_held_out_prompts_are_asked_first(tmp_path, server):
    recipe = stopped(tmp_path, server, usd=0.0007)

    prompts = {row["id"]: row["split"] for row in sealed(recipe, "prompts")}
    held_out = sum(split == "held_out" for split in prompts.values())
    found = [prompts[row["prompt_id"]] for row in journaled(recipe)]
    assert found.count("held_out") == min(held_out, len(found))
    assert found.count("train") == 0 or found.count("held_out") == held_out


def test_a_run_of_everything_stops_at_the_budget(tmp_path, server):
    recipe = paid(tmp_path, server, {"usd": 0.001})
    done = synthdistill("run", recipe)

    assert done.returncode == 5
    assert not stage(recipe, "filter").exists()


def test_a_budget_too_small_for_one_request_asks_nobody(tmp_path, server):
    done = synthdistill("generate", paid(tmp_path, server, {"tokens": 20}))

    assert (done.returncode, server.asked.total()) == (5, 0)


def test_a_budget_in_dollars_without_a_price_is_one_clear_line_and_asks_nobody(tmp_path, server):
    recipe = paid(tmp_path, server, {"usd": 1.0}, price=None)
    for options in ([], ["--dry-run"], ["--dry-run", "--probe", "5"]):
        done = synthdistill("generate", recipe, *options)

        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "[generate] budget = { usd = 1 } needs to know what a token costs" in done.stderr
    assert server.asked.total() == 0


def test_another_price_between_two_starts_counts_what_was_spent_as_it_was(tmp_path, server):
    recipe = stopped(tmp_path, server)
    before = spent_before(stage(recipe) / "spend.jsonl").usd
    cheaper = ["--set", "teacher.price={ input = 0.1, output = 0.2 }"]
    done = synthdistill("generate", recipe, *cheaper, *budget(usd=0.01))
    spend = manifest(recipe)["results"]["spend"]

    assert done.returncode == 0, done.stderr
    rest = 100 - round(before / EACH)
    assert spend["usd"] == pytest.approx(before + rest * EACH / 10, abs=2e-6)


def test_a_teacher_in_this_process_has_a_budget_in_tokens(tmp_path):
    recipe = project(
        tmp_path,
        texts(60),
        teacher={"kind": "builtin", "answers": None},
        generate={"sampling": SHORT, "budget": {"tokens": 1500}},
        eval={"sampling": SHORT},
    )
    done = synthdistill("generate", recipe)
    tokens = spent_before(stage(recipe) / "spend.jsonl").tokens
    used = sum(row["usage"]["input"] + row["usage"]["output"] for row in journaled(recipe))

    assert (done.returncode, "of 1500 tokens" in done.stderr) == (5, True)
    assert 0 < used == tokens <= 1500
    more = synthdistill("generate", recipe, *budget(tokens=10**6))
    assert more.returncode == 0, more.stderr
    assert len({row["id"] for row in sealed(recipe)}) == 60


# sealing what is there


def test_seal_after_the_stop_counts_what_was_not_asked(tmp_path, server):
    recipe = stopped(tmp_path, server)
    asked = server.asked.total()
    done = synthdistill("generate", recipe, "--seal")
    counts = manifest(recipe)["counts"]

    assert done.returncode == 0, done.stderr
    assert (server.asked.total(), counts["written"]) == (asked, len(sealed(recipe)))
    assert counts["failed"] == {"not_asked": 100 - counts["written"]}
    assert counts["read"] == counts["written"] + sum(counts["failed"].values()) == 100


def test_seal_tells_answers_that_failed_from_those_that_were_not_asked(tmp_path, server):
    server.fail = {"number 1": 400}
    recipe = stopped(tmp_path, server)
    assert synthdistill("generate", recipe, "--seal").returncode == 0
    counts = manifest(recipe)["counts"]

    assert counts["failed"].keys() == {"rejected", "not_asked"}
    assert counts["read"] == counts["written"] + sum(counts["failed"].values()) == 100


def test_filter_works_on_what_was_sealed(tmp_path, server):
    recipe = stopped(tmp_path, server, usd=0.0015)
    assert synthdistill("generate", recipe, "--seal").returncode == 0
    done = synthdistill("filter", recipe, "--json")
    counts = json.loads(done.stdout)["stages"]["filter"]["counts"]

    assert done.returncode == 0, done.stderr
    assert counts["read"] == len(sealed(recipe, "completions-train")) == counts["written"] + sum(counts["dropped"].values())


def test_a_new_run_takes_over_what_was_sealed_and_asks_for_the_rest(tmp_path, server):
    recipe = stopped(tmp_path, server)
    assert synthdistill("generate", recipe, "--seal").returncode == 0
    done = synthdistill("generate", recipe, "--run", "second", *budget(usd=1.0))

    assert done.returncode == 0, done.stderr
    assert (len(server.asked), server.asked.total()) == (100, 100)


def test_seal_with_nothing_there_says_so_and_leaves_the_recipe_free_to_change(tmp_path, server):
    recipe = paid(tmp_path, server)
    done = synthdistill("generate", recipe, "--seal")
    other = synthdistill("generate", recipe, "--set", "generate.samples=2")

    assert (done.returncode, done.stderr) == (
        2,
        f"error: there is no answer to seal. Ask for some: synthdistill generate {recipe}\n",
    )
    assert other.returncode == 0, other.stderr


# looking ahead


def test_a_probe_without_a_dry_run_is_refused(tmp_path, server):
    done = synthdistill("generate", paid(tmp_path, server), "--probe", "5")

    assert (done.returncode, "Add --dry-run" in done.stderr, server.asked.total()) == (2, True, 0)


def test_a_probe_asks_so_many_prompts_keeps_their_answers_and_a_later_start_uses_them(tmp_path, server):
    recipe = paid(tmp_path, server)
    done = synthdistill("generate", recipe, "--dry-run", "--probe", "20", "--json")
    planned = json.loads(done.stdout)["plan"]["generate"]
    probed = server.asked.total()
    later = synthdistill("generate", recipe)

    assert (probed, planned["answered"], planned["to_ask"]) == (20, 20, 80)
    assert planned["output_tokens"]["by"] == "20 answers on disk"
    assert planned["output_tokens"]["estimate"] == 80 * 8
    assert later.returncode == 0, later.stderr
    assert (len(server.asked), server.asked.total(), len(sealed(recipe))) == (100, 100, 100)


def test_a_probe_counts_against_the_budget(tmp_path, server):
    recipe = paid(tmp_path, server, {"tokens": 700})
    assert synthdistill("generate", recipe, "--dry-run", "--probe", "20").returncode == 0
    assert synthdistill("generate", recipe).returncode == 5

    assert server.asked.total() * 15 <= 700


def test_a_probe_asks_all_samples_of_its_prompts(tmp_path, server):
    recipe = paid(tmp_path, server, generate={"samples": 2, "sampling": SHORT | {"temperature": 0.7}})
    done = synthdistill("generate", recipe, "--dry-run", "--probe", "5", "--json")

    assert json.loads(done.stdout)["plan"]["generate"]["answered"] == 10


def test_a_refused_probe_does_not_write_over_the_recipe_of_the_run(tmp_path, server):
    recipe = paid(tmp_path, server)
    assert synthdistill("generate", recipe).returncode == 0
    before = (recipe.parent / "runs/toy/main/recipe.resolved.toml").read_bytes()
    done = synthdistill("generate", recipe, "--dry-run", "--probe", "5", "--set", "generate.samples=3")

    assert (done.returncode, "refused: generate.samples: 1 -> 3" in done.stdout) == (0, True)
    assert (recipe.parent / "runs/toy/main/recipe.resolved.toml").read_bytes() == before


def test_a_dry_run_reads_well_at_80_columns(tmp_path, server):
    recipe = paid(tmp_path, server)
    first = synthdistill("generate", recipe, "--dry-run").stdout
    probed = synthdistill("generate", recipe, "--dry-run", "--probe", "20").stdout

    assert re.search(r"^  input_tokens: [\d,]+ \([\d,]+ to [\d,]+\), by bytes$", first, re.MULTILINE)
    assert re.search(r"^  output_tokens: 0 to 1,600, by max_tokens$", first, re.MULTILINE)
    assert re.search(r"^  output_tokens: 640, at most 1,280, by 20 answers on disk$", probed, re.MULTILINE)
    assert re.search(r"^  usd: 0\.\d+, at most 0\.\d+$", probed, re.MULTILINE)
    assert max(map(len, (first + probed).splitlines())) <= 80


# what is told of it


def test_the_manifest_says_what_was_spent_what_it_leads_to_and_at_what_rate(tmp_path, server):
    recipe = paid(tmp_path, server, {"usd": 1.0})
    assert synthdistill("generate", recipe).returncode == 0
    spend = manifest(recipe)["results"]["spend"]

    assert spend["usd"] == spend["usd_projected"] == pytest.approx(100 * EACH)
    assert spend["tokens"] == 1500
    assert spend["budget"] == {"usd": 1.0, "tokens": None}
    assert spend["usd_per_hour"] > 0
    assert spend["answers_per_s"] > 0


def test_a_sealed_stop_projects_the_whole_from_the_part(tmp_path, server):
    recipe = stopped(tmp_path, server)
    assert synthdistill("generate", recipe, "--seal").returncode == 0
    spend, counts = manifest(recipe)["results"]["spend"], manifest(recipe)["counts"]

    assert spend["usd"] == pytest.approx(counts["written"] * EACH)
    assert spend["usd_projected"] == pytest.approx(100 * EACH, rel=0.01)


# signals and kills


def started(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("generate", recipe),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell lets what it starts in the background ignore it
    )


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly_and_the_same_command_goes_on(tmp_path, sent, code):
    with CountingServer(latency_s=0.05) as server:
        recipe = paid(tmp_path, server, {"usd": 1.0})
        process = started(recipe)
        server.after(40, 0.01, lambda: process.send_signal(sent))
        out, said = process.communicate(timeout=60)
        asked, kept = server.asked.total(), len(journaled(recipe))
        spent = spent_before(stage(recipe) / "spend.jsonl")
        ledger = [json.loads(line) for line in (stage(recipe) / "spend.jsonl").read_bytes().splitlines()]
        again = synthdistill("generate", recipe)

    assert (process.returncode, out, said) == (code, "", "stopped; the same command goes on from there\n")
    assert asked - 8 <= kept <= asked
    assert ledger[-1]["ended"]
    assert kept * 15 <= spent.tokens
    assert spent.usd <= kept * EACH + (asked - kept) * 300 / 1e6
    assert again.returncode == 0, again.stderr
    assert server.asked.total() <= 100 + asked - kept
    assert len({row["id"] for row in sealed(recipe)}) == len(sealed(recipe)) == 100


def test_what_came_before_a_signal_is_kept_where_many_are_in_flight(tmp_path):
    with CountingServer(latency_s=0.05) as server:
        recipe = paid(tmp_path, server, rows=600, run={"concurrency": 64, "shards": 4})
        process = started(recipe)
        server.after(300, 0.01, lambda: process.send_signal(signal.SIGTERM))
        process.communicate(timeout=60)
        asked, kept = server.asked.total(), len(journaled(recipe))

    assert process.returncode == 143
    assert asked - 64 - 20 <= kept < 600  # those in flight, and where the signal comes while some are kept, the rest of these


def test_a_kill_at_half_loses_nothing_doubles_nothing_and_asks_little_again(tmp_path):
    moments = random.Random(20261122)
    for number in range(3):
        with CountingServer(latency_s=0.03) as server:
            recipe = paid(tmp_path / str(number), server, {"usd": 0.02})
            process = started(recipe)
            server.after(50, moments.uniform(0, 0.03), lambda process=process: os.killpg(process.pid, signal.SIGKILL))
            process.communicate(timeout=60)
            asked, kept = server.asked.total(), len(journaled_whole(recipe))
            at_kill = spent_before(stage(recipe) / "spend.jsonl").usd
            done = synthdistill("generate", recipe)

        assert process.returncode == -signal.SIGKILL
        assert asked * EACH <= at_kill <= 0.02  # what the provider may bill is in the ledger
        assert done.returncode == 0, done.stderr
        assert server.asked.total() - len(server.asked) <= min(8, asked - kept)
        rows = sealed(recipe)
        assert len({row["id"] for row in rows}) == len(rows) == len(server.asked) == 100
        assert manifest(recipe)["results"]["spend"]["usd"] >= server.asked.total() * EACH
        assert [path.name for path in stage(recipe).iterdir() if path.suffix in (".part", ".tmp")] == []


def journaled_whole(recipe: Path) -> list[bytes]:
    return [line for path in stage(recipe).glob("completions-*.part") for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_budget_is_not_passed_however_often_the_process_is_killed(tmp_path):
    with CountingServer(latency_s=0.02) as server:
        recipe = paid(tmp_path, server, {"usd": 0.004}, rows=300)
        for _ in range(6):
            process = started(recipe)
            server.after(15, 0.005, lambda process=process: os.killpg(process.pid, signal.SIGKILL))
            process.communicate(timeout=60)
            assert server.asked.total() * EACH <= spent_before(stage(recipe) / "spend.jsonl").usd <= 0.004
        time.sleep(0.1)  # what was sent is answered
        assert synthdistill("generate", recipe).returncode == 5

    assert server.asked.total() * EACH <= 0.004


# what starts leave behind


def test_a_start_that_finds_all_done_takes_journals_away(tmp_path, server):
    recipe = paid(tmp_path, server)
    assert synthdistill("generate", recipe).returncode == 0
    for name in ("completions-1-1.part", "taken-1-1.part", "failures-1-1.part"):
        (stage(recipe) / name).write_bytes(b"")
    assert "up to date" in synthdistill("generate", recipe).stdout

    assert list(stage(recipe).glob("*.part")) == []


def test_prompts_of_a_start_that_bound_nobody_are_gone_when_the_recipe_is_mended(tmp_path, server):
    recipe = paid(tmp_path, server, {"tokens": 20}, run={"shards": 8})
    assert synthdistill("generate", recipe).returncode == 5
    left = {path.name for path in stage(recipe).glob("prompts-*.jsonl")}
    jsonl(tmp_path / "rows.jsonl", texts(3))
    done = synthdistill("generate", recipe, "--set", "prompts.held_out=0.0", "--set", "prompts.validation=0.0", *budget(tokens=10**6))

    assert done.returncode == 0, done.stderr
    assert len(left) > 8
    assert {path.name for path in stage(recipe).glob("prompts-*.jsonl")} == {
        output["file"] for output in manifest(recipe)["outputs"] if output["file"].startswith("prompts-")
    }
    assert len(sealed(recipe, "prompts")) == 3


def test_failures_of_an_earlier_start_that_are_answered_now_are_counted_once(tmp_path, server):
    server.fail = {"number 7": 400}
    recipe = paid(tmp_path, server, generate={"max_failed": 0.5, "budget": {"usd": 0.0008}})
    assert synthdistill("generate", recipe).returncode == 5
    server.fail = {}
    done = synthdistill("generate", recipe, *budget(usd=1.0))
    counts = manifest(recipe)["counts"]

    assert done.returncode == 0, done.stderr
    assert counts["read"] == counts["written"] + sum(counts["failed"].values()) == 100
