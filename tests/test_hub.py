"""Names of the hub, against a real HTTP server that answers as the hub does; each in a process of its own, which reads the variables."""

import json
import subprocess
import sys

import pytest
from hub_server import REPO, hub_server
from project import environment, project, synthdistill

from synthdistill import hub
from synthdistill.errors import RecipeError

pytest.importorskip("datasets", reason="the train extra is not installed")
READ = "import json, sys\nfrom synthdistill import hub\nprint(json.dumps([[hub.rows_hash(n), [*hub.rows(n)]] for n in sys.argv[1:]]))"
REFUSED = """
import sys
from synthdistill import errors, hub
try:
    hub.rows_hash(sys.argv[1])
except errors.SynthdistillError as error:
    print(error)
    sys.exit(error.code)
"""
NAME = f"hf:{REPO}"


def tickets(count, first=0):
    return "".join(json.dumps({"text": f"Where is parcel {n}?", "queue": "ab"[n % 2]}) + "\n" for n in range(first, count)).encode()


def files(**more):
    return {"README.md": b"# Tickets\n", "train.jsonl": tickets(40), "test.jsonl": tickets(60, 40)} | more


def run(program, env, *names, cwd=None):
    """A process that reads the variables for itself."""
    line = [sys.executable, "-c", program, *names]
    return subprocess.run(line, env=environment(env), cwd=cwd, text=True, capture_output=True, check=False, timeout=120)


def read(env, *names):
    """[hash, [[values, place], ...]] of each name."""
    done = run(READ, env, *names)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(env, name, code, *words):
    done = run(REFUSED, env, name)

    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stdout] == []
    assert done.stdout.count("\n") == 1


def test_rows_come_with_their_place_from_the_split_that_is_named(tmp_path):
    with hub_server(files()) as server:
        (_, train), (_, test) = read(server.env(tmp_path), NAME, f"{NAME}[split=test]")

    assert (len(train), len(test)) == (40, 20)
    assert train[0] == [{"text": "Where is parcel 0?", "queue": "a"}, f"{NAME} row 1"]
    assert test[1] == [{"text": "Where is parcel 41?", "queue": "b"}, f"{NAME}[split=test] row 2"]


def test_what_was_fetched_once_is_read_without_the_hub(tmp_path):
    with hub_server(files()) as server:
        before = read(server.env(tmp_path), NAME)
        server.asked.clear()
        after = read(server.env(tmp_path, HF_HUB_OFFLINE="1"), NAME)

        assert after == before
        assert server.asked == []


def test_the_hash_follows_the_rows_and_no_other_file_of_the_repository(tmp_path):
    with hub_server(files()) as server:
        first = read(server.env(tmp_path), NAME)[0][0]
        server.files["README.md"] = b"# Tickets, described at length\n"
        described = read(server.env(tmp_path), NAME)[0][0]
        server.files["train.jsonl"] = tickets(41)
        longer = read(server.env(tmp_path), NAME)[0][0]

    assert first == described != longer


def test_a_revision_is_read_after_the_hub_has_gone_on(tmp_path):
    with hub_server(files()) as server:
        old = server.commit
        before = read(server.env(tmp_path), NAME)[0]
        server.files["train.jsonl"] = tickets(50)
        new, again = read(server.env(tmp_path), NAME, f"{NAME}[revision={old}]")

    assert (len(new[1]), again[0]) == (50, before[0])


def test_another_revision_of_the_cache_does_not_stand_in_for_the_one_that_is_named(tmp_path):
    with hub_server(files()) as server:
        old = server.commit
        read(server.env(tmp_path), NAME)
        server.files["train.jsonl"] = tickets(50)
        read(server.env(tmp_path), NAME)
        offline = server.env(tmp_path, HF_HUB_OFFLINE="1")

        refused(offline, f"{NAME}[revision={old}]", 3, "the newest copy in the cache is of revision", server.commit, "go online")
        refused(offline, f"{NAME}[revision=v1]", 3, "the newest copy in the cache is of revision")
        assert len(read(offline, f"{NAME}[revision={server.commit}]")[0][1]) == 50


