"""What the command `report` writes: the page of a run, or of two side by side, and on request a summary in Markdown and a JUnit file.

found = write(run, None, markdown="summary.md", junit=Path("gate.xml"))
found.files                                   # {"report": ..., "markdown": ..., "junit": ...}
"""

from dataclasses import dataclass
from pathlib import Path

from synthdistill.errors import storage
from synthdistill.report import beside, page
from synthdistill.report import junit as cases
from synthdistill.report import markdown as text
from synthdistill.report.figures import load
from synthdistill.report.pairing import Pair
from synthdistill.runs import Run
from synthdistill.shards import seal

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Written:
    """The files by what they are, and the summary where it was asked for on stdout."""

    files: dict[str, str]
    summary: str | None


def write(run: Run, newer: Run | None, *, markdown: str | None = None, junit: Path | None = None) -> Written:
    """Write them; summary and JUnit file are of the newer run where there are two.

    Raises:
        UnfinishedError: a run is not evaluated.
        RecipeError: no prompt was answered in both runs.
        StorageError: a file cannot be read or written.
    """
    looked_at = newer or run
    pair = None if newer is None else Pair.of(newer, run)
    path = page.write(run) if pair is None else beside.write(pair)
    files, summary = {"report": str(path)}, None
    if markdown is not None:
        told = _summary(looked_at, pair)
        if markdown == STDOUT:
            summary = told
        else:
            files["markdown"] = _save(Path(markdown), told.encode())
    if junit is not None:
        files["junit"] = _save(junit, _cases(looked_at))
    return Written(files, summary)


def _summary(run: Run, pair: Pair | None) -> str:
    found = None if pair is None else beside.beside(pair)
    labels = (pair.this.label, pair.that.label) if pair else (run.name, "")
    return text.summary(run.folder.parent.name, labels[0], load(run), found, labels[1])


def _cases(run: Run) -> bytes:
    return cases.cases(run.folder.parent.name, run.name, load(run), page.stages(run)["eval"])


def _save(path: Path, data: bytes) -> str:
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    seal(path, data, rows=1)
    return str(path)
