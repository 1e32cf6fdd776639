"""A real vLLM server on a local port, for as long as a block lasts. It takes half a minute to start: one for all tests of a file.

with vllm_server(folder, max_logprobs=84) as url: ...
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_S = 300


@contextmanager
def vllm_server(folder: Path, *, max_logprobs: int, log: Path) -> Iterator[str]:
    """The address of a server of a model folder, which it calls `tiny`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    options = {"model": folder, "served-model-name": "tiny", "host": "127.0.0.1", "port": port, "dtype": "float32"}
    options["max-logprobs"] = max_logprobs
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=os.environ | given, stdout=said, stderr=said, start_new_session=True)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if urlopen(url, timeout=5).status == 200:
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"vLLM did not start: {log.read_text(errors='replace')[-2000:]}")
