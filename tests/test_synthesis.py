import gzip
import json
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from counting import CountingServer
from hypothesis import given
from hypothesis import strategies as st
from project import command, environment, jsonl, project, synthdistill, texts
from pydantic import TypeAdapter
from servers import answer, serve

from synthdistill import prompts, shards
from synthdistill.errors import RecipeError, SynthdistillError
from synthdistill.operations import Operation
from synthdistill.records import Completion, Dropped, Failure, Prompt, Synthesized, decode, digest
from synthdistill.samplers import BUILTIN_BASE
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import Identity, Workload
from synthdistill.samplers.transformers import TransformersSampler
from synthdistill.sources import Row
from synthdistill.stages.synthesis import refuse_unfit
from synthdistill.synthesis.answers import read
from synthdistill.synthesis.form import Form
from synthdistill.synthesis.growth import grow
from synthdistill.synthesis.near import Texts, fold
from synthdistill.synthesis.quotas import cells
from synthdistill.text import normalise

TEACHER = Identity("writer", None)
FIRST, SECOND = ("ba", "de", "fi", "gor", "hu", "ka", "lem", "ni"), ("ta", "vo", "rik", "sun", "mel", "pa")
WORDS = [first + second for first in FIRST for second in SECOND]
GRID = {"tone": ["angry", "polite", "terse"], "channel": ["mail", "chat"]}
KINDS = {
    "self_instruct": {"kind": "self_instruct"},
    "evolve": {"kind": "evolve", "generations": 3},
    "personas": {"kind": "personas", "persona_count": 12},
    "attributes": {"kind": "attributes", "values": GRID, "quota": {"tone": {"angry": 0.6}}},
}
SEEDS = [f"Where is parcel {WORDS[place]} {WORDS[place + 1]} {WORDS[-place]}?" for place in range(20)]


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(5, 12)))


def written(body: dict, number: int = 0):
    """What a chat model might say: mostly new texts, in several shapes, with copies, near copies and rubbish between them; the same to
    the same question and seed."""
    draw = random.Random(json.dumps([body["messages"], body["seed"]]))
    asked = body["messages"][-1]["content"]
    shown = next((json.loads(line) for line in asked.splitlines() if line.startswith("[")), [asked.splitlines()[-1]])
    lines = [sentence(draw) for _ in range(5)]
    lines[0] = draw.choice([shown[0], shown[0].upper(), f"{shown[0]} please", lines[1], "ok", "?!", lines[0]])
    shape = draw.randrange(7)
    if "JSON list" not in asked:
        text = draw.choice([lines[0], lines[1], lines[2], f"#Rewritten Prompt#: {lines[3]}", "Here is the rewritten text you wanted"])
    elif shape < 3:
        text = json.dumps(lines)
    elif shape == 3:
        text = "Sure:\n" + "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))
    elif shape == 4:
        text = json.dumps([{"text": line} for line in lines] + [7])
    elif shape == 5:
        return lambda http, _: web.json_response(
            answer(json.dumps(lines)[:-20]) | {"choices": [{"message": {"content": json.dumps(lines)[:-20]}, "finish_reason": "length"}]}
        )
    else:
        text = "I cannot think of anything."
    return lambda http, _: web.json_response(answer(text))


