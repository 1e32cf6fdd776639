"""Log files that grow, rotate, break and go away: each line is read once."""

import gzip
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
from production_logs import ASKED, append, lines, take, texts
from project import environment
from test_sources import compressed

from synthdistill.content import Contents
from synthdistill.errors import RecipeError
from synthdistill.redistill.intake import Intake


def test_what_was_appended_is_read_and_nothing_else(base):
    take(base)
    append(base / "logs" / "a.jsonl", "three")
    intake = take(base)

    assert texts(intake.pending) == ["one", "three", "two"]
    assert (intake.counters["read"], intake.window_seen, intake.new) == (3, 3, 3)


def test_nothing_new_is_nothing_to_save(base):
    take(base)
    intake = Intake.open(base / ".redistill")

    assert not intake.read("logs", base, Contents(None), None, **ASKED)


def test_a_line_that_is_being_written_is_read_when_it_is_whole(base):
    path = base / "logs" / "a.jsonl"
    whole = lines("three")
    path.write_text(path.read_text() + whole[:50])
    first = texts(take(base).pending)
    path.write_text(path.read_text() + whole[50:])
    intake = take(base)

    assert (first, texts(intake.pending)) == (["one", "two"], ["one", "three", "two"])
    assert intake.counters["read"] == 3


def test_a_last_line_without_its_end_is_read_where_it_is_whole(base):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines("one", "two").rstrip("\n"))
    first = take(base)
    with path.open("a") as handle:
        handle.write("\n" + lines("three"))

    assert texts(first.pending) == ["one", "two"]
    assert take(base).counters["read"] == 3


LONG = [f"{place} {'x' * 300}" for place in range(60)]
"""More than the first and last bytes by which a file is known again."""


def packed(suffix):
    def pack(path):
        path.with_name(path.name + suffix).write_bytes(compressed(path.read_bytes(), suffix))
        path.unlink()
        path.write_text(lines("new"))

    return pack


def renamed(name):
    def rename(path):
        path.rename(path.with_name(name))
        path.write_text(lines("new"))

    return rename


def copied_and_truncated(path):
    path.with_name("a.jsonl.1").write_bytes(path.read_bytes())
    path.write_text(lines("new"))


def rotated_while_it_grew(path):
    append(path, "late")
    renamed("a.jsonl.1")(path)


def packed_and_not_yet_taken_away(path):
    path.with_name("a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    append(path, "new")


ROTATIONS = {
    "renamed": (renamed("a.jsonl.1"), 1),
    "renamed to a name that comes before": (renamed("a-2026-11-25.jsonl"), 1),
    "with a date": (renamed("a.jsonl-20261125"), 1),
    "copied and truncated": (copied_and_truncated, 1),
    "packed as gz": (packed(".gz"), 1),
    "packed as zst": (packed(".zst"), 1),
    "after it grew": (rotated_while_it_grew, 2),
    "packed, the plain one still there": (packed_and_not_yet_taken_away, 1),
}


@pytest.mark.parametrize("size", [2, 14, 60])
@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_file_that_was_rotated_is_not_read_again(base, rotation, size):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines(*LONG[:size]))
    take(base)
    rotate, fresh = ROTATIONS[rotation]
    rotate(path)
    intake = take(base)

    assert (intake.counters["read"], intake.window_seen) == (size + fresh, size + fresh)
    assert not Intake.open(base / ".redistill").read("logs", base, Contents(None), None, **ASKED)


def test_a_chain_of_rotations_is_followed(base):
    path = base / "logs" / "a.jsonl"
    for number in range(4):
        path.write_text(lines(f"{number}a", f"{number}b"))
        take(base)
        for old in range(number, 0, -1):
            path.with_name(f"a.jsonl.{old}").rename(path.with_name(f"a.jsonl.{old + 1}"))
        path.rename(path.with_name("a.jsonl.1"))
    path.write_text(lines("last"))

    assert take(base).counters["read"] == 9


def test_a_file_that_was_written_anew_is_read_again_and_its_old_rows_are_not_new(base):
    take(base)
    (base / "logs" / "a.jsonl").write_text(lines("two", "three"))
    intake = take(base)

    assert texts(intake.pending) == ["one", "three", "two"]
    assert (intake.counters["new"], intake.counters["repeated"]) == (3, 1)


