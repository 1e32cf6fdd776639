import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import environment

from synthdistill import shards
from synthdistill.errors import StorageError
from synthdistill.records import Failure, digest


def failure(number: int, message: str = "no") -> Failure:
    return Failure(digest(number), digest("prompt", number), 0, "http", message, 1, True)


ROWS = [failure(number) for number in range(50)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_journal_gives_back_what_was_appended(tmp_path):
    with shards.Journal(tmp_path, "rows") as journal:
        for row in ROWS:
            journal.append(row)

    assert list(shards.replay(tmp_path, "rows", Failure)) == ROWS


def test_a_row_is_in_the_file_before_append_returns(tmp_path):
    journal = shards.Journal(tmp_path, "rows")
    journal.append(ROWS[0])

    assert list(shards.replay(tmp_path, "rows", Failure)) == ROWS[:1]
    journal.close()


def test_a_journal_without_rows_leaves_no_file(tmp_path):
    with shards.Journal(tmp_path, "rows"):
        pass

    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_a_torn_last_line_is_dropped_and_only_that(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    with shards.Journal(folder, "rows") as journal:
        for row in ROWS[:5]:
            journal.append(row)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut])

    assert list(shards.replay(folder, "rows", Failure)) == ROWS[: whole[:-cut].count(b"\n")]


def test_a_whole_line_that_is_no_row_is_an_error_that_names_file_and_line(tmp_path):
    with shards.Journal(tmp_path, "rows") as journal:
        for row in ROWS[:3]:
            journal.append(row)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + b"\x00\x00\x00\n" + lines[2])

    with pytest.raises(StorageError, match=rf"{journal.path.name} line 2 is no Failure"):
        list(shards.replay(tmp_path, "rows", Failure))


def test_the_journals_of_several_processes_are_read_oldest_first(tmp_path, monkeypatch):
    for number, process in enumerate((99, 100, 7)):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with shards.Journal(tmp_path, "rows") as journal:
            journal.append(ROWS[number])

    assert list(shards.replay(tmp_path, "rows", Failure)) == ROWS[:3]


def test_the_journal_of_another_stem_is_not_read(tmp_path):
    with shards.Journal(tmp_path, "others") as journal:
        journal.append(ROWS[0])

    assert list(shards.replay(tmp_path, "rows", Failure)) == []


@given(st.permutations(range(50)))
@settings(max_examples=10, deadline=None)
def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path_factory, order):
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    shards.write(one, "rows", ROWS, shards=4)
    shards.write(other, "rows", [ROWS[place] for place in order], shards=4)

    assert bytes_of(one) == bytes_of(other)


def test_no_row_is_lost_between_writing_and_reading(tmp_path):
    shards.write(tmp_path, "rows", ROWS, shards=4)

    assert sorted(shards.read(tmp_path, "rows", Failure), key=lambda row: row.id) == sorted(ROWS, key=lambda row: row.id)


def test_the_list_of_outputs_is_what_lies_on_disk(tmp_path):
    outputs = shards.write(tmp_path, "rows", ROWS, shards=4)

    found = {name: (len(data.splitlines()), len(data), hashlib.sha256(data).hexdigest()) for name, data in bytes_of(tmp_path).items()}
    assert {output.file: (output.rows, output.bytes, output.sha256) for output in outputs} == found


def test_rows_of_one_key_share_a_shard(tmp_path):
    rows = [Failure(digest(number), digest("prompt", number % 5), number, "http", "", 1, True) for number in range(60)]
    shards.write(tmp_path, "rows", rows, shards=8, key="prompt_id")

    places: dict[str, set[str]] = {}
    for path in tmp_path.iterdir():
        for line in path.read_bytes().splitlines():
            places.setdefault(shards.decode(line, Failure).prompt_id, set()).add(path.name)
    assert {len(found) for found in places.values()} == {1}


def test_a_file_with_the_bytes_of_an_earlier_run_is_a_link_to_it(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    outputs = shards.write(old, "rows", ROWS, shards=2)
    shards.write(new, "rows", ROWS, shards=2, twins={output.sha256: old / output.file for output in outputs})

    assert all((new / output.file).samefile(old / output.file) for output in outputs)


def test_where_a_link_cannot_be_had_the_file_is_written(tmp_path):
    twins = {output.sha256: tmp_path / "gone" / output.file for output in shards.write(tmp_path, "rows", ROWS, shards=1)}
    (output,) = shards.write(tmp_path, "again", ROWS, shards=1, twins=twins)

    assert (tmp_path / output.file).read_bytes() == (tmp_path / "rows-00000.jsonl").read_bytes()


def test_a_twin_that_was_changed_since_it_was_sealed_is_not_taken(tmp_path):
    first = shards.seal(tmp_path / "old", b"old\n", rows=1)
    (tmp_path / "old").write_bytes(b"odd\n")
    shards.seal(tmp_path / "new", b"old\n", rows=1, twins={first.sha256: tmp_path / "old"})

    assert (tmp_path / "new").read_bytes() == b"old\n"


def test_sealing_again_leaves_a_linked_file_of_an_earlier_run_as_it_was(tmp_path):
    first = shards.seal(tmp_path / "old", b"old\n", rows=1)
    shards.seal(tmp_path / "new", b"old\n", rows=1, twins={first.sha256: tmp_path / "old"})
    shards.seal(tmp_path / "new", b"new\n", rows=1)

    assert (tmp_path / "old").read_bytes() == b"old\n"


def test_a_seal_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    shards.seal(tmp_path / "file", b"old\n", rows=1)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        shards.seal(tmp_path / "file", b"new\n", rows=1)

    assert bytes_of(tmp_path) == {"file": b"old\n"}


def test_a_full_disk_stops_a_journal_and_keeps_every_whole_row(small_disk):
    written = 0
    with pytest.raises(StorageError, match="the disk is full"), shards.Journal(small_disk, "rows") as journal:
        while True:
            journal.append(failure(written, "x" * 1000))
            written += 1

    assert written > 30
    assert len(list(shards.replay(small_disk, "rows", Failure))) == written


def test_a_full_disk_stops_a_seal(small_disk):
    with pytest.raises(StorageError, match="the disk is full"):
        shards.seal(small_disk / "file", b"x" * 100_000, rows=1)

    assert list(small_disk.iterdir()) == []


def test_a_file_over_the_process_limit_is_an_error_of_storage(tmp_path):
    program = """
import pathlib, resource, sys
from synthdistill import errors, shards
from synthdistill.records import Failure
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    with shards.Journal(pathlib.Path(sys.argv[1]), "rows") as journal:
        for number in range(100):
            journal.append(Failure(str(number), "p", 0, "http", "x" * 100, 1, True))
except errors.StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], env=environment(), capture_output=True, text=True, check=True)

    assert "cannot write" in done.stdout
    assert 10 < len(list(shards.replay(tmp_path, "rows", Failure))) < 40


def test_a_read_only_file_system_is_an_error_of_storage(tmp_path, monkeypatch):
    """Root may write where a mode forbids it, so the system's answer is given here."""

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StorageError, match="the file system is read-only"):
        shards.Journal(tmp_path, "rows").append(ROWS[0])


def test_a_folder_below_a_file_is_an_error_of_storage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        shards.Journal(tmp_path / "file" / "folder", "rows").append(ROWS[0])
