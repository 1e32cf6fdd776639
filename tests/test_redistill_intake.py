"""What waits of production's requests: kept whole, whatever is killed; nothing personal on disk."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from production_logs import ASKED, append, key, lines, log, take, texts
from project import environment, jsonl

from synthdistill.content import Contents
from synthdistill.errors import StorageError
from synthdistill.redistill.intake import Intake
from synthdistill.sources import read_rows

# the store


def test_the_window_holds_known_prompts_too_and_begins_anew(base):
    intake = take(base, known=lambda key: True)
    shown = [(row["text"], row["answer"], row["model"], row["fields"]) for row in sorted(intake.window, key=lambda row: row["text"])]
    intake.looked()
    intake.save()
    append(base / "logs" / "a.jsonl", "three", "three")
    again = take(base, known=lambda key: True)

    assert shown == [("one", "ok", "big-1", {}), ("two", "ok", "big-1", {})]
    assert ([row["text"] for row in again.window], again.window_seen, again.pending) == (["three"], 2, [])


def test_more_may_come_than_wait(base):
    append(base / "logs" / "a.jsonl", *map(str, range(100)))
    intake = take(base, sample=10, window=5)

    assert (intake.new, len(intake.pending), len(intake.window), intake.window_seen) == (102, 10, 5, 102)
    assert len(take(base, sample=10, window=5).pending) == 10


def test_a_store_is_as_it_was_saved(base):
    intake = take(base, sample=1)
    again = Intake.open(base / ".redistill")

    assert (again.pending, again.window, again.new, again.counters) == (intake.pending, intake.window, intake.new, intake.counters)


def test_nothing_is_on_disk_before_it_is_saved(base):
    intake = Intake.open(base / ".redistill")
    intake.read("logs", base, Contents(None), None, **ASKED)

    assert not (base / ".redistill").exists()


def test_after_adoption_the_same_words_are_new_only_where_nobody_knows_them(base):
    intake = take(base, sample=1)
    adopted = {key(row.values["request"]["messages"][-1]["content"]) for row in read_rows(intake.adopt(base / "run" / "rows.jsonl"))}
    intake.save()
    append(base / "logs" / "a.jsonl", "one", "two")
    again = take(base, known=adopted.__contains__)

    assert (again.new, len(again.pending), len(adopted)) == (1, 1, 1)


PRIVATE = ["ann@example.com", "4111 1111 1111 1111", "+49 171 1234567", "DE89 3704 0044 0532 0130 00", "sk-abcdefghij0123456789"]


@pytest.mark.parametrize("form", ["logs", "columns"])
def test_personal_data_is_in_no_file(base, templates, form):
    private = [log(f"Classify this.\n\nI am {text}", answer=f"Hello {text}", channel=text, user=text) for text in PRIVATE]
    private += [{"text": text, "channel": text} for text in PRIVATE]
    private[0]["request"]["tools"] = [{"type": "function", "function": {"name": "mail"}}]
    jsonl(base / "logs" / "a.jsonl", private)
    intake = take(base, **(templates if form == "columns" else {}), columns=("channel",), slices=("channel",), group="channel")
    intake.adopt(base / ".redistill" / "logged" / "rows.jsonl")
    intake.save()
    take(base, known=lambda key: False)
    files = [path for path in (base / ".redistill").rglob("*") if path.is_file()]
    found = {text for text in PRIVATE for path in files if text.encode() in path.read_bytes()}

    assert (found, len(files) >= 4, intake.counters["redacted"] > 10) == (set(), True, True)


def test_requests_that_differ_in_personal_data_only_are_the_same(base):
    (base / "logs" / "a.jsonl").write_text(lines("I am a@b.de", "I am c@d.de"))
    stored = take(base).pending

    assert (texts(stored), take(base).counters["repeated"]) == (["I am <EMAIL>"], 1)


def test_without_redaction_a_text_is_stored_as_it_is(base):
    (base / "logs" / "a.jsonl").write_text(lines("I am a@b.de"))

    assert texts(take(base, redact=False).pending) == ["I am a@b.de"]


@pytest.mark.parametrize("name", ["pending-1.jsonl", "window-1.jsonl", "keys-0.bin"])
def test_a_store_that_lacks_a_part_is_refused_in_one_line(base, name):
    take(base)
    (base / ".redistill" / name).write_bytes(b"x")

    with pytest.raises(StorageError, match=rf"{name} is not as it was written"):
        content(Intake.open(base / ".redistill"))


def test_a_store_of_a_later_version_is_refused(base):
    take(base)
    (base / ".redistill" / "intake.json").write_text('{"format": 2}')

    with pytest.raises(StorageError, match=r"intake\.json has format 2, this version reads 1"):
        Intake.open(base / ".redistill")


# kills


def content(intake):
    return {
        "pending": intake.pending,
        "window": intake.window,
        "window_seen": intake.window_seen,
        "new": intake.new,
        "counters": intake.counters,
    }


def test_a_crash_before_the_state_is_replaced_leaves_the_store_as_it_was(base):
    """A folder stands where the state would be written: the rows are on disk already, and no state names them."""
    before = content(take(base))
    append(base / "logs" / "a.jsonl", "three")
    in_the_way = base / ".redistill" / f".intake.json.{os.getpid()}.tmp"
    in_the_way.mkdir()
    with pytest.raises(StorageError):
        take(base)
    found = content(Intake.open(base / ".redistill"))
    in_the_way.rmdir()
    after = take(base)

    assert found == before
    assert (texts(after.pending), after.counters["read"]) == (["one", "three", "two"], 3)
    assert sorted(path.name for path in (base / ".redistill").iterdir()) == [
        "intake.json",
        "keys-0.bin",
        "pending-2.jsonl",
        "window-2.jsonl",
    ]


WORKER = """
import sys
from pathlib import Path
from synthdistill.content import Contents
from synthdistill.redistill.intake import Intake
base = Path(sys.argv[1])
options = {"known": lambda key: key[0] == "0", "redact": True, "sample": 50, "window": 30, "note": print}
print("began", flush=True)
for source in sorted((base / "production").iterdir()):
    path, whole = base / "logs" / source.name, source.read_bytes()
    while not path.exists() or path.stat().st_size < len(whole):
        with path.open("ab") as handle:
            handle.write(whole[handle.tell() : handle.tell() + 1500])
        intake = Intake.open(base / ".redistill")
        if intake.read("logs", base, Contents(None), None, **options):
            intake.save()
