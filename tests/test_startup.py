import json
import subprocess
import sys

import pytest
import typer.main

from synthdistill.cli import app

HEAVY = {"aiohttp", "datasets", "jinja2", "jsonschema_rs", "msgspec", "numpy", "openai", "peft", "py3langid", "pyarrow", "pydantic", "ray"}
HEAVY |= {"torch", "transformers", "trl", "vllm"}
COMMANDS = list(typer.main.get_command(app).commands)
PROGRAM = """
import json, sys
from synthdistill.cli import main
try:
    main()
except SystemExit as stop:
    sys.stderr.write(json.dumps([stop.code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_imports_no_heavy_library_and_builds_no_pydantic_model(arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    code, modules = json.loads(done.stderr)

    assert code == 0
    assert "Usage:" in done.stdout
    assert not HEAVY & {name.partition(".")[0] for name in modules}


def test_help_loads_only_the_command_line_and_its_errors_of_our_own_modules():
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--help"], capture_output=True, text=True, check=False)
    _, modules = json.loads(done.stderr)

    assert {name for name in modules if name.startswith("synthdistill")} <= {
        f"synthdistill{part}" for part in ("", ".cli", ".verbs", ".errors")
    }
