import pytest
from prometheus_client.parser import text_fd_to_metric_families

from synthdistill.errors import MissingError, StorageError
from synthdistill.ops.textfile import Figures, write

ALL = Figures(
    "triage",
    last_success=1795399207.5,
    last_run=1795399100.0,
    retention=0.97,
    retention_lower=0.955,
    drift_p=0.0004,
    drift_share=0.11,
    spend_usd=12.5,
    student_age_s=604800.0,
    new_prompts=512,
)


def read(path):
    """The samples of a textfile, as Prometheus reads them: name -> (recipe, value)."""
    with path.open(encoding="utf-8") as file:
        families = list(text_fd_to_metric_families(file))
    assert all(family.documentation and family.type in ("gauge", "counter") for family in families)
    return {sample.name: (sample.labels["recipe"], sample.value) for family in families for sample in family.samples}


def test_each_figure_is_a_metric_with_the_recipe_as_its_label(tmp_path):
    write(tmp_path / "triage.prom", ALL)

    assert read(tmp_path / "triage.prom") == {
        "synthdistill_last_success_timestamp_seconds": ("triage", 1795399207.5),
        "synthdistill_last_run_timestamp_seconds": ("triage", 1795399100.0),
        "synthdistill_retention": ("triage", 0.97),
        "synthdistill_retention_lower": ("triage", 0.955),
        "synthdistill_drift_p": ("triage", 0.0004),
        "synthdistill_drift_share": ("triage", 0.11),
        "synthdistill_student_age_seconds": ("triage", 604800.0),
        "synthdistill_new_prompts": ("triage", 512.0),
        "synthdistill_spend_usd_total": ("triage", 12.5),
    }


def test_what_is_not_known_is_left_out_and_what_is_nothing_is_not(tmp_path):
    write(tmp_path / "triage.prom", Figures("triage", drift_share=0.0, new_prompts=0))

    assert read(tmp_path / "triage.prom") == {"synthdistill_drift_share": ("triage", 0.0), "synthdistill_new_prompts": ("triage", 0.0)}


def test_a_second_write_replaces_the_first_and_leaves_nothing_beside_it(tmp_path):
    write(tmp_path / "triage.prom", ALL)
    write(tmp_path / "triage.prom", Figures("triage", retention=0.9))

    assert read(tmp_path / "triage.prom") == {"synthdistill_retention": ("triage", 0.9)}
    assert [path.name for path in tmp_path.iterdir()] == ["triage.prom"]


def test_a_name_with_quotes_and_slashes_comes_back_as_it_was(tmp_path):
    write(tmp_path / "odd.prom", Figures('say "hi"\\ ünd\nmore', retention=1.0))

    assert read(tmp_path / "odd.prom") == {"synthdistill_retention": ('say "hi"\\ ünd\nmore', 1.0)}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "folder.prom").mkdir()

    with pytest.raises(StorageError, match=r"cannot write .*folder\.prom.*: a folder stands where a file should be"):
        write(tmp_path / "folder.prom", ALL)
    with pytest.raises(StorageError, match=r"cannot write .*nowhere/triage\.prom.*: there is no such place"):
        write(tmp_path / "nowhere" / "triage.prom", ALL)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.prom"]


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingError, match=r"synthdistill\[redistill\]"):
        write(tmp_path / "triage.prom", ALL)