class Bench:
    """A folder with a source; `grow` synthesises from all of its rows with the teacher of a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "prompt.md").write_text("Sort this: {{ text }}")
        self.form = Form(self.config({"kind": "self_instruct", "count": 1}), folder)
        rows = [Row({"text": text}, "here") for text in SEEDS]
        self.seeds = [self.form.seed(self.form.prompt_id(row), row) for row in rows]

    def config(self, synthesize: dict, **given) -> prompts.Config:
        return prompts.Config(source="rows.jsonl", template="prompt.md", synthesize=operation(synthesize), **given)

    def grow(self, ask, name="run", count=60, seeds=None, form=None, **given):
        keys = {key: given.pop(key) for key in ("forbidden", "earlier") if key in given}
        config = operation({"kind": "self_instruct", "count": count} | given)
        return grow(
            config, seeds or self.seeds, ask, self.folder / name, form=form or self.form, identity=TEACHER, base=self.folder, **keys
        )

    def rows(self, file, kind=Synthesized, name="run"):
        path = self.folder / name / file
        return [decode(line, kind) for line in path.read_bytes().splitlines()] if path.exists() else []

    def completions(self, name="run"):
        return {row.id: row for row in shards.read(self.folder / name, "synthesis", Completion)}


def operation(values: dict) -> Operation:
    return TypeAdapter(Operation).validate_python(values)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def ask():
    with serve(choose=written) as server, ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler:
        yield sampler.sample


def unresolved(bench: Bench, rows: list[Synthesized], name="run") -> list[str]:
    """Ids in the lineage of rows that lead nowhere."""
    own = {row.id for row in bench.rows("synthesized.jsonl", name=name)}
    people = {row.id for row in bench.rows("personas.jsonl", name=name)}
    places = {"seeds": {seed.id for seed in bench.seeds}, "grown": own, "completion": set(bench.completions(name)), "persona_id": people}
    places["parent"] = own
    found = []
    for row in rows:
        for key, known in places.items():
            value = row.lineage.get(key)
            ids = value if isinstance(value, list) else [] if value is None else [value]
            found += [each for each in ids if each not in known]
    return found


# what comes out


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_count_rows_come_out_none_of_them_twice_or_a_seed(bench, ask, kind):
    bench.grow(ask, **KINDS[kind])
    rows = bench.rows("synthesized.jsonl")

    assert len(rows) == 60
    assert len({normalise(row.text) for row in rows} - {normalise(text) for text in SEEDS}) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_nearly_a_seed_or_another_row(bench, ask, kind):
    bench.grow(ask, **KINDS[kind])
    rows = bench.rows("synthesized.jsonl")

    known = Texts(0.7 if kind != "evolve" else 0.9)
    for seed in bench.seeds:
        known.add(seed.id, seed.text)
    for row in rows:
        assert known.closest(row.text) is None
        known.add(row.id, row.text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_id_of_a_lineage_lies_on_disk(bench, ask, kind):
    rows = bench.grow(ask, **KINDS[kind]).rows

    assert all(row.lineage["completion"] and row.lineage["seeds"] for row in rows)
    assert unresolved(bench, rows + bench.rows("personas.jsonl")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_of_an_answer_is_accepted_or_dropped_with_a_reason(bench, ask, kind):
    lists: dict[str, bool] = {}

    def watched(requests):
        requests = list(requests)
        lists.update({each.id: "Answer with a JSON list" in each.prompt.text for each in requests})
        return ask(requests)

    grown = bench.grow(watched, **KINDS[kind])
    said = 0
    for completion in bench.completions().values():
        reading = read(completion.text, several=lists[completion.id], cut=completion.finish != "stop")
        said += len(reading.texts) + len(reading.lost)

    dropped = bench.rows("dropped-synthesis.jsonl", Dropped)
    assert len(grown.rows) + len(grown.personas) + len(dropped) == said
    assert all(row.reason.startswith("synthesis:") and row.scores[0].reason for row in dropped)
    assert {row.completion_id for row in dropped} <= set(bench.completions())


def test_what_a_text_repeats_is_named(bench, ask):
    bench.grow(ask, count=200)
    known = {seed.id for seed in bench.seeds} | {row.id for row in bench.rows("synthesized.jsonl")}
    dropped = bench.rows("dropped-synthesis.jsonl", Dropped)
    reasons = {"synthesis:duplicate_of_seed", "synthesis:near_duplicate", "synthesis:duplicate"}

    assert reasons <= {row.reason for row in dropped}
    assert all((row.kept_instead in known) == (row.reason in reasons) for row in dropped)


def test_the_same_answers_give_the_same_files(bench, ask):
    for name in ("one", "other"):
        bench.grow(ask, name)
    one, other = ({path.name: path.read_bytes() for path in (bench.folder / name).glob("*d*.jsonl")} for name in ("one", "other"))

    assert set(one) == {"synthesized.jsonl", "dropped-synthesis.jsonl"}
    assert one == other


def test_the_order_of_the_seeds_changes_nothing(bench, ask):
    one = bench.grow(ask, "one").rows
    other = bench.grow(ask, "other", seeds=bench.seeds[::-1]).rows

    assert one == other


def test_no_row_is_equal_to_a_held_out_text(bench, ask):
    held = bench.grow(ask, "first", count=30).rows[:10]
    rows = bench.grow(ask, forbidden={fold(row.text.upper()) for row in held}, count=30).rows

    assert {row.text for row in held} & {row.text for row in rows} == set()
    assert "synthesis:held_out" in {row.reason for row in bench.rows("dropped-synthesis.jsonl", Dropped)}


# the kinds


def test_self_instruct_shows_seeds_and_once_there_are_some_its_own_rows(bench, ask):
    rows = bench.grow(ask, count=200, examples=6, grown_examples=2, per_answer=2).rows

    assert {len(row.lineage["seeds"]) for row in rows} == {6}
    assert {len(row.lineage["grown"]) for row in rows} >= {0, 2}


def test_every_seed_is_shown_before_any_is_shown_again(bench, ask):
    bench.grow(ask, count=20, examples=5, per_answer=1)
    shown = Counter(each for row in bench.completions().values() for each in row.source_ids)

    assert max(shown.values()) - min(shown[seed.id] for seed in bench.seeds) <= 1


def test_evolve_builds_on_what_it_made_to_the_depth_of_the_recipe(bench, ask):
    rows = {row.id: row for row in bench.grow(ask, count=120, kind="evolve", generations=3).rows}
    depths = Counter(row.lineage["generation"] for row in rows.values())

    assert set(depths) == {1, 2, 3}
    for row in rows.values():
        parent = row.lineage["parent"]
        assert (parent is None) == (row.lineage["generation"] == 1)
        assert parent is None or rows[parent].lineage["generation"] == row.lineage["generation"] - 1
        assert parent is None or rows[parent].lineage["seeds"] == row.lineage["seeds"]


def test_evolve_goes_in_the_directions_of_the_recipe(bench, ask):
    both = bench.grow(ask, "both", kind="evolve").rows
    one = bench.grow(ask, "one", kind="evolve", operations=["broader"]).rows

    assert {row.lineage["operation"] for row in both} == {"evolve:harder", "evolve:broader"}
    assert {row.lineage["operation"] for row in one} == {"evolve:broader"}


def test_a_text_with_words_of_the_instructions_is_dropped(bench, ask):
    rows = bench.grow(ask, kind="evolve").rows

    assert "synthesis:copied_instructions" in {row.reason for row in bench.rows("dropped-synthesis.jsonl", Dropped)}
    assert not any("rewritten" in row.text.lower() for row in rows)


def test_personas_are_written_first_where_none_are_given(bench, ask):
    rows = bench.grow(ask, kind="personas", persona_count=12).rows
    people = {row.id: row.text for row in bench.rows("personas.jsonl")}

    assert len(people) == 12
    assert {row.lineage["persona_id"]: row.lineage["persona"] for row in rows}.items() <= people.items()


@pytest.mark.parametrize("given", ["a file", "a list"])
def test_given_personas_are_taken_as_they_are(bench, ask, given):
    (bench.folder / "people.txt").write_text("A nurse\n\nA pilot\n")
    rows = bench.grow(ask, kind="personas", personas="people.txt" if given == "a file" else ["A nurse", "A pilot"]).rows

    assert {row.lineage["persona"] for row in rows} == {"A nurse", "A pilot"}
    assert {row.lineage["operation"] for row in bench.rows("personas.jsonl")} == {"given"}


def test_each_cell_of_a_grid_has_exactly_its_quota(bench, ask):
    rows = bench.grow(ask, **KINDS["attributes"]).rows

    assert Counter((row.lineage["values"]["tone"], row.lineage["values"]["channel"]) for row in rows) == {
        ("angry", "mail"): 18,
        ("angry", "chat"): 18,
        ("polite", "mail"): 6,
        ("polite", "chat"): 6,
        ("terse", "mail"): 6,
        ("terse", "chat"): 6,
    }


SHARES = st.lists(st.integers(0, 30).map(lambda share: share / 100), min_size=1, max_size=3)


@given(SHARES, st.integers(1, 4), st.integers(0, 1000))
def test_quotas_come_to_the_count_and_no_cell_is_one_away_from_its_share(shares, others, count):
    names = [f"v{place}" for place in range(len(shares) + others)]
    quota = dict(zip(names, shares, strict=False))
    found = cells({"a": names, "b": ["x", "y"]}, {"a": quota}, count)
    rest = (1 - sum(shares)) / others

    assert sum(cell.count for cell in found) == count
    assert all(abs(cell.count - count * quota.get(cell.values["a"], rest) / 2) < 1 + 1e-6 for cell in found)


# when it does not work


def constant(body: dict, number: int):
    return lambda http, _: web.json_response(answer(json.dumps([SEEDS[0], "always the same text of the teacher"])))


def test_a_teacher_that_repeats_itself_ends_the_start_with_what_it_brought_and_why(bench):
    with serve(choose=constant) as server, ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler:
        with pytest.raises(SynthdistillError) as caught:
            bench.grow(sampler.sample, patience=3)
        asked = server.requests
        with pytest.raises(SynthdistillError):
            bench.grow(sampler.sample, patience=3)

    told = str(caught.value)
    assert "1 of 60 texts were accepted" in told
    assert "duplicate_of_seed" in told
    assert "raise sampling.temperature" in told
    assert [row.text for row in bench.rows("synthesized.jsonl")] == ["always the same text of the teacher"]
    assert server.requests > asked  # who starts again wants to go on
    assert len(bench.completions()) == server.requests


def test_a_cell_that_cannot_be_filled_is_named(bench):
    def stubborn(body, number):
        return constant(body, number) if "tone: terse" in body["messages"][-1]["content"] else written(body)

    with (
        serve(choose=stubborn) as server,
        ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler,
        pytest.raises(SynthdistillError, match="6 with tone = terse, channel = "),
    ):
        bench.grow(sampler.sample, **KINDS["attributes"])


def test_a_last_row_that_is_hard_to_get_does_not_end_a_start(bench):
    """Nineteen in twenty answers bring nothing, one at a time at the end."""

    def choose(body, number):
        return written(body) if random.Random(body["seed"]).random() < 0.05 else constant(body, number)

    with serve(choose=choose) as server, ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler:
        assert len(bench.grow(sampler.sample, count=12).rows) == 12


def test_a_students_template_that_reads_what_new_rows_have_not_is_refused(bench):
    (bench.folder / "student.md").write_text("{{ text }} {{ shop }}")

    with pytest.raises(RecipeError, match=r"\[train\] template reads shop, which synthesised rows have not: they have text"):
        refuse_unfit(bench.config({"kind": "evolve", "count": 3}), bench.folder, bench.folder / "student.md")


def test_a_start_that_gave_up_goes_on_to_the_count(bench):
    silent = True

    def moody(body, number):
        return constant(body, number) if silent else written(body)

    with serve(choose=moody) as server, ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler:
        with pytest.raises(SynthdistillError):
            bench.grow(sampler.sample)
        silent = False
        rows = bench.grow(sampler.sample).rows

    assert len(rows) == 60
    assert unresolved(bench, rows) == []


def test_an_answer_that_failed_for_good_is_counted_and_not_asked_again(bench):
    def choose(body, number):
        return 400 if random.Random(body["seed"]).random() < 0.3 else written(body)

    with serve(choose=choose) as server, ApiSampler(server.url, "writer", None, Workload(8, 5.0)) as sampler:
        grown = bench.grow(sampler.sample)
        asked = server.requests
        again = bench.grow(sampler.sample)

    assert server.requests == asked
    assert again.rows == grown.rows
    assert len(bench.rows("failures-synthesis.jsonl", Failure)) == len(grown.failures) > 0
    assert grown.answers == len(bench.completions()) + len(grown.failures)


def test_an_answer_that_failed_for_a_passing_reason_ends_the_start_and_the_next_goes_on(bench, ask):
    down: list[str] = []

    def failing(requests):
        for number, each in enumerate(ask(requests)):
            if number % 3:
                yield each
            else:
                down.append(each.id)
                yield Failure(each.id, each.prompt_id, 0, "down", "the server is down", 1, retryable=True)

    with pytest.raises(SynthdistillError, match="could not be had; the first: the server is down"):
        bench.grow(failing)
    stormy, calm = bench.grow(ask), bench.grow(ask, "calm")

    assert down
    assert stormy.rows == calm.rows
    assert bench.rows("failures-synthesis.jsonl", Failure) == []


# going on


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_was_broken_off_goes_on_and_asks_for_nothing_twice(bench, ask, kind):
    """Broken off after every 7th answer; what was read of the sampler is in the journal, what was not is asked again."""
    answered: Counter[str] = Counter()

    def breaking(requests):
        for number, each in enumerate(ask(requests)):
            if number == 7:
                raise InterruptedError("the cable")
            answered[each.id] += 1
            yield each

    starts = 0
    while True:
        starts += 1
        try:
            stormy = bench.grow(breaking, "stormy", **KINDS[kind])
            break
        except InterruptedError:
            assert starts < 100
    calm = bench.grow(ask, "calm", **KINDS[kind])

    assert starts > 1
    assert set(answered.values()) == {1}
    assert stormy.rows == calm.rows
    assert stormy.dropped == calm.dropped


def test_a_higher_count_takes_over_what_an_earlier_run_was_answered(bench, ask):
    few = bench.grow(ask, "few", count=300)
    asked: list[str] = []

    def watched(requests):
        requests = list(requests)
        asked.extend(request.id for request in requests)
        return ask(requests)

    many = bench.grow(watched, "many", count=600, earlier=[bench.folder / "few"])
    alone = bench.grow(ask, "alone", count=600)

    assert many.rows == alone.rows
    assert set(asked) & set(bench.completions("few")) == set()
    assert many.taken > few.answers / 2
    assert many.usage.output == 3 * len(asked)


def test_a_killed_generate_ends_as_if_undisturbed(tmp_path):
    moments = random.Random(5)
    kills = 0
    with CountingServer(latency_s=0.02) as server:
        given = {
            "rows": texts(40),
            "prompts": {"synthesize": {"kind": "self_instruct", "count": 60, "per_answer": 1, "examples": 2}},
            "teacher": {"kind": "api", "model": "m", "answers": None, "base_url": server.url},
            "run": {"concurrency": 4},
        }
        calm, stormy = project(tmp_path / "calm", **given), project(tmp_path / "stormy", **given)
        done = synthdistill("generate", calm)
        assert done.returncode == 0, done.stderr
        wanted = set(server.asked)
        server.asked.clear()
        for further in (5, 20, 20, 15, 10):
            process = subprocess.Popen(command("generate", stormy), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            server.after(further, moments.uniform(0, 0.03), process.kill)
            kills += process.wait() == -signal.SIGKILL
        assert synthdistill("generate", stormy).returncode == 0

    one, other = (recipe.parent / "runs" / "toy" / "main" / "generate" for recipe in (calm, stormy))
    assert kills == 5
    assert set(server.asked) == wanted
    assert server.asked.total() - len(wanted) <= kills * 4
    assert (one / "synthesized.jsonl").read_bytes() == (other / "synthesized.jsonl").read_bytes()
    assert list(other.glob("*.part")) == []


# a real model


def test_a_real_model_writes_exactly_count_rows_that_are_new_and_whose_lineage_resolves(bench, one_thread):
    """The base student of the package has learnt to quote from customers' messages, and does so badly."""
    source = Path(BUILTIN_BASE).parent / "triage" / "messages.jsonl.gz"
    messages = [json.loads(line)["message"] for line in gzip.decompress(source.read_bytes()).splitlines()[:60]]
    (bench.folder / "few.md").write_text("{{ examples | join('\n') }}")
    rows = [Row({"text": text}, "here") for text in messages]
    bench.seeds = [bench.form.seed(bench.form.prompt_id(row), row) for row in rows]
    with TransformersSampler(str(BUILTIN_BASE), "base", Workload(32)) as sampler:
        grown = bench.grow(
            sampler.sample,
            count=80,
            template="few.md",
            examples=2,
            grown_examples=1,
            per_answer=1,
            min_length=12,
            sampling={"max_tokens": 64, "seed": 3},
        )

    seeds = {normalise(text) for text in messages}
    assert len(grown.rows) == len({normalise(row.text) for row in grown.rows} - seeds) == 80
    assert unresolved(bench, grown.rows) == []
    assert len(grown.rows) + len(grown.dropped) == grown.answers
    assert grown.dropped


