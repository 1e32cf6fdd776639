"""What a call of `redistill` works with: the recipe, what the last call left, what came in since, the run in use.

desk = Desk(job, by_hand=False, clock=clock, told=told, notifier=notifier)
desk.take_in()
rules(desk.config.when, desk.facts())
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from synthdistill import hub
from synthdistill import prompts as prompts_room
from synthdistill.content import Contents
from synthdistill.errors import RecipeError
from synthdistill.manifest import Manifest, changed_keys, load, sealed, settings_of
from synthdistill.ops.notify import Notifier
from synthdistill.ops.registry import Registry
from synthdistill.prompt_template import Template, template_path
from synthdistill.redistill import essence, known
from synthdistill.redistill.due import Facts
from synthdistill.redistill.freeze import torn_at
from synthdistill.redistill.intake import Intake
from synthdistill.redistill.known import Known
from synthdistill.redistill.refit import refit
from synthdistill.redistill.signature import signature
from synthdistill.redistill.state import FOLDER, Source, State
from synthdistill.runs import Run
from synthdistill.sources import Row, read_rows, source_files
from synthdistill.stages import seen
from synthdistill.stages.run import STAGES, Job, sequence

BY = "redistill"
"""Who moved `current`, in the history."""
SOURCE = "source-new.bin"
TAKEN_IN = ("read", "new", "known", "repeated", "redacted")
"""What the intake counts that is no loss."""
Told = Callable[[str, Manifest], None]


@dataclass
class Desk:
    """All that a call works with. With `keeps` False nothing is written."""

    job: Job
    by_hand: bool
    notifier: Notifier
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    told: Told = lambda stage, manifest: None
    keeps: bool = True

    def __post_init__(self) -> None:
        self.recipe, self.config = self.job.recipe, self.job.recipe.redistill
        self.base = self.job.place.base
        self.runs = self.job.place.folder.parent
        self.folder = self.runs / FOLDER
        self.registry = Registry(self.runs, self.clock)
        self.office = Run(self.folder, self.base, self.job.place.recipe)

    @cached_property
    def state(self) -> State:
        """As the last call left it; read once the lock is held."""
        return State.load(self.folder)

    @cached_property
    def now(self) -> float:
        """When the call began, seconds since 1970."""
        return self.clock().timestamp()

    @cached_property
    def in_use(self) -> Run | None:
        """The run that was in use when the call began."""
        return self.registry.current()

    @cached_property
    def last(self) -> Run | None:
        """The newest run that was decided about, by a call or by a person who put it in use: what new prompts are new to."""
        if self.state.last is None or self._promoted_since is not None or load(self.runs / self.state.last / "generate") is None:
            return self.in_use
        return self.run_named(self.state.last)

    @cached_property
    def _promoted_since(self) -> float | None:
        """When a person put the run in use that is so, after the last run was decided about; None where nobody did."""
        moves = [entry for entry in self.registry.history() if entry.event in ("promoted", "rolled_back")]
        if not moves or self.in_use is None or moves[-1].event == "rolled_back" or moves[-1].by == BY or moves[-1].run != self.in_use.name:
            return None
        at = datetime.fromisoformat(moves[-1].at).timestamp()
        return at if self.state.last_at is None or at > self.state.last_at else None

    @property
    def _last_key(self) -> str | None:
        """What `last` is known by: a run that was made again is another one."""
        return f"{self.last.name} {sealed(self.last, 'generate').fingerprint[:8]}" if self.last else None

    @cached_property
    def known(self) -> Known:
        """The words of the prompts of that run."""
        return Known.of(self.last, self.folder, keep=self.keeps)

    @cached_property
    def contents(self) -> Contents:
        """How rows become prompts now."""
        return prompts_room.contents(self.recipe.prompts, self.base)

    @cached_property
    def student_template(self) -> Template | None:
        """What the student is asked with, where it is not asked as the teacher is."""
        name = self.recipe.train.template
        return Template(template_path(name, self.base, "[train] template")) if name else None

    @cached_property
    def intake(self) -> Intake:
        """The logged prompts that wait."""
        return Intake.open(self.folder)

    def refit(self, rows: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """Logged rows as the recipe of now can ask them, and how many cannot be asked."""
        return refit(rows, self.contents, self.student_template, id_column=self._id_column, columns=self._columns)

    @property
    def _id_column(self) -> str:
        return self.recipe.prompts.id or "id"

    @property
    def _columns(self) -> tuple[str, ...]:
        """What a row of the recipe has beside the columns of its template."""
        table = self.recipe.prompts
        return tuple(filter(None, (table.reference, table.group, *table.slices)))

    def run_named(self, name: str) -> Run:
        """A run of this recipe that `redistill` makes or made."""
        return Run(self.runs / name, self.base, self.job.place.recipe, again=f"synthdistill redistill {self.job.place.recipe}")

    def save(self) -> None:
        """Keep the state."""
        if self.keeps:
            self.state.save(self.folder)

    def take_in(self) -> None:
        """Find what is new in the recipe, in the files that it names, and in the logs."""
        self.take_in_recipe()
        self._take_in_logs()

    def _take_in_logs(self) -> None:
        config, columns = self.config, self.recipe.prompts
        if config.logs is None:
            return
        before = Counter(self.intake.counters)
        new = self.intake.read(
            config.logs,
            self.base,
            self.contents,
            self.student_template,
            known=lambda key: key in self.known or bytes.fromhex(key) in self.new_in_source,
            redact=config.redact,
            sample=config.sample,
            window=config.window,
            id_column=self._id_column,
            columns=self._columns,
            slices=tuple(columns.slices),
            group=columns.group,
            note=self.job.progress.note,
        )
        if new and self.keeps:
            self.intake.save()
        unfit = {reason: count - before[reason] for reason, count in self.intake.counters.items() if reason not in TAKEN_IN}
        if lost := ", ".join(f"{count} {reason}" for reason, count in unfit.items() if count):
            self.job.progress.note(f"[redistill] logs: requests that are no prompts of this recipe were passed over: {lost}")

    def take_in_recipe(self) -> None:
        """Find what is new in the recipe and in the files that it names; nothing is read where they are as they were."""
        values = self.recipe.model_dump(mode="json", exclude={"run", "gate", "redistill"})
        now = signature(values, self.base)
        if (now, self._last_key) != (self.state.source.signature, self.state.source.run):
            self.state.source = self._source(now)

    @cached_property
    def new_in_source(self) -> frozenset[bytes]:
        """The keys of the source's rows that the last run has not, as they were found when the source was last read."""
        return known.read(self.folder / SOURCE)

    def _source_files(self) -> Iterator[Path]:
        source = self.recipe.prompts.source
        for name in [source] if isinstance(source, str) else source:
            yield from () if hub.is_hub(name) else source_files(name, "[prompts] source", self.base)

    @cached_property
    def what(self) -> dict[str, Any]:
        """What decides a run but its rows, by stage, as the recipe is now."""
        return essence.essence({name: STAGES[name].what(self.job) for name in sequence(self.recipe)})

    def changes_since(self, run: Run, stages: tuple[str, ...]) -> list[str]:
        """The keys in which the recipe is another than the one that made these stages of a run."""
        before = essence.essence({name: settings_of(run.stage(name)) for name in stages})
        return [change for name in stages if name in before for change in changed_keys(before[name], self.what[name])]

    def _rows(self, file: Path) -> Iterator[Row]:
        """The rows of a file, but for a last line that somebody is just writing: it is looked at again when it is whole."""
        try:
            yield from read_rows(file, base=self.base)
        except RecipeError:
            if file.suffix.lower() != ".jsonl" or torn_at(file) is None:
                raise

    def _source(self, now: str) -> Source:
        changed = self.changes_since(self.last, tuple(sequence(self.recipe))) if self.last else []
        new = set()
        for file in self._source_files():
            for row in self._rows(file):
                content = self.contents.of(row)
                if not content.unfit and (key := seen.key(content.text)) not in self.known:
                    new.add(bytes.fromhex(key))
        self.new_in_source = frozenset(new)
        if self.keeps:
            known.write(self.folder / SOURCE, self.new_in_source)
        return Source(signature=now, run=self._last_key, new=len(new), changed=changed)

    def facts(self) -> Facts:
        """What the rules look at."""
        state, since = self.state, self.state.last_at
        if self._promoted_since is not None:
            since = self._promoted_since
        elif since is None and self.in_use and (evaluated := load(self.in_use.stage("eval"))):
            since = datetime.fromisoformat(evaluated.finished).timestamp()
        look_at = state.look.at if state.look else None
        return Facts(
            in_use=self.in_use is not None,
            new_prompts=self._new(),
            since_last_s=None if since is None else self.now - since,
            changed=state.source.changed,
            look=state.look,
            next_look_s=None if look_at is None else look_at + self.config.check_hours * 3600 - self.now,
            by_hand=self.by_hand,
        )

    def _new(self) -> int:
        """Prompts of source and logs that the last run has not, each once."""
        if self.config.logs is None:
            return self.state.source.new
        return self.intake.new + sum(not self.intake.holds(key.hex()) for key in self.new_in_source)
