"""The pages of the report in a real browser, from disk and with the network cut."""

import json
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import chromium
import pytest
from finished import RECIPE, finished
from grown import comparison, grown

from synthdistill.report import beside, page
from synthdistill.report.pairing import Pair
from synthdistill.runs import Run

RUNS_A_SCRIPT = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
ENDS_THE_BLOCK = "</script><script>document.title='taken'</script><!--<script>"
TURNS = "\u202egnp.exe\u2066\u200f"
BROKEN = "\0\x1b[31m\x07\ufeff"
PAGES = ("report", "examples", "beside")
LOOKS = [
    ("report", 1280, False),
    ("report", 390, True),
    ("examples", 390, True),
    ("beside", 1280, True),
    ("plain", 390, False),
]
TAB, ENTER, DOWN = ("Tab", 9), ("Enter", 13), ("ArrowDown", 40)

Open = Callable[..., chromium.Page]


pytestmark = pytest.mark.usefixtures("unsynced")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """One browser for all tests."""
    if chromium.found() is None:
        pytest.skip("no chromium on this machine")
    with chromium.browser(tmp_path_factory.mktemp("browser")) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three pages of a run with all that a report can have, whose first row and names are hostile and hard to lay out."""
    folder = tmp_path_factory.mktemp("hostile")
    first = {
        "prompt": RUNS_A_SCRIPT + TURNS + BROKEN + "w" * 1_000_000,
        "teacher": json.dumps({RUNS_A_SCRIPT + TURNS: ENDS_THE_BLOCK, "long": "x" * 1_000_000, "half": "\ud800"}),
        "student": ENDS_THE_BLOCK + TURNS + BROKEN + "y" * 1_000_000,
        "gold": RUNS_A_SCRIPT,
        "hard": ENDS_THE_BLOCK + TURNS + BROKEN + "z" * 200,
        "id": "needle-" + "9" * 200,
    }
    recipe = RECIPE + f"# {ENDS_THE_BLOCK}{BROKEN}{'r' * 500}\n"
    name = RUNS_A_SCRIPT + TURNS + "m" * 500
    told = grown()
    told["comparisons"] += [comparison(name, ENDS_THE_BLOCK + "s" * 1000, 0.5, 0.6, 40), comparison(name, "all", 0.5, 0.6)]
    told["systems"][name] = told["systems"]["qwen3-4b"] | {"model": name}
    told["found_slices"] += [told["found_slices"][0] | {"slice": name, "words": [ENDS_THE_BLOCK, TURNS, "v" * 500]}]
    told["sets"][name] = told["sets"]["hard"]
    told["calibration"]["slices"] += [told["calibration"]["slices"][0] | {"slice": name}]
    told["gate"]["checks"] += [told["gate"]["checks"][0] | {"name": f"retention {name}", "passed": False}]
    place = finished(folder, rows=40, first=first, recipe=recipe, report=told)
    other = _copied(place, "w" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "MOST", 25)
        report = page.write(place)
    return {
        "report": report,
        "examples": report.with_name(page.MORE),
        "beside": beside.write(Pair.of(place, other)),
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with a student in use, as an older version left it."""
    return page.write(finished(tmp_path_factory.mktemp("plain"), rows=40, current="last-week"))


def _copied(place: Run, name: str) -> Run:
    """Another run of the recipe, whose student says to every third prompt what the base does."""
    folder = place.folder.parent / name
    shutil.copytree(place.folder, folder)
    run = Run.find(folder)
    said = {shard: shard.with_name(shard.name.replace("student", "base")) for shard in run.stage("eval").glob("answers-student-*")}
    student, base = next(iter(said.items()))
    student.write_bytes(base.read_bytes())
    return run


def shown(opened_page: chromium.Page) -> str:
    return str(opened_page.run("document.getElementById('matches').textContent"))


def rows_of(path: Path) -> list[dict[str, Any]]:
    data = path.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    rows: list[dict[str, Any]] = json.loads(data)["rows"]
    return rows


