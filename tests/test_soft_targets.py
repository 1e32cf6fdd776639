"""Soft targets on disk: what is written is read, small, by anybody's Parquet reader."""

import numpy as np
import pytest

from synthdistill import soft_targets
from synthdistill.errors import StorageError
from synthdistill.soft_targets import Capture, SoftTargets, answer_hash

CAPTURE = Capture(20, "top", (2.0, 4.0), "abc", 150_000)


def made(name, tokens, seed=0, k=20, vocabulary=150_000, stored=None, draws=False):
    """As a teacher of many words leaves it: a sharp distribution over ids that lie anywhere."""
    random = np.random.default_rng(seed)
    logprobs = np.sort(random.normal(-8, 3, (tokens, k)).astype(np.float32))[:, ::-1].copy()
    logprobs[:, 0] = np.log(random.uniform(0.3, 0.999, tokens))
    positions = np.arange(tokens) if stored is None else np.asarray(stored, np.int64)
    return SoftTargets(
        example_id=name,
        prompt=answer_hash([1, 2]),
        token_ids=random.integers(0, vocabulary, tokens).astype(np.int32),
        positions=positions.astype(np.int32),
        ids=random.integers(0, vocabulary, (len(positions), k)).astype(np.int32),
        logprobs=logprobs[positions],
        rest=random.normal(-3, 1, (len(positions), 3)).astype(np.float32),
        normaliser=random.uniform(0, 8, (len(positions), 2)).astype(np.float32),
        entropy=random.uniform(0, 3, len(positions)).astype(np.float32),
        counts=random.integers(0, 5, (len(positions), k)).astype(np.int32) if draws else None,
    )


def same(one, other):
    for name in ("token_ids", "positions", "ids"):
        assert (getattr(one, name) == getattr(other, name)).all()
    for name in ("logprobs", "rest", "normaliser", "entropy"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1 / 8192)
    assert one.example_id == other.example_id and one.prompt == other.prompt and one.answer == other.answer
    assert (one.counts is None) == (other.counts is None) and (one.counts is None or (one.counts == other.counts).all())


@pytest.mark.parametrize("draws", [False, True])
def test_what_is_written_is_read_in_order_of_id(tmp_path, draws):
    capture = Capture(20, "sample" if draws else "top", (2.0, 4.0), "abc", 150_000)
    rows = [made(f"{number:02x}", 5 + number, number, draws=draws) for number in (3, 1, 2)]
    rows.append(made("00", 6, 9, stored=[1, 4], draws=draws))
    rows.append(made("0f", 3, 8, stored=[], draws=draws))
    output = soft_targets.write(tmp_path, 7, rows, capture)
    found = list(soft_targets.read(tmp_path))

    assert output.file == "soft-targets-00007.parquet" and output.rows == 5
    assert soft_targets.captured(tmp_path / output.file) == capture
    for one, other in zip(sorted(rows, key=lambda row: row.example_id), found, strict=True):
        same(one, other)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [made(f"{number:02x}", 40, number) for number in range(4)]

    assert soft_targets.write(tmp_path, 0, rows, CAPTURE).sha256 == soft_targets.write(tmp_path, 1, rows[::-1], CAPTURE).sha256


def test_a_token_takes_at_most_130_bytes_with_20_of_150000_ids_and_two_temperatures(tmp_path):
    rows = [made(f"{number:03x}", 200, number) for number in range(50)]

    assert soft_targets.write(tmp_path, 0, rows, CAPTURE).bytes / 10_000 <= 130


def test_numbers_that_are_none_stay(tmp_path):
    row = made("aa", 2)
    row.rest[0, 0], row.logprobs[1, 3] = -np.inf, -np.inf
    soft_targets.write(tmp_path, 0, [row], CAPTURE)
    (found,) = soft_targets.read(tmp_path)

    assert found.rest[0, 0] == -np.inf and found.logprobs[1, 3] == -np.inf


def test_the_library_of_the_field_opens_it(tmp_path):
    from datasets import load_dataset

    rows = [made(f"{number:02x}", 5, number) for number in range(3)]
    soft_targets.write(tmp_path, 0, rows, CAPTURE)
    found = load_dataset("parquet", data_files=str(tmp_path / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache"))

    assert found[1]["top_ids"] == rows[1].ids.reshape(-1).tolist()
    assert found.column_names[:6] == ["example_id", "answer", "prompt", "token_ids", "positions", "top_ids"]


def test_a_file_that_is_damaged_is_one_line(tmp_path):
    output = soft_targets.write(tmp_path, 0, [made("aa", 30)], CAPTURE)
    path = tmp_path / output.file
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(StorageError, match=r"soft-targets-00000\.parquet"):
        list(soft_targets.read(tmp_path))