# in a recipe


def generate(tmp_path, server, *, count=30, rows=None, template="Sort this: {{ text }}", **synthesize):
    recipe = project(
        tmp_path,
        rows=[{"id": f"row-{place}", "text": text} for place, text in enumerate(SEEDS)] if rows is None else rows,
        template=template,
        prompts={"synthesize": {"kind": "self_instruct", "count": count, **synthesize}, "held_out": 0.3},
        teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url},
        generate={"samples": 2},
    )
    done = synthdistill("generate", recipe, "--json")
    assert done.returncode == 0, done.stderr
    folder = recipe.parent / "runs" / "toy" / "main" / "generate"
    return folder, {row.id: row for row in shards.read(folder, "prompts", Prompt)}


def test_generate_answers_what_was_written_with_what_was_given(tmp_path):
    with serve(choose=written) as server:
        folder, found = generate(tmp_path, server)
    new = {row.id: row for row in found.values() if row.lineage}
    answers = Counter(row.prompt_id for row in shards.read(folder, "completions", Completion))

    assert len(new) == 30
    assert len(found) == 30 + len(SEEDS)
    assert {row.split for row in new.values()} == {"train"}
    assert {answers[identifier] for identifier in new} == {2}
    assert all(row.source_ids == [row.id] and row.messages[0]["content"] == f"Sort this: {row.text}" for row in new.values())
    more = json.loads((folder / "manifest.json").read_bytes())["counts"]["more"]
    assert more["synthesized"] == 30


