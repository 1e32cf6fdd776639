"""What a verb does once its options are read: a recipe and its run opened, a stage carried out, and what it came to told.

    job = open_job(recipe, "main", settings, limit=None, quiet=False)
    carry_out("eval", recipe, "main", settings, None, dry_run=False, as_json=False, quiet=False)

Nothing heavy is imported up here, as in `cli.py`.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthdistill.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from synthdistill import recipe as recipes
    from synthdistill.manifest import Manifest
    from synthdistill.ops.registry import Entry, Hook, Registry
    from synthdistill.runs import Run
    from synthdistill.stages.run import Job


def read_recipe(recipe: Path, run: str) -> "tuple[recipes.Recipe, Run]":
    """A recipe, and where a run of it lies."""
    from synthdistill import recipe as recipes

    path = recipes.find(recipe)
    read = recipes.load(path)
    return read, read.place(path, run)


def registry_of(read: "recipes.Recipe", place: "Run") -> "tuple[Registry, Hook]":
    """Who is in use of a recipe, and what is called when that changes."""
    from synthdistill.ops.registry import Hook, Registry

    return Registry(place.folder.parent), Hook(read.redistill.hook, read.redistill.hook_timeout_s, place.base)


def tell_moved(entry: "Entry", place: "Run", as_json: bool) -> None:
    """Say which run is in use now."""
    from synthdistill import console

    if as_json:
        console.print_json({"event": entry.event, "run": entry.run, "current": str(place.folder.parent / "current")})
    else:
        console.say(f"{entry.run} is in use: {place.folder.parent / 'current'}")


def open_job(recipe: Path, run: str, settings: list[str], limit: int | None, quiet: bool, *, accept_terms: bool = False) -> "Job":
    """A recipe with its settings, read, and one of its runs to work on."""
    from synthdistill import console
    from synthdistill import recipe as recipes
    from synthdistill.stages.run import Job

    path = recipes.find(recipe)
    read = recipes.load(path, settings)
    place = read.place(path, run)
    return Job(read.with_student(place.base), place, console.progress_for(quiet), limit, accept_terms=accept_terms)


def find_run(folder: Path, run: str) -> "Run":
    """The run that an argument means: its folder, or a recipe."""
    from synthdistill import recipe as recipes
    from synthdistill.runs import Run

    if folder.suffix == ".toml" or ((folder / "recipe.toml").exists() and not (folder / "place.json").exists()):
        path = recipes.find(folder)
        return Run.find(recipes.load(path).place(path, run).folder)
    return Run.find(folder)


def carry_out(
    stage: str,
    recipe: Path,
    run: str,
    settings: list[str],
    limit: int | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    review: tuple[int, Path | None] | None = None,
    write_seeds: Path | None = None,
    **more: Any,
) -> None:
    """One stage, or with `dry_run` what it would do."""
    from synthdistill import console
    from synthdistill.stages.run import one
    from synthdistill.stages.run import review as write_table

    job = replace(open_job(recipe, run, settings, limit, quiet or as_json), **more)
    if dry_run:
        tell_plan(job, [stage], as_json)
        return
    manifest = one(job, stage)
    if stage == "eval":
        written: dict[str, Any] = {"review": str(write_table(job, *review))} if review else {}
        written |= {"seeds": aim_seeds(job, write_seeds)} if write_seeds else {}
        tell_eval(job, {stage: manifest}, as_json, written=written)
    elif as_json:
        console.print_json(summary_of(job, {stage: manifest}))
    else:
        console.say(console.stage_line(stage, manifest))


def take_ratings(job: "Job", file: Path, as_json: bool) -> None:
    """What people think of the answers, and the page with it."""
    from synthdistill import console
    from synthdistill.report import figures, page
    from synthdistill.report import words as said
    from synthdistill.stages.run import reviewed

    reviewed(job, file)
    path, found = page.write(job.place), figures.load(job.place)
    rated = [each for each in found.comparisons if each.metric == "human"]
    if as_json:
        told = {"run": str(job.place.folder), "human": [asdict(each) for each in rated], "report": str(path)}
        console.print_json(told)
        return
    cells = [
        [
            each.slice,
            said.count(each.n),
            said.share(each.student),
            said.share(each.teacher),
            said.points(each.gap),
            said.span(each.interval, signed=True),
        ]
        for each in rated
    ]
    console.table("rated by people", ["rows", "n", "student", "teacher", "gap", "95%"], cells, whole=1)
    console.say(f"unscored: {rated[0].unscored} of {rated[0].n + rated[0].unscored}; report: {path}")


def draw_curve(job: "Job", dry_run: bool, as_json: bool) -> None:
    """`train --learning-curve`, or with `dry_run` what it would train."""
    from synthdistill import console
    from synthdistill.report import learning
    from synthdistill.stages.run import curve, curve_plan

    if dry_run:
        planned = {"learning-curve": curve_plan(job)}
        if as_json:
            console.print_json({"run": str(job.place.folder), "plan": planned})
        else:
            console.tree(planned)
        return
    manifest = curve(job)
    if as_json:
        console.print_json(
            {"run": str(job.place.folder), "up_to_date": manifest.up_to_date, "seconds": manifest.seconds, "curve": manifest.results}
        )
        return
    found = learning.read(manifest.results)
    console.table(found.title, found.columns, found.cells, whole=2)
    for line in found.lines:
        console.say(line)


def carry_out_all(job: "Job", dry_run: bool, as_json: bool) -> None:
    """All stages of a recipe, or with `dry_run` what they would do."""
    from synthdistill.stages.run import run, sequence

    if dry_run:
        tell_plan(job, sequence(job.recipe), as_json)
        return
    manifests = run(job, told=teller(as_json))
    tell_eval(job, manifests, as_json, tell_stages=False)


def teller(silent: bool) -> "Callable[[str, Manifest], None]":
    """What is said of a stage as it ends."""
    from synthdistill import console

    return lambda stage, manifest: None if silent else console.say(console.stage_line(stage, manifest))


def tell_plan(job: "Job", stages: list[str], as_json: bool) -> None:
    """Say what stages would do."""
    from synthdistill import console
    from synthdistill.stages.run import plan

    planned = plan(job, stages)
    row = planned.get("train", {}).pop("row", None) if not as_json else None
    if as_json:
        console.print_json({"run": str(job.place.folder), "plan": planned})
        return
    console.tree(planned)
    if row:
        cells = [[str(token["id"]), repr(token["token"])[1:-1], "trained" if token["trained"] else ""] for token in row]
        console.table("one row, token by token", ["id", "token", "loss"], cells)


def aim_seeds(job: "Job", path: Path) -> dict[str, Any]:
    """Write seeds where the student is weak; the file (null where no slice is surely weak), and how many rows are of which slice."""
    from synthdistill.stages import aim

    found = aim.aimed(job.place, job.recipe.prompts, job.recipe.eval.sets)
    if found.rows:
        aim.write(found, path)
    return {"file": str(path) if found.rows else None, "slices": found.slices, "like_held_out": found.like_held_out}


def tell_eval(
    job: "Job", manifests: dict[str, "Manifest"], as_json: bool, *, tell_stages: bool = True, written: dict[str, Any] | None = None
) -> None:
    """After eval: the report, the verdict, and exit 4 where the gate was not passed."""
    from synthdistill import console
    from synthdistill.evaluation import gate
    from synthdistill.report import figures, page, verdict

    evaluated = manifests["eval"]
    path = page.write(job.place)
    if as_json:
        console.print_json(summary_of(job, manifests) | evaluated.results | {"report": str(path)} | (written or {}))
    else:
        if tell_stages:
            console.say(console.stage_line("eval", evaluated))
        console.say("")
        console.say(verdict.verdict(figures.load(job.place)))
        console.say(f"report: {path}")
        for name, where in (written or {}).items():
            console.say(f"{name}: {where if name != 'seeds' else _seeds_told(where)}")
    if not evaluated.results["gate"]["passed"]:
        failed = [check for check in evaluated.results["gate"]["checks"] if not check["passed"]]
        for check in failed:
            console.warn(f"gate: {gate.told(check)}")
        names = ", ".join(check["name"] for check in failed)
        raise GateError(f"the gate was not passed: {names}", f"The report says where the student falls short: {path}")


def _seeds_told(found: dict[str, Any]) -> str:
    slices = ", ".join(f"{name} ({count})" for name, count in found["slices"].items())
    return f"{found['file']}: {slices}" if found["file"] else "no slice is surely weak, nothing is written"


def summary_of(job: "Job", manifests: dict[str, "Manifest"]) -> dict[str, Any]:
    """What `--json` says of stages: the run, and of each whether it was up to date, its counts and its seconds."""
    return {
        "run": str(job.place.folder),
        "stages": {
            name: {"up_to_date": found.up_to_date, "counts": found.counts.model_dump(), "seconds": found.seconds}
            for name, found in manifests.items()
        },
    }
