import json

import pytest

from synthdistill import manifest
from synthdistill.errors import ChangedError, StorageError, UnfinishedError
from synthdistill.manifest import Counts, changed_keys, fingerprint, folder_hash, load, open_stage, sealed
from synthdistill.records import Failure
from synthdistill.runs import Run
from synthdistill.settings import Settings, how
from synthdistill.shards import write


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "runs" / "toy" / "main", tmp_path, "recipe.toml")


def begin(run, what=None, inputs=None, shards=16):
    return open_stage(run.stage("filter"), "filter", what or {"filter": {"rules": ["a"]}}, inputs=inputs or {}, run=run, shards=shards)


def keep_a_row(opening):
    (opening.folder / "completions-1-1.part").write_text("a row")


def finish(opening):
    return opening.seal(outputs=[], counts=Counts(read=3, written=2, dropped={"rule": 1}))


def test_a_folder_without_a_manifest_is_unfinished_and_the_message_says_what_finishes_it(run):
    begin(run)

    with pytest.raises(UnfinishedError, match=r"Run: synthdistill filter recipe\.toml$"):
        sealed(run, "filter")


def test_the_suggested_command_names_a_run_other_than_main(run):
    other = Run(run.folder.with_name("second"), run.base, run.recipe)

    with pytest.raises(UnfinishedError, match=r"synthdistill filter recipe\.toml --run second"):
        sealed(other, "filter")


def test_what_was_sealed_is_read_again(run):
    written = finish(begin(run))

    assert sealed(run, "filter") == written


def test_a_second_start_is_up_to_date(run):
    finish(begin(run))

    found = begin(run).sealed
    assert found is not None
    assert found.up_to_date


def test_a_changed_key_is_refused_by_name_and_another_run_is_offered(run):
    finish(begin(run))

    with pytest.raises(ChangedError, match=r'filter\.rules: \["a"\] -> \["b"\].*--run NEW'):
        begin(run, {"filter": {"rules": ["b"]}})


def test_a_changed_key_is_refused_before_the_stage_has_ended(run):
    keep_a_row(begin(run))

    with pytest.raises(ChangedError, match=r"filter\.rules"):
        begin(run, {"filter": {"rules": ["b"]}})


def test_a_start_that_kept_nothing_binds_nobody(run):
    folder = begin(run).folder
    (folder / "failures-1-1.part").write_text("refused: no such model")

    begin(run, {"filter": {"rules": ["b"]}})

    assert manifest.settings_of(folder) is None
    assert json.loads((folder / "started.json").read_bytes())["what"] == {"filter": {"rules": ["b"]}}


def test_another_result_of_the_stage_before_is_refused(run):
    finish(begin(run, inputs={"generate": "1"}))

    with pytest.raises(ChangedError, match="an earlier stage"):
        begin(run, inputs={"generate": "2"})


def test_the_number_of_shards_is_that_of_the_first_start(run):
    keep_a_row(begin(run, shards=4))

    assert begin(run, shards=32).shards == 4


def test_a_stage_that_goes_on_removes_what_a_kill_left_half_written(run):
    left = begin(run).folder / ".examples-00000.jsonl.17.tmp"
    left.write_text("half")
    begin(run)

    assert not left.exists()


def test_how_keys_are_not_part_of_the_fingerprint():
    class Table(Settings):
        model: str
        note: str | None = None
        address: str = how("here")

    one, other = Table(model="m"), Table(model="m", address="there")

    assert fingerprint("s", one.what(), {}) == fingerprint("s", other.what(), {})
    assert fingerprint("s", one.what(), {}) != fingerprint("s", Table(model="n").what(), {})


def test_a_how_table_inside_a_what_table_is_left_out():
    class Inner(Settings):
        value: int = 1

    class Table(Settings):
        kept: Inner = Inner()
        gone: Inner = how(Inner())

    assert Table().what() == {"kept": {"value": 1}}


def test_a_new_optional_key_changes_no_old_run():
    class Old(Settings):
        model: str = "m"

    class New(Settings):
        model: str = "m"
        extra: str | None = None

    assert Old().what() == New().what()


def test_changed_keys_are_dotted_and_show_both_values():
    assert changed_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": []}}) == ["a.c: 2 -> 3", "a.d: not set -> []"]


def test_a_manifest_that_was_edited_into_nonsense_is_an_error_with_its_path(run):
    finish(begin(run))
    path = run.stage("filter") / "manifest.json"
    path.write_text('{"stage": "filter"}')

    with pytest.raises(StorageError, match=r"manifest\.json is no manifest"):
        load(run.stage("filter"))


def test_a_sealed_file_that_is_gone_is_an_error_with_its_path(run):
    opening = begin(run)
    outputs = write(opening.folder, "examples", [Failure("0" * 32, "0" * 32, 0, "kind", "message", 1, False)], shards=1)
    opening.seal(outputs=outputs, counts=Counts(read=1, written=1))
    (opening.folder / outputs[0].file).unlink()

    for read in (lambda: sealed(run, "filter"), lambda: begin(run)):
        with pytest.raises(StorageError, match=r"examples-00000\.jsonl is gone.*--run NEW"):
            read()


def test_a_start_note_that_is_no_json_is_an_error_with_its_path(run):
    opening = begin(run)
    keep_a_row(opening)
    (opening.folder / "started.json").write_text("{")

    with pytest.raises(StorageError, match=r"started\.json cannot be read"):
        begin(run)


def test_the_manifest_says_what_made_it(run):
    finish(begin(run))
    found = json.loads((run.stage("filter") / "manifest.json").read_bytes())

    wanted = {"format", "stage", "fingerprint", "config", "files", "models", "inputs", "outputs", "counts", "usage", "cost_usd", "seconds"}
    assert (wanted | {"version", "packages", "host", "started", "finished"}) <= found.keys()


def test_the_hash_of_a_model_folder_follows_the_weights_and_not_the_card(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = folder_hash(tmp_path)
    (tmp_path / "README.md").write_text("card")
    same = folder_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"2")

    assert before == same != folder_hash(tmp_path)


def test_the_hash_of_a_large_file_looks_at_its_size_and_both_ends(tmp_path):
    size = (64 << 20) + 10
    hashes = set()
    for place in (None, 0, size - 1):
        with (tmp_path / "model.safetensors").open("wb") as handle:
            handle.truncate(size)
            if place is not None:
                handle.seek(place)
                handle.write(b"x")
        hashes.add(folder_hash(tmp_path))

    assert len(hashes) == 3


def test_a_fingerprint_covers_stage_settings_and_inputs():
    given = [("a", {}, {}), ("b", {}, {}), ("a", {"x": 1}, {}), ("a", {}, {"generate": "1"})]

    assert len({manifest.fingerprint(*each) for each in given}) == 4