def test_no_held_out_or_validation_row_is_a_seed_or_shown_to_the_teacher_as_one(tmp_path):
    with serve(choose=written) as server:
        _, found = generate(tmp_path, server)
    asked = [body["messages"][-1]["content"] for body in server.bodies if body["messages"][0]["role"] == "system"]
    kept_back = [row for row in found.values() if row.split != "train"]

    assert kept_back
    assert not any(row.text in content for row in kept_back for content in asked)
    assert not any(row.id in new.lineage["seeds"] for row in kept_back for new in found.values() if new.lineage)


def test_what_the_synthesis_cost_is_in_the_manifest(tmp_path):
    with serve(choose=written) as server:
        folder, _ = generate(tmp_path, server)

    assert json.loads((folder / "manifest.json").read_bytes())["usage"]["output"] == 3 * server.requests


def test_a_column_that_is_not_new_keeps_the_value_of_a_seed(tmp_path):
    rows = [{"id": str(place), "text": text, "shop": f"shop {place % 3}"} for place, text in enumerate(SEEDS)]
    with serve(choose=written) as server:
        _, found = generate(tmp_path, server, rows=rows, template="{{ shop }}: {{ text }}", column="text")

    new = [row for row in found.values() if row.lineage]
    assert {row.messages[0]["content"].partition(": ")[0] for row in new} <= {"shop 0", "shop 1", "shop 2"}


