"""The verbs. Options in, one call, what it came to; every decision is made below.

    synthdistill run recipe.toml --set train.epochs=5

Nothing heavy is imported up here: `--help` must cost no more than that of an empty program.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from synthdistill import verbs
from synthdistill.errors import LockedError, RecipeError, SynthdistillError, storage

app = typer.Typer(
    name="synthdistill",
    help="Copy a teacher LLM's behaviour on your task into a small student you own.",
    add_completion=False,
    pretty_exceptions_enable=False,
    # a --help that is not given is None to typer, which then imports pydantic to make a bool of it; False it leaves alone
    context_settings={"help_option_names": ["-h", "--help"], "default_map": {"help": False}},
)

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, or the folder it lies in.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as runs/triage/main, or a recipe (its run main).")]
RunName = Annotated[str, typer.Option("--run", metavar="NAME", help="The run to work on.")]
Set = Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a key of the recipe; may be given again.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most N rows.")]
AcceptTerms = Annotated[bool, typer.Option("--accept-terms", help="You answer for the teacher's terms; who and when is noted.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; ask and write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write.")] = Path(),
    template: Annotated[str, typer.Option("--template", metavar="NAME", help="Which example: triage.")] = "triage",
    as_json: Json = False,
) -> None:
    """Write a recipe, a prompt template and rows that run as they are."""
    from synthdistill import console
    from synthdistill.ops import examples

    written = examples.write(folder, template)
    if as_json:
        console.print_json({"folder": str(folder), "files": written})
    else:
        for name in written:
            console.say(f"wrote {folder / name}")
        console.say(f"next: synthdistill run {folder / 'recipe.toml'}")


@app.command()
def generate(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006  typer copies it
    limit: Limit = None,
    accept_terms: AcceptTerms = False,
    dry_run: DryRun = False,
    probe: Annotated[int, typer.Option("--probe", min=0, metavar="N", help="With --dry-run: ask N prompts first, keep their answers.")] = 0,
    seal: Annotated[bool, typer.Option("--seal", help="Ask for nothing more: seal the answers that are there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prompts -> teacher completions. A budget that is used up is exit 5."""
    if probe and not dry_run:
        raise RecipeError(f"--probe {probe} says what the rest would cost, and then stops", "Add --dry-run")
    verbs.carry_out("generate", recipe, run, settings, limit, dry_run, as_json, quiet, accept_terms=accept_terms, seal=seal, probe=probe)