intake = Intake.open(base / ".redistill")
if intake.read("logs", base, Contents(None), None, **options):
    intake.save()
"""


def production(base):
    """Twenty files of logs, some of whose requests are the same, as they will be when they are whole."""
    for name in ("logs", "production"):
        (base / name).mkdir(parents=True)
    for number in range(20):
        asked = [f"{place} call +49 171 1234567" for place in range(number * 5, number * 5 + 8)]
        (base / "production" / f"{number}.jsonl").write_text(lines(*asked))
    return base


def work(base):
    subprocess.run([sys.executable, "-c", WORKER, base], env=environment(), check=True, capture_output=True)
    return content(Intake.open(base / ".redistill"))


def test_twenty_kills_at_any_moment_change_nothing(tmp_path):
    """A process lets logs grow, a piece of a line at a time, and takes them in after each piece."""
    began = time.monotonic()
    expected = work(production(tmp_path / "undisturbed"))
    seconds = time.monotonic() - began
    base = production(tmp_path / "killed")
    chance = random.Random(4)
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", WORKER, base], env=environment(), stdout=subprocess.PIPE) as worker:
            worker.stdout.readline()
            time.sleep(chance.random() * seconds / 10)
            worker.send_signal(signal.SIGKILL)

    assert work(base) == expected
    assert {path.name.partition("-")[0] for path in (base / ".redistill").iterdir()} == {"intake.json", "keys", "pending", "window"}
    assert expected["counters"]["read"] == 160