def test_without_the_hub_and_the_cache_one_line_says_so(tmp_path):
    refused({"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}, NAME, 3, NAME, "a hub that cannot be reached", "not in the cache", "HF_HOME")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{NAME}[split=dev]", ["dev", "'train', 'test'"]),
        (f"{NAME}[config=other]", ["other", "default"]),
        (f"{NAME}[revision=gone]", ["'gone' doesn't exist"]),
        ("hf:our/nothing", ["our/nothing", "doesn't exist"]),
    ],
)
def test_what_the_hub_has_not_is_a_mistake_of_the_recipe(tmp_path, name, words):
    with hub_server(files()) as server:
        refused(server.env(tmp_path), name, 2, "[prompts] source", *words)


def test_a_class_label_reads_as_its_name(tmp_path):
    card = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: queue\n    dtype:\n      class_label:\n"
    card += "        names:\n          '0': billing\n          '1': delivery\n---\n"
    rows = b'{"text": "a", "queue": 1}\n{"text": "b", "queue": 0}\n{"text": "c", "queue": -1}\n{"text": "d", "queue": null}\n'
    with hub_server({"README.md": card.encode(), "train.jsonl": rows}) as server:
        ((_, found),) = read(server.env(tmp_path), NAME)

    assert [values["queue"] for values, _ in found] == ["delivery", "billing", None, None]


def test_tools_of_different_forms_are_what_was_written(tmp_path):
    """The library keeps what differs from row to row as JSON text; here it is read back."""
    chats = [
        {"messages": [{"role": "user", "content": text}], "tools": [{"type": "function", "function": {"name": text, "parameters": given}}]}
        for text, given in (("a", {"x": {"type": "string"}}), ("b", {"x": ["string", 1]}))
    ]
    with hub_server({"train.jsonl": "".join(json.dumps(row) + "\n" for row in chats).encode()}) as server:
        ((_, found),) = read(server.env(tmp_path), NAME)

    assert [values for values, _ in found] == chats


def test_a_folder_of_that_name_does_not_stand_in_for_the_hub(tmp_path):
    (tmp_path / REPO).mkdir(parents=True)
    (tmp_path / REPO / "train.jsonl").write_bytes(tickets(3))
    env = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = run(READ, env, NAME, cwd=tmp_path)

    assert "MissingError" in done.stderr


def test_generate_asks_the_prompts_of_the_hub_and_holds_out_the_split_that_is_named(tmp_path):
    recipe = project(tmp_path, prompts={"source": NAME, "held_out": f"{NAME}[split=test]", "reference": "queue"})
    with hub_server(files()) as server:
        done = synthdistill("generate", recipe, "--json", env=server.env(tmp_path))
    again = synthdistill("generate", recipe, env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"})

    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "runs" / "toy" / "main" / "generate" / "manifest.json").read_text())
    assert manifest["counts"]["more"]["prompts_held_out"] == 20
    assert manifest["files"].keys() == {NAME, f"{NAME}[split=test]", "prompt.md"}
    assert (again.returncode, "up to date" in again.stdout + again.stderr) == (0, True)


@pytest.mark.parametrize(
    "name", ["hf:", "hf:a/b/c", "hf:a/b[", "hf:a/b[train]", "hf:a/b[splt=x]", "hf:a/b[split=]", "hf:a/b[split=x,split=y]"]
)
def test_a_name_of_another_form_is_refused_with_the_right_one(name):
    with pytest.raises(RecipeError, match=r"hf:owner/name\[split=test"):
        list(hub.rows(name))


def test_without_the_library_the_extra_is_named(tmp_path):
    blocked = "import sys; sys.modules['datasets'] = None\nimport importlib.util as u\nf = u.find_spec\n"
    blocked += "u.find_spec = lambda name, *a: None if name == 'datasets' else f(name, *a)\n"
    done = run(blocked + READ, {}, NAME)

    assert "needs the package datasets" in done.stderr
    assert "synthdistill[train]" in done.stderr