def test_rows_with_messages_keep_the_system_turn_of_a_seed(bench, ask):
    config = prompts.Config(source="rows.jsonl", synthesize=operation({"kind": "self_instruct", "count": 5}))
    form = Form(config, bench.folder)
    turns = [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": text},
        ]
        for text in SEEDS
    ]
    tools = [{"type": "function", "function": {"name": "look"}}]
    rows = [Row({"messages": each, "tools": tools}, "here") for each in turns]
    seeds = [form.seed(form.prompt_id(row), row) for row in rows]
    grown = bench.grow(ask, count=5, seeds=seeds, form=form)
    found = [form.prompt(row) for row in grown.rows]

    assert [seed.text for seed in seeds] == SEEDS
    assert [row.messages for row in found] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": row.text}] for row in found
    ]
    assert all(row.tools == tools and row.id == digest(row.messages, row.tools) for row in found)


def test_the_students_template_renders_what_was_written(bench, ask):
    rows = bench.grow(ask).rows
    jsonl(bench.folder / "rows.jsonl", [{"text": text} for text in SEEDS])
    (bench.folder / "student.md").write_text("Short: {{ text }}")
    found = prompts.messages_for(bench.config({"kind": "self_instruct", "count": 60}), bench.folder, bench.folder / "student.md", rows)

    assert [found[row.id][0]["content"] for row in rows] == [f"Short: {row.text}" for row in rows]
    assert len(found) == 60 + len(SEEDS)