ROTATED = ["a.jsonl.1", "a.jsonl-20261125", "a.jsonl.2026-11-25_14-30", "a.jsonl.gz", "a.jsonl.1.zst"]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("name", ROTATED)
@pytest.mark.parametrize("logs", ["logs/a.jsonl", "logs/*.jsonl"])
def test_what_came_between_a_call_and_a_rotation_is_read(base, logs, name, fresh):
    path = base / "logs" / "a.jsonl"
    take(base, logs)
    append(path, "late")
    rotated = base / "logs" / name
    suffix = rotated.suffix if rotated.suffix in (".gz", ".zst") else None
    rotated.write_bytes(compressed(path.read_bytes(), suffix) if suffix else path.read_bytes())
    path.unlink()
    if fresh:
        path.write_text(lines("new"))
    intake = take(base, logs)

    assert texts(intake.pending) == sorted(["late", "one", "two", *(["new"] if fresh else [])])
    assert intake.counters["read"] == 3 + fresh


def test_a_neighbour_that_no_rotation_made_is_not_read(base):
    for name in ("a.jsonl.bak", "b.jsonl", "ab.jsonl.1", "a.jsonl.1.tmp"):
        (base / "logs" / name).write_text(lines("other"))

    assert take(base, "logs/a.jsonl").counters["read"] == 2


def test_a_file_and_its_links_are_one(base):
    (base / "logs" / "latest.jsonl").symlink_to("a.jsonl")
    (base / "logs" / "0.jsonl").hardlink_to(base / "logs" / "a.jsonl")
    first = take(base, ["logs", "logs/latest.jsonl"]).counters["read"]
    append(base / "logs" / "a.jsonl", "three")

    assert (first, take(base, ["logs", "logs/latest.jsonl"]).counters["read"]) == (2, 3)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_and_its_packed_copy_are_read_once(base, suffix):
    path = base / "logs" / "a.jsonl"
    whole = compressed(path.read_bytes(), suffix)
    copy = base / "logs" / f"a.jsonl{suffix}"
    copy.write_bytes(whole)
    append(path, "three")
    first = take(base).counters["read"]
    copy.write_bytes(compressed(path.read_bytes() + lines("four").encode(), suffix))
    path.unlink()

    assert (first, take(base).counters["read"]) == (3, 4)


def test_a_packed_file_that_was_unpacked_beside_itself_is_not_read_again(base):
    path = base / "logs" / "a.jsonl"
    whole = path.read_bytes()
    path.unlink()
    (base / "logs" / "a.jsonl.gz").write_bytes(gzip.compress(whole))
    take(base)
    path.write_bytes(whole)

    assert take(base).counters["read"] == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_grew_gives_what_is_new(base, suffix):
    path = base / "logs" / f"b.jsonl{suffix}"
    for number in range(3):
        with path.open("ab") as handle:
            handle.write(compressed(lines(f"{number} {'x' * 9000}", f"{number} other").encode(), suffix))
        intake = take(base)

    assert (intake.counters["read"], intake.new) == (8, 8)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_is_still_being_copied_is_noted_and_read_on_later(base, suffix):
    whole = compressed(lines(*(f"{place} {os.urandom(100).hex()}" for place in range(2000))).encode(), suffix)
    path = base / "logs" / f"b.jsonl{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    notes = []
    first = take(base, note=notes.append, sample=5000).counters["read"]
    path.write_bytes(whole)
    second = take(base, note=notes.append, sample=5000)

    assert 100 < first < 2002
    assert (second.counters["read"], second.new) == (2002, 2002)
    assert [note.partition(":")[0] for note in notes] == [f"logs/b.jsonl{suffix} cannot be unpacked"]


def test_other_files_of_a_folder_are_passed_over(base):
    for name in ("notes.txt", ".hidden.jsonl", "a.csv", "a.jsonl.tmp"):
        (base / "logs" / name).write_text(lines("other"))
    (base / "logs" / "deep.jsonl").mkdir()

    assert take(base).counters["read"] == 2


def test_patterns_and_lists_mean_what_they_mean_for_a_source(base):
    (base / "logs" / "deep").mkdir()
    (base / "logs" / "deep" / "b.jsonl").write_text(lines("three"))

    assert take(base, ["logs/*.jsonl", "logs/a.jsonl", f"{base}/logs/**/b.jsonl"]).counters["read"] == 3


