"""The summary in Markdown and the JUnit file: read again by the parsers that others use."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from finished import finished
from grown import grown
from hypothesis import given
from hypothesis import strategies as some
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from synthdistill.cli import app
from synthdistill.errors import RecipeError
from synthdistill.report import junit
from synthdistill.report.figures import Check, Figures, Gate, load
from synthdistill.report.junit import cases, legal
from synthdistill.report.markdown import escape, summary
from synthdistill.report.page import stages
from synthdistill.runs import Run

HOSTILE = "a|b `c` <script>alert(1)</script> **d** [e](http://f) ![g](h) @team #12 www.i.example $j$ &amp; ~~k~~ :tada: \\| x\ny\u202ez"
COUNTED = ("tests", "failures", "errors", "skipped")
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "disabled", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package"},
        {"name", "tests"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": ({"name", "classname", "time", "assertions", "status"}, {"name", "classname"}, {"skipped", "error", "failure"}),
    "failure": ({"type", "message"}, {"message"}, set()),
    "skipped": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}
"""Element -> attributes it may have, those it must have, children: the schema that Jenkins, GitHub and GitLab read."""


pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with all that a report can have, that no test changes."""
    return finished(tmp_path_factory.mktemp("run"), rows=40, report=grown())


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table as a reader sees them."""
    root = xml.fromstring(f"<all>{rendered(text)}</all>")
    return [[["".join(cell.itertext()) for cell in row] for row in table.iter("tr")] for table in root.iter("table")]


def tree(data: bytes) -> xml.Element:
    """Parsed, and held against the schema."""
    root = xml.fromstring(data)
    for element in root.iter():
        may, must, children = SCHEMA[element.tag]
        assert must <= set(element.attrib) <= may, element.tag
        assert {child.tag for child in element} <= children, element.tag
    return root


def judged(*checks: Check) -> Figures:
    return Figures(gate=Gate(all(check.passed for check in checks), list(checks)))


# --- Markdown


def test_a_summary_has_verdict_figures_gate_and_the_slices_that_fail(run: Run):
    text = summary("triage", "main", load(run))
    figures, gate, slices = tables(text)

    assert text.startswith("## \u274c triage, run main\n\n**The student keeps 98.8% (95% interval 97.1 to 100.2, n = 700)")
    assert ["Score retained", "98.8%", "97.1 to 100.2, n = 700"] in figures
    assert ["\u274c", "retention hard=typo", "93.9%", "95.0%", "118"] in gate
    assert [row[0] for row in slices[1:]] == [
        "intent=exchange and order=null (swap, size, smaller, shoes)",
        "hard=typo",
        "length=31-88 words",
    ]
    assert "- Within the margin: The student is within 3 points" in text


def test_what_passes_has_no_list_of_slices_that_fail():
    text = summary("triage", "main", judged(Check("retention", 0.97, 0.92, True, 700)))

    assert text.startswith("## \u2705 triage")
    assert "Slices that fail" not in text
    assert "No gate is set." in summary("triage", "main", Figures())


def test_hostile_names_are_text_in_their_own_cell(tmp_path: Path):
    slices = [{"slice": HOSTILE, "n": 40, "kind": "column", "gap": -0.2, "interval": None, "p_adjusted": 0.001, "words": [HOSTILE]}]
    checks = [{"name": f"retention {HOSTILE}", "value": 0.1, "threshold": 0.5, "passed": False, "n": 40}]
    told = grown(slices=slices, found_slices=[], gate={"passed": False, "checks": checks})
    text = summary(HOSTILE, HOSTILE, load(finished(tmp_path, rows=4, report=told)))
    page = rendered(text)

    assert {len(row) for table in tables(text) for row in table} <= {3, 5, 7}
    for tag in ("<a", "<img", "<script", "<code", "<em", "<s>"):
        assert tag not in page
    assert page.count("<strong>") == 1
    plain = HOSTILE.replace("\n", " ").replace("\u202e", "\ufffd").replace("@", "@\u200b").replace("#", "#\u200b")
    assert any(plain[:100] in row[1] for row in tables(text)[1])


@given(some.text())
def test_any_text_comes_back_as_itself_from_a_cell(text: str):
    (table,) = tables(f"| a | b |\n| --- | --- |\n| {escape(text) or 'x'} | end |")
    shown = table[1][0].replace("\u200b", "")
    wanted = " ".join(text.encode("utf-8", "replace").decode().split())

    assert table[1][1] == "end"
    assert shown == ("".join(each if each.isprintable() else "\ufffd" for each in wanted).replace("\u200b", "") or "x").strip()


def test_what_others_link_of_themselves_is_broken_up():
    assert escape("@team #12") == "&#64;&#8203;team &#35;&#8203;12"
    assert "http:" not in escape("http://a.example")
    assert "www." not in escape("www.a.example")


# --- JUnit


def test_each_check_is_a_case_and_a_failed_one_says_why(run: Run):
    root = tree(cases("triage", "main", load(run), stages(run)["eval"]))
    suite = root[0]
    by_name = {case.get("name"): case for case in suite.iter("testcase")}

    assert [suite.get(key) for key in COUNTED] == ["4", "1", "0", "0"]
    assert list(by_name) == ["retention", "retention hard=typo", "validity", "latency p95"]
    assert [len(case) for case in by_name.values()] == [0, 1, 0, 0]
    failure = by_name["retention hard=typo"][0]
    assert failure.get("message") == "retention hard=typo 93.9%, 95% asked"
    assert failure.text == "found 93.9%, 95.0% asked for, n = 118"


def test_without_a_gate_one_case_is_skipped(run: Run):
    root = tree(cases("triage", "main", Figures(), stages(run)["eval"]))

    assert [root[0].get(key) for key in COUNTED] == ["1", "0", "0", "1"]
    assert root.find(".//skipped").get("message") == "no gate is set"  # type: ignore[union-attr]


@given(some.text(some.characters()))
def test_any_name_makes_a_file_that_can_be_read_and_only_what_xml_cannot_hold_is_replaced(name: str):
    from synthdistill.manifest import Counts, Manifest

    evaluated = Manifest.model_construct(finished="2026-11-23T10:00:00+00:00", counts=Counts())
    root = tree(cases(name, name, judged(Check(name, 0.5, 0.9, False, 3)), evaluated))
    found = root.find(".//testcase").get("name")  # type: ignore[union-attr]

    assert found == legal(name)
    legal_ones = [each for each in name if each in "\t\n\r" or " " <= each <= "\ud7ff" or "\ue000" <= each <= "\ufffd" or each > "\uffff"]
    assert len(legal(name)) == len(name)
    assert [each for each in legal(name) if each != "\ufffd"] == [each for each in legal_ones if each != "\ufffd"]


def test_control_characters_are_replaced():
    assert junit.legal("a\0b\x1bc\ud800d\ufffee") == "a\ufffdb\ufffdc\ufffdd\ufffde"


# --- the command


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def test_the_command_writes_page_summary_and_cases(run: Run, tmp_path: Path):
    done = call(run.folder, "--markdown", tmp_path / "a" / "s.md", "--junit", tmp_path / "gate.xml", "--json")
    told = json.loads(done.stdout)

    assert done.exit_code == 0
    assert told == {
        "report": str(run.stage("eval") / "report.html"),
        "markdown": str(tmp_path / "a" / "s.md"),
        "junit": str(tmp_path / "gate.xml"),
    }
    assert (tmp_path / "a" / "s.md").read_text().startswith("## ")
    tree((tmp_path / "gate.xml").read_bytes())


def test_a_summary_on_stdout_has_stdout_to_itself(run: Run):
    done = call(run.folder, "--markdown", "-")

    assert done.stdout == summary("triage", "main", load(run))
    refused = call(run.folder, "--markdown", "-", "--json")
    assert isinstance(refused.exception, RecipeError)


def test_two_runs_make_one_page_and_a_summary_of_the_newer_one_beside_the_older(run: Run, tmp_path: Path):
    import shutil

    newer = run.folder.parent / "newer"
    shutil.copytree(run.folder, newer)
    done = call(run.folder, newer, "--json")
    told = call(run.folder, newer, "--markdown", "-").stdout

    assert json.loads(done.stdout) == {"report": str(newer / "eval" / "report-beside-main.html")}
    assert "On the 40 held-out prompts that both students answered, newer is 0.0 points above main by" in told
    assert tables(told)[0][0] == ["", "main", "newer"]
    assert "No slice moved for sure." in told
