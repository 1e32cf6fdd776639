"""Where a run comes from: recipe, models, files, versions, the teacher's terms.

provenance(place, manifests).models
"""

import tomllib
from dataclasses import dataclass
from typing import Any

from synthdistill.manifest import Manifest
from synthdistill.runs import Run


@dataclass(frozen=True, slots=True)
class Used:
    """A model, in a role, and the stages that used it."""

    role: str
    id: str
    revision: str | None
    stages: list[str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """`terms` is the `[teacher] terms` table, or what generate noted without one; `packages` maps a name to its version, with all of
    them where stages differ."""

    recipe: str | None
    terms: dict[str, Any] | None
    models: list[Used]
    sources: dict[str, str]
    packages: dict[str, str]


def provenance(place: Run, manifests: dict[str, Manifest]) -> Provenance:
    """Gather it from the run's folder and its manifests."""
    path = place.folder / "recipe.resolved.toml"
    recipe = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    return Provenance(recipe, _terms(recipe, manifests), _models(manifests), _sources(manifests), _packages(manifests))


def _terms(recipe: str | None, manifests: dict[str, Manifest]) -> dict[str, Any] | None:
    """As the recipe says, else as generate found them; and who accepted them. None where nothing at all is known."""
    noted = manifests["generate"].terms if "generate" in manifests else None
    found = _table(recipe)
    if found is None and noted and (noted.accepted or noted.licence != "unknown"):
        found = noted.model_dump(exclude={"accepted"}, exclude_none=True)
    if found is not None and noted and noted.accepted:
        found["accepted"] = f"by {noted.accepted.by}, {noted.accepted.at.replace('+00:00', 'Z')}"
    return found


def _table(recipe: str | None) -> dict[str, Any] | None:
    try:
        teacher = tomllib.loads(recipe or "").get("teacher", {})
    except tomllib.TOMLDecodeError:
        return None
    terms = teacher.get("terms") if isinstance(teacher, dict) else None
    return dict(terms) if isinstance(terms, dict) else None


def _models(manifests: dict[str, Manifest]) -> list[Used]:
    found: dict[tuple[str, str, str | None], Used] = {}
    for stage, manifest in manifests.items():
        for role, model in manifest.models.items():
            used = found.setdefault((role, model.id, model.revision), Used(role, model.id, model.revision, []))
            used.stages.append(stage)
    return list(found.values())


def _sources(manifests: dict[str, Manifest]) -> dict[str, str]:
    return {name: sha256 for manifest in manifests.values() for name, sha256 in manifest.files.items()}


def _packages(manifests: dict[str, Manifest]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for manifest in manifests.values():
        for name, version in {"synthdistill": manifest.version, **manifest.packages}.items():
            versions = found.setdefault(name, [])
            if version not in versions:
                versions.append(version)
    return {name: ", ".join(versions) for name, versions in found.items()}
