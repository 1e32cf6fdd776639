"""Rows in bins between two passes, on disk and never all in memory."""

import pytest

from synthdistill.errors import StorageError
from synthdistill.shards import shard_of
from synthdistill.spool import Spool


def ids(count):
    return [f"{number * 2654435761 % 2**32:08x}" for number in range(count)]


def test_every_line_comes_out_of_the_bin_of_its_id_once_in_the_order_it_went_in(tmp_path):
    with Spool(tmp_path, "rows", 5) as spool:
        for number, identifier in enumerate(ids(2000)):
            spool.add(identifier, f"{identifier} {number}\n".encode())
        found = [list(spool.bin(number)) for number in range(5)]

    assert sorted(line for each in found for line in each) == sorted(f"{name} {i}\n".encode() for i, name in enumerate(ids(2000)))
    for number, each in enumerate(found):
        assert {shard_of(line.split()[0].decode(), 5) for line in each} == {number}
        assert [int(line.split()[1]) for line in each] == sorted(int(line.split()[1]) for line in each)


def test_a_bin_may_be_read_twice_and_added_to_in_between(tmp_path):
    with Spool(tmp_path, "rows", 1) as spool:
        spool.add("0", b"one\n")
        first = list(spool.bin(0))
        spool.add("0", b"two\n")

        assert (first, list(spool.bin(0))) == ([b"one\n"], [b"one\n", b"two\n"])


def test_a_bin_that_nothing_went_into_is_empty_and_has_no_file(tmp_path):
    with Spool(tmp_path, "rows", 3) as spool:
        assert list(spool.bin(2)) == []
        assert list(tmp_path.iterdir()) == []


def test_no_more_than_the_buffers_is_in_memory(tmp_path):
    with Spool(tmp_path, "rows", 4) as spool:
        for identifier in ids(3000):
            spool.add(identifier, b"x" * 2000 + b"\n")
            assert sum(map(len, spool._buffers)) <= (1 << 20) + 2001


def test_any_text_is_a_key_and_the_same_text_goes_to_the_same_bin(tmp_path):
    keys = ["", "ticket 7", "\ud800", "é" * 1000, "\n"]
    with Spool(tmp_path, "ids", 8) as spool:
        for _ in range(2):
            for number, key in enumerate(keys):
                spool.add_text(key, f"{number}\n".encode())
        found = [sorted(spool.bin(number)) for number in range(8)]

    assert sum(len(each) for each in found) == 2 * len(keys)
    for each in found:
        assert all(each.count(line) == 2 for line in each)


def test_the_files_are_hidden_and_go_with_the_spool_after_an_error_too(tmp_path):
    with pytest.raises(RuntimeError), Spool(tmp_path, "rows", 2) as spool:
        spool.add("0", b"x" * (1 << 20) + b"\n")
        assert [path.name for path in tmp_path.iterdir()] == [".rows-00000.tmp"]
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_not_read(tmp_path):
    (tmp_path / ".rows-00000.tmp").write_bytes(b"old\n")
    with Spool(tmp_path, "rows", 1) as spool:
        spool.add("0", b"new\n")

        assert list(spool.bin(0)) == [b"new\n"]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"), Spool(tmp_path / "gone", "rows", 1) as spool:
        spool.add("0", b"line\n")
        list(spool.bin(0))