def test_prompts_that_a_template_makes_equal_are_one(bench, ask):
    (bench.folder / "prompt.md").write_text("{{ text[:12] }}")
    form = Form(bench.config({"kind": "self_instruct", "count": 60}), bench.folder)
    rows = bench.grow(ask, form=form).rows

    assert len({form.prompt(row).id for row in rows}) == 60


REFUSED = {
    "two columns and none of them named": (
        {"template": "{{ shop }} {{ text }}"},
        {},
        "reads shop, text, and only one column of a row can be new. Name it",
    ),
    "a column that the template does not read": ({}, {"column": "shop"}, "column = 'shop', which the template prompt.md does not read"),
    "a template that is not there": ({}, {"template": "nope.md"}, "[prompts.synthesize] template: no such file"),
    "a template that reads what is not given": ({}, {"template": "bad.md"}, "reads 'example', which [prompts.synthesize] has not"),
    "personas that are not there": ({}, {"kind": "personas", "personas": "nope.txt"}, "[prompts.synthesize] personas: no such file"),
    "a quota over one": (
        {},
        KINDS["attributes"] | {"quota": {"tone": {"angry": 0.8, "polite": 0.8}}},
        "and should come to at most 1",
    ),
    "a quota of no attribute": ({}, KINDS["attributes"] | {"quota": {"mood": {"angry": 0.8}}}, "quota.mood is no attribute"),
    "a quota of no value": ({}, KINDS["attributes"] | {"quota": {"tone": {"cross": 0.8}}}, "quota.tone.cross is no value"),
    "a key of another kind": ({}, {"values": GRID}, "unknown key prompts.synthesize.values"),
    "a misspelt key": ({}, {"examplse": 3}, "unknown key prompts.synthesize.examplse. Did you mean examples?"),
    "another kind": ({}, {"kind": "evol"}, "prompts.synthesize.kind: should be one of self_instruct, evolve, personas, attributes"),
    "no seed": ({"prompts": {"held_out": 0.99, "validation": 0.009}}, {}, "is left for training"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recipe_that_cannot_work_is_refused_before_anybody_is_asked(tmp_path, case):
    tables, synthesize, expected = REFUSED[case]
    tables = {"prompts": {}, **tables}
    tables["prompts"] = tables["prompts"] | {"synthesize": {"kind": "self_instruct", "count": 5} | synthesize}
    rows = [{"id": str(place), "text": text, "shop": "s"} for place, text in enumerate(SEEDS)]
    with serve(choose=written) as server:
        recipe = project(tmp_path, rows=rows, teacher={"kind": "api", "model": "m", "answers": None, "base_url": server.url}, **tables)
        (tmp_path / "bad.md").write_text("{{ example }}")
        done = synthdistill("generate", recipe)

    assert done.returncode == 2, done.stderr
    assert expected in " ".join(done.stderr.split())
    assert server.requests == 0


def test_no_row_left_to_be_a_seed_is_an_error(bench, ask):
    with pytest.raises(RecipeError, match="has no seed"):
        grow(operation({"kind": "evolve", "count": 3}), [], ask, bench.folder / "run", form=bench.form, identity=TEACHER, base=bench.folder)