def test_where_nothing_is_yet_nothing_is_new(tmp_path):
    (tmp_path / "empty").mkdir()

    assert take(tmp_path, ["empty", "later/*.jsonl"]).counters == Counter()


@pytest.mark.parametrize("name", ["logs/b.jsonl", "later", "later/*.jsonl"])
def test_what_is_not_there_yet_is_noted_once_and_read_when_it_is(base, name):
    notes = []
    first = take(base, [name, "logs/a.jsonl"], note=notes.append)
    path = base / name.replace("later", "later/b.jsonl").removesuffix("/*.jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_text(lines("three"))

    assert (first.new, take(base, [name, "logs/a.jsonl"]).new, len(notes)) == (2, 3, 1)
    assert notes[0].startswith(f"[redistill] logs: {name} ")


def test_a_named_file_that_is_away_for_a_moment_is_waited_for_in_silence(base):
    notes = []
    take(base, "logs/a.jsonl")
    (base / "logs" / "a.jsonl").unlink()

    assert (take(base, "logs/a.jsonl", note=notes.append).new, notes) == (2, [])


def test_a_file_that_is_no_jsonl_is_refused(base):
    (base / "a.csv").write_text("text\none\n")

    with pytest.raises(RecipeError, match=r"a\.csv ends in \.csv, expected \.jsonl"):
        take(base, "a.csv")


def test_a_file_system_that_was_away_is_not_read_again(base):
    take(base)
    (base / "logs").rename(base / "away")
    take(base, "logs/*.jsonl")
    (base / "away").rename(base / "logs")

    assert take(base, "logs/*.jsonl").counters["read"] == 2


DAY = 86_400.0


@pytest.mark.parametrize(("days", "read"), [(29, 3), (31, 5)])
def test_a_folder_that_was_away_for_a_month_is_still_known(base, days, read):
    (base / "other").mkdir()
    (base / "other" / "b.jsonl").write_text(lines("three"))
    began = time.time()
    take(base, ["logs", "other"], now=began)
    (base / "logs").rename(base / "away")
    take(base, ["logs", "other"], now=began + DAY)
    take(base, ["logs", "other"], now=began + DAY + days * DAY)
    (base / "away").rename(base / "logs")

    assert take(base, ["logs", "other"], now=began + 40 * DAY).counters["read"] == read


@pytest.mark.parametrize("end", ['{"request": {"mess', "no JSON"])
def test_a_last_line_that_never_ends_is_counted_once_after_a_day(base, end):
    path = base / "logs" / "a.jsonl"
    path.write_text(lines("one") + end)
    written, notes = path.stat().st_mtime, []
    counters = [take(base, now=written + hours * 3600, note=notes.append).counters["unreadable"] for hours in (0, 23, 25, 50)]
    append(path, "two")

    assert (counters, notes) == ([0, 0, 1, 1], ["logs/a.jsonl: 1 line is no JSON object, passed over"])
    assert texts(take(base).pending) == ["one", "two"]


def test_a_file_that_may_not_be_read_is_noted_and_the_others_are_read(base):
    append(base / "logs" / "b.jsonl", "three")
    (base / "logs" / "a.jsonl").unlink()
    (base / "logs" / "a.jsonl").symlink_to("/proc/self/mem")  # opens, and cannot be read from its beginning, even by root
    notes = []

    assert texts(take(base, note=notes.append).pending) == ["three"]
    assert notes == ["logs/a.jsonl cannot be read: Input/output error"]


WATCHED = """
import os, sys
from pathlib import Path
from synthdistill.content import Contents
from synthdistill.redistill.intake import Intake
base = Path(sys.argv[1])
intake = Intake.open(base / ".redistill")
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
new = intake.read("logs", base, Contents(None), None, known=lambda key: False, redact=True, sample=9, window=9, note=print)
print(new, len([name for name in opened if name.startswith(str(base))]))
"""


def watched(base):
    return subprocess.run([sys.executable, "-c", WATCHED, base], env=environment(), capture_output=True, text=True, check=True).stdout


def test_a_folder_as_it_was_opens_no_file(base):
    for number in range(50):
        (base / "logs" / f"{number}.jsonl").write_text(lines(str(number)))
    before = watched(base)
    take(base)

    assert (before, watched(base)) == ("True 51\n", "False 0\n")
