import csv
import json

import pytest
from project import jsonl

from synthdistill.errors import RecipeError
from synthdistill.sources import hashes, read_rows

ROWS = [
    {"id": "1", "text": "plain"},
    {"id": "2", "text": 'a "quoted", part'},
    {"id": "3", "text": "two\nlines"},
    {"id": "4", "text": "windows\r\nlines"},
    {"id": "5", "text": "naïve 東京 🙂"},
]


def as_csv(path, rows, **options):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_parquet(path, rows):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def values(path):
    return [row.values for row in read_rows(path)]


@pytest.mark.parametrize(("ending", "write"), [("jsonl", jsonl), ("csv", as_csv), ("parquet", as_parquet)])
def test_every_format_gives_the_same_rows(tmp_path, ending, write):
    assert values(write(tmp_path / f"rows.{ending}", ROWS)) == ROWS


def test_an_empty_csv_field_is_a_null_as_in_the_other_formats(tmp_path):
    rows = [{"id": "1", "text": "a", "label": None}, {"id": "2", "text": "b", "label": "x"}]
    found = [
        values(write(tmp_path / f"rows.{ending}", rows)) for ending, write in (("csv", as_csv), ("jsonl", jsonl), ("parquet", as_parquet))
    ]

    assert found == [rows, rows, rows]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path, ending):
    path = (jsonl if ending == "jsonl" else as_csv)(tmp_path / f"rows.{ending}", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert values(path) == ROWS


def test_a_csv_field_may_be_longer_than_the_limit_of_the_csv_library(tmp_path):
    rows = [{"id": "1", "text": "word " * 60_000}]

    assert values(as_csv(tmp_path / "rows.csv", rows)) == rows


@pytest.mark.parametrize(("ending", "write"), [("jsonl", jsonl), ("parquet", as_parquet)])
def test_a_missing_value_of_a_data_frame_is_a_null(tmp_path, ending, write):
    path = write(tmp_path / f"rows.{ending}", [{"text": "a", "score": float("nan")}, {"text": "b", "score": 0.5}])

    assert values(path) == [{"text": "a", "score": None}, {"text": "b", "score": 0.5}]


def test_a_csv_with_a_column_twice_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("id,text,text\n1,a,b\n")

    with pytest.raises(RecipeError, match="two columns 'text'"):
        values(tmp_path / "rows.csv")


def test_blank_lines_are_no_rows_and_do_not_shift_the_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n  \n{"a": 2}', encoding="utf-8")

    assert [(row.values["a"], row.place) for row in read_rows(path)] == [(1, "rows.jsonl line 2"), (2, "rows.jsonl line 4")]


def test_a_folder_is_read_file_by_file_in_order_of_name(tmp_path):
    as_csv(tmp_path / "b.csv", ROWS[2:3])
    jsonl(tmp_path / "a.jsonl", ROWS[:2])
    as_parquet(tmp_path / "c.parquet", ROWS[3:])
    (tmp_path / "notes.txt").write_text("not a source")

    assert values(tmp_path) == ROWS


LINES = {
    "is not JSON: .* at column": b'{"a": 1',
    "is a JSON list, expected an object": b"[1]",
    "is a JSON str, expected an object": b'"text"',
    "is not UTF-8: byte 3 is 0xe9": b'{"\xe9": 1}',
    "cannot be read as JSON: .*recursion": b"[" * 100_000,
    "cannot be read as JSON: .*digits": b'{"a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("message", LINES)
def test_a_broken_line_is_named_by_its_number(tmp_path, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + LINES[message] + b"\n")

    with pytest.raises(RecipeError, match=rf"^rows\.jsonl line 2 {message}"):
        values(path)


@pytest.mark.parametrize("line", ["1", "1,2,3"])
def test_a_csv_line_with_another_number_of_fields_is_named(tmp_path, line):
    path = tmp_path / "rows.csv"
    path.write_text(f"a,b\n1,2\n{line}\n", encoding="utf-8")

    with pytest.raises(RecipeError, match=r"rows\.csv line 3 has another number of fields than the header's 2"):
        values(path)


def test_a_csv_with_an_open_quote_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a\n"open\n', encoding="utf-8")

    with pytest.raises(RecipeError, match="is not CSV"):
        values(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)

    with pytest.raises(RecipeError, match="has no rows"):
        values(path)


def test_a_csv_with_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n")

    with pytest.raises(RecipeError, match="has no rows"):
        values(tmp_path / "rows.csv")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 this is no parquet file PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    (tmp_path / "rows.parquet").write_bytes(content)

    with pytest.raises(RecipeError, match="cannot be read as Parquet"):
        values(tmp_path / "rows.parquet")


def test_a_missing_file_names_the_key(tmp_path):
    with pytest.raises(RecipeError, match=r"\[prompts\] source: no such file"):
        values(tmp_path / "rows.jsonl")


def test_another_ending_is_refused_with_those_that_are_known(tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"")

    with pytest.raises(RecipeError, match=r"ends in \.xlsx, expected one of \.jsonl, \.csv, \.parquet"):
        values(tmp_path / "rows.xlsx")


@pytest.mark.parametrize("name", ["more.json", "more.json.gz", "more.tsv", "sub/more.jsonl"])
def test_rows_of_a_folder_that_would_not_be_read_are_refused(tmp_path, name):
    jsonl(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")

    with pytest.raises(RecipeError, match=f"{name.partition('/')[0]} would not be read"):
        values(tmp_path)


def test_an_ending_in_capitals_is_the_same_and_other_files_do_no_harm(tmp_path):
    jsonl(tmp_path / "a.JSONL", ROWS[:2])
    jsonl(tmp_path / "b.jsonl", ROWS[2:])
    (tmp_path / "README.md").write_text("rows")

    assert values(tmp_path) == ROWS


def test_a_folder_without_sources_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="holds no"):
        values(tmp_path)


def test_every_json_line_is_read_as_the_json_library_reads_it(tmp_path):
    row = {"text": "\ud83d\ude42 \u2028", "number": 1.5, "list": [None, True], "object": {"a": "b"}}

    assert values(jsonl(tmp_path / "rows.jsonl", [row])) == [json.loads(json.dumps(row))]


# patterns, lists, packed files


def packed(path, rows):
    plain = (jsonl if path.stem.endswith(".jsonl") else as_csv)(path.with_suffix(""), rows)
    path.write_bytes(compressed(plain.read_bytes(), path.suffix))
    plain.unlink()
    return path


def compressed(data, suffix):
    import gzip

    import pyarrow

    return gzip.compress(data) if suffix == ".gz" else pyarrow.compress(data, codec="zstd", asbytes=True)


@pytest.fixture
def days(tmp_path):
    """Files of two days, and one that is not named as they are."""
    for number, name in enumerate(["2026-02/b.jsonl", "2026-01/b.jsonl", "2026-01/a.jsonl", "2026-01/deep/c.jsonl", "old/a.jsonl"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        jsonl(tmp_path / name, [{"n": number}])
    return tmp_path


PATTERNS = {
    "2026-*/*.jsonl": ["2026-01/a.jsonl", "2026-01/b.jsonl", "2026-02/b.jsonl"],
    "2026-0[2-9]/?.jsonl": ["2026-02/b.jsonl"],
    "**/a.jsonl": ["2026-01/a.jsonl", "old/a.jsonl"],
    "2026-01/**": ["2026-01/a.jsonl", "2026-01/b.jsonl", "2026-01/deep/c.jsonl"],
    "2026-02*": ["2026-02/b.jsonl"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_every_file_that_it_matches_in_order_of_name(days, pattern):
    assert [row.place.removesuffix(" line 1") for row in read_rows(pattern, base=days)] == PATTERNS[pattern]


def test_an_absolute_pattern_is_read_as_well(days):
    assert len(list(read_rows(f"{days}/2026-*/*.jsonl", base=days))) == 3


def test_a_folder_whose_own_name_looks_like_a_pattern_is_no_pattern(tmp_path):
    folder = tmp_path / "logs[1]"
    folder.mkdir()
    jsonl(folder / "a[2].jsonl", [{"n": 1}])

    assert [row.values["n"] for row in read_rows("a[2].jsonl", base=folder)] == [1]
    assert [row.values["n"] for row in read_rows("*.jsonl", base=folder)] == [1]


@pytest.mark.parametrize("pattern", ["2027-*/*.jsonl", "**/*.csv", "nowhere/**"])
def test_a_pattern_that_matches_nothing_is_refused(days, pattern):
    with pytest.raises(RecipeError, match=r"\[prompts\] source: .* matches no \.jsonl, \.csv"):
        list(read_rows(pattern, base=days))


def test_a_file_that_a_pattern_matches_and_nobody_can_read_is_refused(days):
    (days / "2026-01" / "notes.txt").write_text("not rows")

    with pytest.raises(RecipeError, match=r"notes\.txt ends in \.txt, expected one of"):
        list(read_rows("2026-01/*.*", base=days))


def test_a_list_is_read_in_its_order_and_a_file_that_two_names_mean_once(days):
    names = ["old/a.jsonl", "2026-0*/b.jsonl", "2026-01/b.jsonl"]

    assert [row.values["n"] for row in read_rows(names, base=days)] == [4, 1, 0]


def test_a_name_of_a_list_without_a_file_is_refused(days):
    with pytest.raises(RecipeError, match=r"no such file: .*gone\.jsonl"):
        list(read_rows(["old/a.jsonl", "gone.jsonl"], base=days))


def test_each_name_of_a_list_is_hashed_by_what_its_files_hold(days):
    names = ["2026-*/*.jsonl", "old"]
    before = hashes(names, base=days)
    jsonl(days / "2026-02" / "new.jsonl", [{"n": 9}])
    after = hashes(names, base=days)

    assert list(before) == names
    assert [name for name in names if before[name] != after[name]] == ["2026-*/*.jsonl"]


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.gz", "JSONL.GZ", "jsonl.zst", "csv.zst", "JSONL.ZST"])
def test_a_packed_file_gives_the_same_rows(tmp_path, ending):
    path = packed(tmp_path / f"rows.{ending.lower()}", ROWS)

    assert values(path.rename(tmp_path / f"rows.{ending}")) == ROWS


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_is_refused_after_the_rows_that_are_whole(tmp_path, suffix):
    import os

    path = packed(tmp_path / f"rows.jsonl{suffix}", [{"n": number, "noise": os.urandom(50).hex()} for number in range(5000)])
    path.write_bytes(path.read_bytes()[:-5000])
    read = []

    with pytest.raises(RecipeError, match=rf"rows\.jsonl\{suffix} cannot be unpacked"):
        read.extend(row.values["n"] for row in read_rows(path))
    assert read == list(range(len(read)))
    assert len(read) > 1000


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_file_that_something_was_appended_to_is_read_whole(tmp_path, suffix):
    path = tmp_path / f"rows.jsonl{suffix}"
    path.write_bytes(b"".join(compressed(b'{"n": %d}\n' % number, suffix) for number in range(2000)))

    assert values(path) == [{"n": number} for number in range(2000)]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_is_not_packed_as_its_name_says_is_refused(tmp_path, suffix):
    path = jsonl(tmp_path / f"rows.jsonl{suffix}", ROWS)

    with pytest.raises(RecipeError, match=rf"rows\.jsonl\{suffix} cannot be unpacked"):
        values(path)


def test_a_csv_that_is_not_utf8_says_near_which_line(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"a,b\n" + b"1,2\n" * 5 + "1,\u00e9\n".encode("latin-1"))

    with pytest.raises(RecipeError, match=r"rows\.csv after line \d is not UTF-8: there is a byte 0xe9"):
        values(tmp_path / "rows.csv")


def test_the_same_real_rows_come_out_of_every_format(tmp_path, data):
    """Banking77's test split (CC BY 4.0), as it lies and written again as CSV, Parquet and packed."""
    rows = values(data / "banking77" / "test.jsonl")
    found = [
        values(write(tmp_path / f"rows.{ending}", rows))
        for ending, write in (("csv", as_csv), ("parquet", as_parquet), ("jsonl.gz", packed), ("jsonl.zst", packed))
    ]

    assert len(rows) == 3080
    assert found == [rows, rows, rows, rows]
