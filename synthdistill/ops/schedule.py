"""What calls `redistill` again and again: a crontab line, a systemd timer, a Kubernetes CronJob or a GitHub workflow.

    print(write(Path("recipe.toml"), "cron", "0 3 * * *", env_file=Path("secrets.env"), install=False, note=print).text)
    remove(Path("recipe.toml"), "cron")

A schedule names the variables that a call needs, and the file that holds them; a value it never sees.
"""

import hashlib
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from synthdistill import recipe as recipes
from synthdistill.errors import RecipeError, require, storage
from synthdistill.ops import crontab, environment, units

KINDS = ("cron", "systemd", "kubernetes", "github")
LOCAL = ("cron", "systemd")
"""Those that can be installed from here. The others call from elsewhere, with secrets of their own."""
_ROOM = Path(__file__).parent.parent / "templates" / "schedule"
_FIELDS = re.compile(r"[A-Za-z0-9*,/-]+( [A-Za-z0-9*,/-]+){4}|@(hourly|daily|midnight|weekly|monthly|yearly|annually)")
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


@dataclass(frozen=True, slots=True)
class Schedule:
    """What was printed, installed or removed. `log` is where the calls write, None where another machine keeps that."""

    kind: str
    text: str
    installed: bool
    variables: list[str]
    log: str | None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Call:
    """`redistill` of a recipe, from no folder and no environment in particular. Paths are absolute."""

    recipe: Path
    name: str
    runs: Path
    """The folder that holds `NAME/redistill.log`."""
    variables: list[str]
    """Names of the environment variables without which it fails."""
    env_file: Path | None

    @property
    def log(self) -> Path:
        """Where what it prints goes."""
        return self.runs / self.name / "redistill.log"

    @property
    def words(self) -> list[str]:
        """The command. Python's -P, as a module of the folder that cron starts in must not stand for one of the library's."""
        env_file = ["--env-file", str(self.env_file)] if self.env_file else []
        return [sys.executable, "-P", "-m", "synthdistill", "redistill", str(self.recipe), "--quiet", *env_file]

    @property
    def needs(self) -> str:
        """The variables and where they come from, for a comment."""
        here = f"from {self.env_file}" if self.env_file else "which are not set there: name a file of them with --env-file"
        return f"{', '.join(self.variables)}, {here}"


def write(path: Path, kind: str, at: str, *, env_file: Path | None, install: bool, note: Callable[[str], None]) -> Schedule:
    """The text that calls `redistill` at those times; with `install`, put where it works. What it replaces is this recipe's own.

    Raises:
        RecipeError: the recipe, the kind, the times or the env file is wrong, or the kind cannot be installed from here.
        MissingError: the extra `redistill`, `crontab` or systemd is missing.
        StorageError: the log's folder cannot be made.
    """
    _known(kind)
    if kind not in LOCAL and (install or env_file):
        option = "--install" if install else "--env-file"
        raise RecipeError(
            f"{option} does not go with --as {kind}", "Leave it out: the text is for you to apply there, with its own secrets"
        )
    call, times = _call(path, env_file), fields(at)
    _writable(call)
    if env_file:
        _complete(call, env_file)
    text = {"cron": _cron, "systemd": _systemd, "kubernetes": _kubernetes, "github": _github}[kind](call, times)
    if install:
        _install(kind, call, times, note)
    return Schedule(kind, text, install, call.variables, str(call.log) if kind in LOCAL else None)


def remove(path: Path, kind: str) -> Schedule:
    """Take a recipe's schedule away; its text is empty where there was none. The recipe itself need not be there any more.

    Raises:
        RecipeError: the kind is unknown, or is none that is installed from here.
        MissingError: `crontab` or systemd is missing, or refuses.
    """
    _known(kind)
    if kind not in LOCAL:
        raise RecipeError(f"--remove does not go with --as {kind}", "Remove it where you applied it")
    recipe = recipes.find(path).resolve()
    text = "\n".join(crontab.replace(_mark(recipe), [])) if kind == "cron" else units.remove(_unit(recipe))
    return Schedule(kind, text, False, [], None)


def fields(at: str) -> str:
    """The five fields of a cron expression, or of its short form, as @daily.

    Raises:
        RecipeError: it is none.
        MissingError: the extra `redistill` is not installed.
    """
    require("crontab", "redistill", "schedule")
    from crontab import CronSlices

    times = " ".join(at.split())
    if not _FIELDS.fullmatch(times) or not CronSlices.is_valid(times):
        hint = 'Give five fields, minute hour day month weekday, as --at "0 3 * * *" for three at night; or @hourly, @daily, @weekly'
        raise RecipeError(f"--at {at[:60]!r} is no time of cron's", hint)
    return str(CronSlices(times).clean_render()) if times.startswith("@") else times


def calendar(times: str) -> str:
    """Five cron fields as `OnCalendar=` (systemd.time(7)), every value written out.

    Raises:
        RecipeError: day and weekday are both restricted. Cron means either, systemd both.
    """
    from crontab import CronSlices

    _, _, day, _, weekday = times.split()
    if not day.startswith("*") and not weekday.startswith("*"):
        hint = "Restrict one of them, or take --as cron"
        raise RecipeError(f"--at {times!r} names days and weekdays: cron calls on either, a systemd timer only where both meet", hint)
    values = [None if len(each) == each.max - each.min + 1 else sorted(each) for each in CronSlices(times)]
    minutes, hours, days, months = ("*" if each is None else ",".join(f"{value:02}" for value in each) for each in values[:4])
    named = "" if values[4] is None else ",".join(_DAYS[value] for value in values[4]) + " "
    return f"{named}*-{months}-{days} {hours}:{minutes}:00"


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise RecipeError(f"--as {kind!r} is unknown", f"Known: {', '.join(KINDS)}")