@app.command(name="filter")
def filter_(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Completions -> examples and dropped rows, each with scores and a reason."""
    verbs.carry_out("filter", recipe, run, settings, limit, dry_run, as_json, quiet)


@app.command()
def label(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    accept_terms: AcceptTerms = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The teacher's soft targets for the kept examples; for method soft."""
    verbs.carry_out("label", recipe, run, settings, limit, dry_run, as_json, quiet, accept_terms=accept_terms)


@app.command()
def train(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    learning_curve: Annotated[bool, typer.Option("--learning-curve", help="Train on 1/8, 1/4, 1/2 and all rows: is there enough?")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Examples -> student. --dry-run prints one row token by token with its mask."""
    if learning_curve:
        verbs.draw_curve(verbs.open_job(recipe, run, settings, limit, quiet or as_json), dry_run, as_json)
        return
    verbs.carry_out("train", recipe, run, settings, limit, dry_run, as_json, quiet)


@app.command(name="eval")
def eval_(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    review: Annotated[
        int | None, typer.Option("--review", min=1, metavar="N", help="Then write a blind table of N prompts for people to rate.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="With --review: where; eval/review.csv if left out.")] = None,
    reviewed: Annotated[
        Path | None, typer.Option("--reviewed", metavar="FILE", help="Take the ratings of such a table into the report; ask nobody.")
    ] = None,
    write_seeds: Annotated[
        Path | None, typer.Option("--write-seeds", metavar="FILE", help="Rows of weak slices, as prompts.synthesize.seeds takes them.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Held-out prompts -> student, teacher, base and others side by side; report; gate (exit 4)."""
    if reviewed is not None and (review or write_seeds or dry_run):
        raise RecipeError("--reviewed reads a table, and goes with neither --review, --write-seeds nor --dry-run", "Give it alone")
    if to is not None and review is None:
        raise RecipeError("--to says where --review writes its table", "Add --review 100")
    if reviewed is not None:
        verbs.take_ratings(verbs.open_job(recipe, run, settings, limit, quiet or as_json), reviewed, as_json)
        return
    table = (review, to) if review else None
    verbs.carry_out("eval", recipe, run, settings, limit, dry_run, as_json, quiet, review=table, write_seeds=write_seeds)


@app.command(name="run")
def run_(
    recipe: Recipe,
    run: RunName = "main",
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    accept_terms: AcceptTerms = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Every stage in sequence, each passed over when it is up to date."""
    verbs.carry_out_all(verbs.open_job(recipe, run, settings, limit, quiet, accept_terms=accept_terms), dry_run, as_json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the demo's recipe and run go.")] = Path("demo"),
    settings: Set = [],  # noqa: B006
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole pipeline on the built-in teacher: no GPU, no key, no network, minutes."""
    from tempfile import TemporaryDirectory

    from synthdistill.ops import examples

    if dry_run and not (folder / "recipe.toml").exists():
        with TemporaryDirectory() as aside:
            examples.write(Path(aside), "triage")
            verbs.carry_out_all(verbs.open_job(Path(aside), "main", settings, limit, quiet), dry_run, as_json)
        return
    if not (folder / "recipe.toml").exists():
        examples.write(folder, "triage")
    verbs.carry_out_all(verbs.open_job(folder, "main", settings, limit, quiet), dry_run, as_json)


@app.command()
def redistill(
    recipe: Recipe,
    settings: Set = [],  # noqa: B006
    now: Annotated[bool, typer.Option("--now", help="Make a run, whatever the rules say.")] = False,
    accept_terms: AcceptTerms = False,
    env_file: Annotated[Path | None, typer.Option("--env-file", metavar="PATH", help="A file of NAME=value lines, yours only.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What cron calls: is a new student due? Make it, hold it against the one in use, promote or keep (exit 4)."""
    from synthdistill import console
    from synthdistill.ops import environment
    from synthdistill.redistill import call as page

    if env_file is not None:
        environment.take(env_file)
    job = verbs.open_job(recipe, "main", settings, None, quiet or as_json, accept_terms=accept_terms)
    job = replace(job, progress=console.Notes()) if quiet else job
    try:
        found = page.plan(job, by_hand=now) if dry_run else page.call(job, by_hand=now, told=verbs.teller(quiet or as_json))
    except LockedError as error:
        if quiet:  # cron calls it every minute of a night's work
            raise typer.Exit(error.code) from error
        raise
    if as_json:
        console.print_json(found.as_dict())
    elif dry_run:
        console.table("", ["rule", "found", "due at", "due"], [rule.cells() for rule in found.rules], whole=1)
        console.say(found.text)
    elif not (quiet and found.event == "not_due"):
        console.say(console.stamped(found.text))
    if found.code:
        raise typer.Exit(found.code)


@app.command()
def schedule(
    recipe: Recipe,
    at: Annotated[str, typer.Option("--at", metavar="TIMES", help="Five fields of cron, or @hourly, @daily, ...")] = "0 3 * * *",
    kind: Annotated[str, typer.Option("--as", metavar="KIND", help="cron, systemd, kubernetes or github.")] = "cron",
    install: Annotated[bool, typer.Option("--install", help="Put it where it works, over an earlier one of this recipe.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    env_file: Annotated[Path | None, typer.Option("--env-file", metavar="PATH", help="A file of NAME=value lines, yours only.")] = None,
    as_json: Json = False,
) -> None:
    """Print or install what calls redistill: a crontab line, a systemd timer, a CronJob, a workflow."""
    from synthdistill import console
    from synthdistill.ops import schedule as schedules

    if install and remove:
        raise RecipeError("--install and --remove do not go together", "Give one of them")
    note = console.progress_for(quiet=False).note
    found = schedules.remove(recipe, kind) if remove else schedules.write(recipe, kind, at, env_file=env_file, install=install, note=note)
    if as_json:
        console.print_json(found.as_dict())
    elif remove:
        console.say(f"removed: {kind} calls it no more" if found.text else f"there is no schedule of {recipe} with {kind}")
    else:
        console.say(found.text.rstrip("\n"))
        if install:
            console.say(f"installed; its calls write to {found.log}")


@app.command()
def promote(
    recipe: Recipe,
    run: RunName = "main",
    force: Annotated[bool, typer.Option("--force", help="A run that did not pass its gate as well.")] = False,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="For the history.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Put a run in use: move `current` to it, and run the hook."""
    from synthdistill import terms

    read, place = verbs.read_recipe(recipe, run)
    registry, hook = verbs.registry_of(read, place)
    verbs.tell_moved(registry.promote(place, by=terms.user(), why=why, hook=hook, force=force), place, as_json)


@app.command()
def rollback(
    recipe: Recipe,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="For the history.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Put the run in use that was so before."""
    from synthdistill import terms

    read, place = verbs.read_recipe(recipe, "main")
    registry, hook = verbs.registry_of(read, place)
    verbs.tell_moved(registry.rollback(by=terms.user(), why=why, hook=hook), place, as_json)


@app.command()
def runs(recipe: Recipe, as_json: Json = False) -> None:
    """List a recipe's runs: which is in use, what each kept of its teacher and cost, what was decided and why."""
    from synthdistill import console
    from synthdistill.ops import registry

    read, place = verbs.read_recipe(recipe, "main")
    found = list(registry.listed(registry.Registry(place.folder.parent)))
    if as_json:
        console.print_json({"folder": str(place.folder.parent), "runs": found})
    elif found:
        console.runs(found)
    else:
        console.say(f"{read.name} has no run yet: synthdistill run {place.recipe}")


@app.command()
def report(
    folder: RunFolder,
    newer: Annotated[Path | None, typer.Argument(metavar="[NEWER]", help="A second run: how its student does beside that of RUN.")] = None,
    run: RunName = "main",
    markdown: Annotated[str | None, typer.Option("--markdown", metavar="FILE", help="A summary for a pull request; - is stdout.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="The checks of the gate as test cases, for CI.")] = None,
    as_json: Json = False,
) -> None:
    """Write a run's HTML report again, or that of two runs side by side, and say where it is."""
    from synthdistill import console
    from synthdistill.report import written

    if markdown == written.STDOUT and as_json:
        raise RecipeError("--markdown - and --json both write to stdout", "Give --markdown a file")
    beside = None if newer is None else verbs.find_run(newer, run)
    found = written.write(verbs.find_run(folder, run), beside, markdown=markdown, junit=junit)
    if as_json:
        console.print_json(found.files)
    elif found.summary is not None:
        sys.stdout.write(found.summary)
    else:
        for path in found.files.values():
            console.say(path)


@app.command()
def show(
    folder: RunFolder,
    stage: Annotated[str, typer.Argument(metavar="[STAGE]", help="generate, filter, label, train or eval.")] = "filter",
    run: RunName = "main",
    dropped: Annotated[bool, typer.Option("--dropped", help="The rows that were left out, with their reasons.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Dropped rows whose reason begins so.")] = None,
    limit: Limit = 10,
    as_json: Json = False,
) -> None:
    """Look at a stage's rows in the terminal."""
    from synthdistill import console
    from synthdistill.ops import rows

    found = rows.look(verbs.find_run(folder, run), stage, dropped=dropped or reason is not None, reason=reason, limit=limit)
    if as_json:
        console.print_json(found.as_dict())
    else:
        console.table(found.title, found.columns, found.cells)


@app.command(name="try")
def try_(
    folder: RunFolder,
    message: Annotated[str | None, typer.Argument(help="What to ask; read from stdin where it is left out.")] = None,
    run: RunName = "main",
    teacher: Annotated[bool, typer.Option("--teacher", help="Ask the teacher as well.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the student something: its answer, its confidence, the time it took."""
    from synthdistill import console
    from synthdistill.ops import trial

    text = message if message is not None else _stdin()
    answers = trial.ask(verbs.find_run(folder, run), text, teacher=teacher)
    if as_json:
        console.print_json(answers)
    for who, answer in {} if as_json else answers.items():
        raw = "" if answer["calibrated"] else " (not calibrated)"
        sure = "" if answer["confidence"] is None else f"{answer['confidence']:.0%} confident{raw}, "
        console.say(f"{who}: {answer['text']}")
        console.say(f"    {sure}{answer['seconds'] * 1000:.0f} ms, {answer['tokens']} tokens, {answer['finish']}")


@app.command()
def export(
    folder: RunFolder,
    run: RunName = "main",
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Where; the run's own folder export/student if left out.")] = None,
    quantize: Annotated[
        list[str],
        typer.Option("--quantize", metavar="SCHEME", help="And a smaller copy, measured: int8 or int4. May be given again."),
    ] = [],  # noqa: B006
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The student as a folder for vLLM or a hub, with its card; on request smaller copies, and what each of them loses."""
    from synthdistill import console
    from synthdistill.ops import export as exports

    found = exports.export(verbs.find_run(folder, run), to=to, copies=quantize, progress=console.progress_for(quiet or as_json))
    if as_json:
        console.print_json(found.as_dict())
    else:
        console.exported(found.as_dict())


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise RecipeError(f"the message on stdin is not UTF-8: byte {error.start + 1}", "Send it as UTF-8") from error


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine can do, and what to install."""
    from synthdistill import console
    from synthdistill.ops import doctor as examined

    findings = examined.examine()
    if as_json:
        console.print_json({"findings": [finding.as_dict() for finding in findings]})
    else:
        console.table(
            "", ["", "what", "found", "next"], [[finding.mark, finding.name, finding.found, finding.hint] for finding in findings]
        )
    if any(finding.mark == "bad" for finding in findings):
        raise typer.Exit(3)


def main() -> None:
    """The program: one place that prints errors and sets the exit code."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on cores that others use too, threads that spin cost four times the work
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with storage():
            sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except SynthdistillError as error:
        _complain(error)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns the former into exit 130
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in (130, 128 + signal.SIGTERM):
            sys.stderr.write("stopped; the same command goes on from there\n")
        sys.exit(code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _complain(SynthdistillError(f"{error.filename or 'the system'}: {error.strerror or error}"))
    except Exception as error:
        if not hasattr(error, "format_message"):  # by which typer's own are known, whatever library it takes them from
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "synthdistill")
        _complain(RecipeError(error.format_message(), f"Look at: {command} --help"))


def _complain(error: SynthdistillError) -> NoReturn:
    from synthdistill import console

    console.complain(error)
    sys.exit(error.code)