# --- from disk, without a network


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_network_and_without_a_complaint(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name])

    assert it.requested() == [hostile[name].resolve().as_uri()]
    assert it.complaints() == []
    assert it.run("document.querySelectorAll('article').length") > 0


@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_is_shown_and_does_nothing(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name])
    it.click("#search")
    it.write("document.title")

    assert "taken" not in it.run("document.title")
    assert it.run("document.scripts.length") == 2
    assert it.run("document.images.length") == 0
    if name != "beside":  # there the two students say the same of it
        assert ENDS_THE_BLOCK in it.run("document.getElementById('list').textContent")
        assert "more characters)" in it.run("document.getElementById('list').textContent")
    assert "\0" not in it.run("document.documentElement.outerHTML")


@pytest.mark.parametrize("name", PAGES)
def test_marks_that_turn_the_direction_do_not_reach_the_page(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name])
    it.click("#search")
    it.write("needle")

    assert not set(it.run("document.body.textContent")) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    own = it.run("[...document.querySelectorAll('.said, .chip, .id, bdi')].map(it => getComputedStyle(it).unicodeBidi)")
    assert set(own) == {"isolate"}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 700, 1280])
def test_a_page_is_never_wider_than_the_window(opened: Open, hostile: dict[str, Path], name: str, width: int):
    it = opened(hostile[name], width=width)
    it.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    it.click("#search")
    it.write("needle")

    assert it.run("innerWidth") == width
    assert it.run("document.documentElement.scrollWidth") <= width


# --- used with mouse and keyboard


def test_search_narrows_the_list_key_by_key(opened: Open, hostile: dict[str, Path]):
    it = opened(hostile["examples"])
    assert shown(it) == "40 of 40 examples match"
    it.click("#search")
    it.write("NEEDLE- taken")
    assert shown(it) == "1 of 40 examples match"
    assert it.run("document.querySelectorAll('article').length") == 1
    it.write(" no such word")
    assert shown(it) == "0 of 40 examples match"


def test_lists_are_chosen_from_with_the_keyboard_and_narrow_together(opened: Open, plain: Path):
    rows, it = rows_of(plain), opened(plain)
    it.run("document.getElementById('slice').focus()")
    it.press(*DOWN)
    slice_ = it.run("document.getElementById('slice').value")
    assert slice_
    assert shown(it) == f"{sum(slice_ in row['slices'] for row in rows)} of 40 examples match"
    it.press(*TAB)
    it.press(*DOWN)
    kind = it.run("document.getElementById('which').value")
    assert kind == "lost"
    assert shown(it) == f"{sum(slice_ in row['slices'] and kind in row['is'] for row in rows)} of 40 examples match"


def test_a_slice_leads_to_its_examples(opened: Open, plain: Path):
    it = opened(plain)
    name = it.run("document.querySelector('.jump').dataset.slice")
    it.click(".jump")

    assert it.run("location.hash") == "#examples"
    assert it.run("document.getElementById('slice').value") == name
    assert shown(it) == f"{sum(name in row['slices'] for row in rows_of(plain))} of 40 examples match"


def test_pages_of_examples_are_turned_with_the_mouse(opened: Open, hostile: dict[str, Path]):
    it, seen = opened(hostile["examples"]), []
    for turn in range(4):
        assert it.run("document.getElementById('where').textContent") == f"{turn * 10 + 1} to {turn * 10 + 10} of 40"
        seen += it.run("[...document.querySelectorAll('article .id')].map(each => each.textContent)")
        it.click("#next")

    assert len(set(seen)) == 40
    assert it.run("document.getElementById('next').disabled")
    it.click("#previous")
    assert it.run("document.getElementById('where').textContent") == "21 to 30 of 40"