def _call(path: Path, env_file: Path | None) -> Call:
    path = recipes.find(path)
    recipe = recipes.load(path)
    key = getattr(recipe.teacher, "api_key_env", None)
    variables = list(dict.fromkeys([*([key] if key else []), *recipe.redistill.notify.variables()]))
    runs = recipe.place(path, "main").folder.parent.parent
    return Call(path.resolve(), recipe.name, runs, variables, env_file.absolute() if env_file else None)


def _writable(call: Call) -> None:
    for text in (*call.words, str(call.log), *call.variables):
        if not text.isprintable() or "\\" in text:
            raise RecipeError(f"{text!r} cannot stand in a schedule", "Use a name without backslashes and control characters")


def _complete(call: Call, env_file: Path) -> None:
    there = environment.names(env_file)
    missing = [name for name in call.variables if name not in there]
    if missing:
        raise RecipeError(f"the env file {env_file} gives no value to {', '.join(missing)}", "Add a line NAME=value for each")


def _cron(call: Call, times: str) -> str:
    """A line of a crontab, below one that tells of variables. Cron takes a bare % for the end of the command (crontab(5))."""
    mark = _mark(call.recipe)
    comment = [f"# needs the variables {call.needs} {mark}"] if call.variables else []
    made = f"mkdir -p {shlex.quote(str(call.log.parent))}"  # the first call comes before the first run
    command = f"{made}; {shlex.join(call.words)} >> {shlex.quote(str(call.log))} 2>&1".replace("%", "\\%")
    return "\n".join([*comment, f"{times} {command} {mark}"])


def _mark(recipe: Path) -> str:
    """How each of our lines for a recipe ends."""
    return f"# synthdistill {recipe}".replace("%", "\\%")


def _systemd(call: Call, times: str) -> str:
    return "\n".join(f"# {units.folder() / name}\n{text}" for name, text in _units(call, times).items())


def _units(call: Call, times: str) -> dict[str, str]:
    """File -> text of the timer and its service."""
    values = {"folder": call.recipe.parent, "calendar": calendar(times)}
    of_call = {name: getattr(call, name) for name in ("recipe", "variables", "needs", "words", "log")}
    return {f"{_unit(call.recipe)}.{kind}": _rendered(f"synthdistill.{kind}", **values, **of_call) for kind in ("service", "timer")}


def _unit(recipe: Path) -> str:
    """A name that a person knows again and that no recipe of another folder has."""
    folder = re.sub(r"[^A-Za-z0-9_-]+", "-", recipe.parent.name)[:60]
    return f"synthdistill-{folder}-{hashlib.sha256(str(recipe).encode()).hexdigest()[:8]}"


def _kubernetes(call: Call, times: str) -> str:
    inside = f"/recipe/{call.recipe.name}"
    outside = None if call.runs.is_relative_to(call.recipe.parent) else call.runs
    values = {"folder": call.recipe.parent, "inside": inside, "outside": outside}
    return _rendered("kubernetes.yaml", name=_job(call.name), at=_numbered(times), variables=call.variables, **values)


def _github(call: Call, times: str) -> str:
    root = next((folder for folder in call.recipe.parents if (folder / ".git").exists()), call.recipe.parent)
    inside = partial(_inside, root)
    command = shlex.join(["synthdistill", "redistill", inside(call.recipe), "--quiet"])
    values = {"command": command, "runs": inside(call.runs / call.name)}
    return _rendered("github.yaml", name=_job(call.name), at=_numbered(times), variables=call.variables, **values)


def _inside(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _job(name: str) -> str:
    """A name that Kubernetes takes for a CronJob: small letters, digits and dashes, at most 52."""
    return re.sub(r"[^a-z0-9]+", "-", f"synthdistill-{name}".lower())[:52].strip("-")


def _numbered(times: str) -> str:
    """Fields in which Sunday is 0, which all take; 7 is cron's only."""
    from crontab import CronSlices

    return str(CronSlices(times).clean_render())


def _rendered(template: str, **values: Any) -> str:
    room = Environment(
        loader=FileSystemLoader(_ROOM),
        undefined=StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        trim_blocks=True,
    )  # {{ }} is GitHub's
    room.filters |= {"plain": lambda text: units.plain(str(text)), "quoted": units.quoted}
    return room.get_template(template).render(values) + "\n"


def _install(kind: str, call: Call, times: str, note: Callable[[str], None]) -> None:
    with storage(call.log.parent):
        call.log.parent.mkdir(parents=True, exist_ok=True)
    if kind == "cron":
        crontab.replace(_mark(call.recipe), _cron(call, times).split("\n"))
    else:
        units.install(_units(call, times))
    if call.variables and not call.env_file:
        note(f"{kind} does not have your variables, and redistill needs {', '.join(call.variables)}: install again with --env-file PATH")
