"""A real HTTP server on a local port that answers as the Hugging Face hub does for one data set: info, tree and files of each revision.

with hub_server({"train.jsonl": b"..."}) as hub:
    synthdistill("generate", recipe, env=hub.env(tmp_path))
    assert hub.asked
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from background import in_background

REPO = "our/tickets"


@dataclass(slots=True)
class Hub:
    """What a test sees of it. `files` may be changed in between: that is another commit."""

    files: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    old: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Revisions that there were, by commit."""

    @property
    def commit(self) -> str:
        """The commit of `main`."""
        parts = [f"{name} {hashlib.sha1(data).hexdigest()}" for name, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()

    def env(self, folder: Path, **more: str) -> dict[str, str]:
        """The variables with which a process finds this hub, and its cache in the folder."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | more

    def of(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """The commit and the files of a revision."""
        self.old[self.commit] = dict(self.files)
        commit = self.commit if revision == "main" else revision
        if commit not in self.old:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RevisionNotFound"})
        return commit, self.old[commit]

    async def info(self, http: web.Request) -> web.Response:
        """What the hub says about the data set."""
        self._count(http)
        commit, files = self.of(http.match_info.get("revision", "main"))
        siblings = [{"rfilename": name} for name in files]
        return web.json_response(
            {"id": REPO, "sha": commit, "private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
        )

    async def tree(self, http: web.Request) -> web.Response:
        """The files of a folder."""
        self._count(http)
        _, files = self.of(http.match_info["revision"])
        folder = http.match_info.get("path", "")
        found = [self._entry(name, files[name]) for name in files if name.startswith(folder)]
        if not found:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"})
        return web.json_response(found)

    async def paths(self, http: web.Request) -> web.Response:
        """Those of some paths that there are."""
        self._count(http)
        _, files = self.of(http.match_info["revision"])
        form: Any = await http.post() if "form" in http.content_type else await http.json()
        wanted = form.getall("paths") if hasattr(form, "getall") else form["paths"]
        return web.json_response([self._entry(name, files[name]) for name in files if name in wanted])

    async def file(self, http: web.Request) -> web.Response:
        """One file."""
        self._count(http)
        commit, files = self.of(http.match_info["revision"])
        name = http.match_info["path"]
        if name not in files:
            raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha1(files[name]).hexdigest()
        return web.Response(body=files[name], headers={"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    async def other(self, http: web.Request) -> web.Response:
        """Anything else there is not."""
        self._count(http)
        raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})

    def _count(self, http: web.Request) -> None:
        self.asked.append(f"{http.method} {http.path}")

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@contextmanager
def hub_server(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub while the block lasts."""
    hub = Hub(files)
    app = web.Application()
    api, own = f"/api/datasets/{REPO}", f"/datasets/{REPO}"
    app.router.add_get(api, hub.info)
    app.router.add_get(f"{api}/revision/{{revision}}", hub.info)
    app.router.add_get(f"{api}/tree/{{revision}}", hub.tree)
    app.router.add_get(f"{api}/tree/{{revision}}/{{path:.+}}", hub.tree)
    app.router.add_post(f"{api}/paths-info/{{revision}}", hub.paths)
    app.router.add_get(f"{own}/resolve/{{revision}}/{{path:.+}}", hub.file)
    app.router.add_route("*", "/{path:.*}", hub.other)
    with in_background(app) as origin:
        hub.url = origin
        yield hub
