"""A systemd timer and its service in the user's own manager.

install({"synthdistill-x.service": "[Unit]...", "synthdistill-x.timer": "[Unit]..."})
remove("synthdistill-x")
"""

import os
import subprocess
from pathlib import Path

from synthdistill.errors import MissingError, storage


def folder() -> Path:
    """Where the user's units lie."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "systemd" / "user"


def quoted(word: str) -> str:
    """A word of `ExecStart=`, read back by systemd as it stands here (systemd.service(5), command lines; systemd.unit(5), specifiers)."""
    return '"' + plain(word).replace("$", "$$").replace('"', '\\"') + '"'


def plain(text: str) -> str:
    """A text that systemd takes to the end of the line, as a path."""
    return text.replace("%", "%%")


def install(units: dict[str, str]) -> None:
    """Write units and start the timers among them; where systemd refuses, what was there before is there again.

    Raises:
        MissingError: there is no systemd, or the user's manager does not run.
        StorageError: the folder cannot be written.
    """
    paths = {folder() / name: text for name, text in units.items()}
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    with storage(folder()):
        folder().mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
    try:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", *(name for name in units if name.endswith(".timer")))
    except MissingError:
        for path, content in before.items():
            path.unlink() if content is None else path.write_bytes(content)
        raise


def remove(name: str) -> str:
    """Stop a timer and delete it and its service; returns their text, empty where there was none.

    Raises:
        MissingError: there is no systemd, or the user's manager does not run; the files are left.
        StorageError: the folder cannot be written.
    """
    paths = [path for path in (folder() / f"{name}.service", folder() / f"{name}.timer") if path.exists()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    if paths:
        _systemctl("disable", "--now", f"{name}.timer")
        with storage(folder()):
            for path in paths:
                path.unlink()
        _systemctl("daemon-reload")
    return text


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingError("there is no program systemctl here", "Take --as cron") from error
    if done.returncode:
        words = "; ".join(done.stderr.split("\n")).strip("; ")
        hint = "The user's manager must run (loginctl enable-linger starts it); or take --as cron"
        raise MissingError(f"systemctl --user {arguments[0]} fails: {words or f'exit {done.returncode}'}", hint)
