"""The user's crontab, as text: lines of ours are found by how they end, and every other line stays as it is, byte for byte.

replace("# synthdistill /srv/triage/recipe.toml", ["0 3 * * * ... # synthdistill /srv/triage/recipe.toml"])
replace("# synthdistill /srv/triage/recipe.toml", [])   # takes it out again
"""

import os
import subprocess

from synthdistill.errors import MissingError


def replace(mark: str, lines: list[str]) -> list[str]:
    """Put lines in the place of those that end with `mark`, at the end where there are none; returns those that were there.

    Raises:
        MissingError: there is no program `crontab`, or it refuses.
    """
    before = _read()
    ours = [line for line in before if line.endswith(mark)]
    after = [line for line in before if not line.endswith(mark)]
    place = before.index(ours[0]) if ours else len(before)
    after[place:place] = lines
    if after != before:
        _write(after)
    return ours


def _read() -> list[str]:
    done = _crontab("-l")
    if done.returncode and b"no crontab for" not in done.stderr:
        raise _refused(done)
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n") if done.stdout else []


def _write(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    done = _crontab("-", text=text.encode("utf-8", "surrogateescape")) if lines else _crontab("-r")
    if done.returncode:
        raise _refused(done)


def _crontab(argument: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["crontab", argument], input=text, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"})
    except FileNotFoundError as error:
        raise MissingError("there is no program crontab here", "apt install cron, or take --as systemd") from error


def _refused(done: subprocess.CompletedProcess[bytes]) -> MissingError:
    words = "; ".join(done.stderr.decode("utf-8", "replace").split("\n")).strip("; ")
    return MissingError(f"crontab refuses: {words or f'exit {done.returncode}'}", "Nothing was changed; mend that, or take --as systemd")