def test_the_page_leads_to_the_one_beside_it_and_back(opened: Open, hostile: dict[str, Path]):
    it = opened(hostile["report"])
    for link, there in ((f"a[href='{page.MORE}']", page.MORE), ("a[href='report.html']", "report.html")):
        it.run(f"document.querySelector({json.dumps(link)}).focus()")
        it.press(*ENTER, text="\r")
        it.wait("Page.loadEventFired")
        assert it.run("location.pathname").endswith(f"/{there}")


@pytest.mark.parametrize("name", PAGES)
def test_the_first_key_leads_past_the_head(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name])
    it.press(*TAB)
    assert it.run("document.activeElement.className") == "skip"
    assert it.run("document.activeElement.getBoundingClientRect().left") >= 0
    it.press(*ENTER, text="\r")
    assert it.run("location.hash") in ("#verdict", "#matches")


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name])
    it.run(
        """window.reached = new Set(); window.unseen = []; document.addEventListener("focusin", (event) => { const it = event.target;
        reached.add(it); if (getComputedStyle(it).outlineStyle === "none") unseen.push(it.outerHTML.slice(0, 80)); })"""
    )
    for _ in range(90):
        it.press(*TAB)
        if it.run("reached.size > 5 && document.activeElement === document.body"):
            break

    usable = "a[href], button:not(:disabled), input, select, summary, [tabindex='0']"
    missed = f"[...document.querySelectorAll({json.dumps(usable)})].filter(it => it.checkVisibility() && !reached.has(it))"
    assert it.run(f"{missed}.map(it => it.outerHTML.slice(0, 80))") == []
    assert it.run("unseen") == []


# --- for everybody


@pytest.mark.parametrize(("name", "width", "dark"), LOOKS)
def test_axe_finds_nothing_serious(opened: Open, hostile: dict[str, Path], plain: Path, name: str, width: int, dark: bool):
    it = opened(plain if name == "plain" else hostile[name], width=width, dark=dark)
    it.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    it.run((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    it.run("axe.run({ resultTypes: ['violations'] }).then((all) => (window.found = all))")
    wrong = it.run("found.violations.map((each) => [each.impact, each.id, each.nodes.map((node) => node.html.slice(0, 200))])")

    assert [each for each in wrong if each[0] in ("serious", "critical")] == []
    assert {"color-contrast", "label", "select-name", "document-title"} <= set(it.run("found.passes.map((each) => each.id)"))


@pytest.mark.parametrize("dark", [False, True])
def test_marks_stand_out_from_their_ground(opened: Open, plain: Path, dark: bool):
    """WCAG 2.2, 1.4.11: a contrast of at least 3 for what a chart is read by."""
    names = ("paper", "card", "student", "teacher", "base", "current", "other", "good", "bad")
    style = "getComputedStyle(document.documentElement)"
    colours = opened(plain, dark=dark).run(
        f"Object.fromEntries({json.dumps(names)}.map(name => [name, {style}.getPropertyValue('--' + name).trim()]))"
    )

    assert {name: contrast(colours[name], colours["paper"]) >= 3 for name in names[2:]} == dict.fromkeys(names[2:], True)


def test_paper_is_white_and_nothing_is_folded_on_it(opened: Open, hostile: dict[str, Path]):
    it = opened(hostile["report"], dark=True)
    folded = "document.querySelectorAll('details:not([open])').length"
    assert it.run(folded) > 3
    it.run(f"addEventListener('beforeprint', () => queueMicrotask(() => (window.atPrint = {folded})))")
    it.call("Page.printToPDF")
    assert it.run("atPrint") == 0
    assert it.run(folded) > 3
    it.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert it.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert it.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert it.run("getComputedStyle(document.getElementById('controls')).display") == "none"


@pytest.mark.parametrize("name", PAGES)
def test_without_javascript_a_page_says_where_the_examples_are(opened: Open, hostile: dict[str, Path], name: str):
    it = opened(hostile[name], script=False)
    root = it.call("DOM.getDocument")["root"]["backendNodeId"]

    assert "needs JavaScript; they also lie in" in it.call("DOM.getOuterHTML", backendNodeId=root)["outerHTML"]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
