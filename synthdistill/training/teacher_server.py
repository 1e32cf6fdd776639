"""A teacher behind a vLLM server: what it thinks of tokens that are there already, by `prompt_logprobs` of /v1/completions.

    found = client(Server("http://localhost:8000", "qwen3-32b")).get_sequence_logprobs([[1, 2, 3]], [1], top_logprobs=1)
    found["actual_logprobs"]                         # [[[-0.3], [-1.2]]]: of ids 2 and 3

The request and its reading are TRL's. Its own client takes the first model of a server, sends no key, and needs vLLM beside it.
"""

from dataclasses import dataclass
from typing import Any

from synthdistill.errors import MissingError

RETRIES = 5
"""Of a request that found the server away or busy, after 0, 2, 4, 8 and 16 seconds."""
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where a teacher is asked. `url` stands before /v1."""

    url: str
    model: str
    key: str | None = None
    top_k: int = 1
    """Tokens of a distribution that it is asked for."""


def client(server: Server) -> Any:
    """TRL's client for one server, after proof that it scores.

    Raises:
        MissingError: it cannot be reached, does not know the model, or returns no log-probabilities of a prompt.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from trl.generation.vllm_client import VLLMClient
    from urllib3.util.retry import Retry

    class Client(VLLMClient):  # type: ignore[misc]
        """With a key, a model by name, and errors in a line."""

        def __init__(self) -> None:
            self.base_url, self.model, self.session = server.url, server.model, requests.Session()
            self.communicator = None
            again = Retry(total=RETRIES, backoff_factor=1, status_forcelist=[429, 500, 502, 503], allowed_methods=["POST"])
            for scheme in ("http://", "https://"):
                self.session.mount(scheme, HTTPAdapter(max_retries=again))
            if server.key:
                self.session.headers["Authorization"] = f"Bearer {server.key}"

        def _post(self, url: str, **kwargs: Any) -> Any:
            try:
                response = self.session.post(url, timeout=TIMEOUT_S, **kwargs)
            except requests.RequestException as error:
                raise MissingError(
                    f"the teacher at {server.url} cannot be reached: {type(error).__name__}",
                    "Start it with: vllm serve MODEL; the same command goes on from the last checkpoint",
                ) from error
            if response.status_code != 200:
                said = " ".join(response.text.split())[:200]
                raise MissingError(
                    f"the teacher at {server.url} answered {response.status_code}: {said}",
                    "Look at [teacher] model, its key, and the server's --max-logprobs",
                )
            found = response.json()
            if any("prompt_logprobs" not in choice for choice in found.get("choices", [{}])):
                raise MissingError(
                    f"the server at {server.url} returns no prompt_logprobs, as vLLM's does",
                    'Serve the teacher with: vllm serve MODEL; or give its weights as [teacher] kind = "transformers"',
                )
            return found

    found = Client()
    found.get_sequence_logprobs([[0, 0]], [1], top_logprobs=server.top_k)
    return found
