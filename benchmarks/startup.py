"""What `--help` costs, beside the `--help` of an empty typer app with as many commands, options and words.

    python benchmarks/startup.py [--quick]

The empty app is written here from our own: same names, same kinds of parameters, help texts of the same length, bodies that do nothing.
Both start the way an installed program does, by turns; what counts is the CPU of the process (user and system), which a neighbour's
work disturbs less than the clock. The figure is the median over the turns of ours divided by the empty one's.

One JSON line a figure: name, value, target, holds, how. Exit 1 when a target is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer.core
import typer.main

from synthdistill.cli import app

TARGET = 1.4
OURS = "import sys\n\nfrom synthdistill.__main__ import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
EMPTY = "import sys\n\nfrom empty_app import app\n\nif __name__ == '__main__':\n    sys.exit(app())\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 turns a command in place of 15")
    turns = 5 if parser.parse_args().quick else 15
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    held = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty_app.py").write_text(empty_app(group), encoding="utf-8")
        (folder / "ours.py").write_text(OURS, encoding="utf-8")
        (folder / "empty.py").write_text(EMPTY, encoding="utf-8")
        for command in (None, *group.commands):
            found = figure(folder, command, turns)
            print(json.dumps(found), flush=True)
            held = held and found["holds"]
    return 0 if held else 1


def figure(folder: Path, command: str | None, turns: int) -> dict[str, Any]:
    """The ratio for one `--help`."""
    arguments = ["--help"] if command is None else [command, "--help"]
    cpu(folder / "ours.py", arguments), cpu(folder / "empty.py", arguments)  # the first start compiles
    pairs = [(cpu(folder / "ours.py", arguments), cpu(folder / "empty.py", arguments)) for _ in range(turns)]
    ratio = statistics.median(ours / empty for ours, empty in pairs)
    ours, empty = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
    how = f"CPU of {' '.join(arguments)}, median of {turns} alternating turns; {ours:.0f} ms beside {empty:.0f} ms"
    return {"name": f"help_cpu_ratio.{command or 'all'}", "value": round(ratio, 3), "target": TARGET, "holds": ratio <= TARGET, "how": how}


def cpu(program: Path, arguments: list[str]) -> float:
    """Seconds of CPU, user and system, of one start."""
    started = subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"{program.name} {' '.join(arguments)} exited {started.returncode}")
    return used.ru_utime + used.ru_stime


def empty_app(group: typer.core.TyperGroup) -> str:
    """The source of an app with the same surface that does nothing."""
    lines = [
        "from pathlib import Path",
        "from typing import Annotated",
        "",
        "import typer",
        "",
        f"app = typer.Typer(help={alike(group.help)!r}, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)",
    ]
    for name, command in group.commands.items():
        parameters = "".join(f"    {parameter(each)},\n" for each in command.params)
        lines += ["", "", f"@app.command({name!r})", f"def {name.replace('-', '_')}_(\n{parameters}) -> None:"]
        lines.append(f"    {alike(command.help)!r}")
    return "\n".join(lines) + "\n"


def parameter(each: Any) -> str:
    """One parameter of a function that typer reads."""
    words = alike(each.help)
    if isinstance(each, typer.core.TyperArgument):
        kind, made = "Path", f"typer.Argument(metavar={each.metavar!r}, help={words!r})"
    else:
        kind = "bool" if each.is_flag else "list[str]" if each.multiple else "str"
        made = f"typer.Option({', '.join(map(repr, each.opts))}, help={words!r})"
    default = "" if each.required else " = False" if kind == "bool" else " = []" if kind == "list[str]" else " = None"
    return f"{each.name}: Annotated[{kind}, {made}]{default}"


def alike(words: str | None) -> str:
    """Other words of the same lengths."""
    return "".join("x" if letter.isalnum() else " " for letter in words or "")


if __name__ == "__main__":
    sys.exit(main())
