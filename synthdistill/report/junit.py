"""The gate as a JUnit file, which CI systems show: a test case for each check, with what was found and asked for where it fails.

    synthdistill report runs/triage/main --junit gate.xml

Text that XML 1.0 cannot hold, not even escaped (control characters, half of a surrogate pair), becomes U+FFFD.
"""

import re
from xml.etree import ElementTree as xml

from synthdistill.manifest import Manifest
from synthdistill.report.figures import Figures
from synthdistill.report.gate import Line, checks
from synthdistill.report.verdict import verdict
from synthdistill.report.words import NONE, count

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def cases(name: str, run: str, figures: Figures, evaluated: Manifest) -> bytes:
    """The file. A run without a gate has one case, which is skipped."""
    lines = checks(figures)
    failed, unknown = sum(line.passed is False for line in lines), sum(line.passed is None for line in lines)
    counts = {"tests": max(len(lines), 1), "failures": failed, "errors": 0, "skipped": unknown if lines else 1}
    own = {key: str(value) for key, value in counts.items()} | {"time": "0"}
    whole = {"name": "synthdistill", **{key: own[key] for key in ("tests", "failures", "errors", "time")}}
    root = xml.Element("testsuites", whole)
    named = legal(f"{name}/{run}: gate")
    suite = xml.SubElement(root, "testsuite", {"name": named, **own, "timestamp": evaluated.finished[:19]})
    for line in lines:
        _case(suite, legal(f"{name}.{run}"), line)
    if not lines:
        case = xml.SubElement(suite, "testcase", {"name": "gate", "classname": legal(f"{name}.{run}"), "time": "0"})
        xml.SubElement(case, "skipped", {"message": "no gate is set"})
    xml.SubElement(suite, "system-out").text = legal(verdict(figures))
    xml.indent(root)
    return bytes(xml.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def legal(text: str) -> str:
    """The text with what no XML 1.0 file can hold replaced."""
    return _ILLEGAL.sub("\ufffd", text)


def _case(suite: xml.Element, place: str, line: Line) -> None:
    case = xml.SubElement(suite, "testcase", {"name": legal(line.key), "classname": place, "time": "0"})
    known = f"found {line.found}, {line.asked} asked for, n = {count(line.n)}" + (f" ({line.rests_on})" if line.rests_on else "")
    if line.passed is False:
        xml.SubElement(case, "failure", {"message": legal(line.failure), "type": "gate"}).text = legal(known)
    elif line.passed is None:
        xml.SubElement(case, "skipped", {"message": "not judged" if line.found == NONE else legal(known)})
