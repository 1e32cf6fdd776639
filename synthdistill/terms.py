"""Whether a teacher may be trained on: what its licence says, and who took it upon themselves where it says no, or nothing.

    terms.accept(recipe.teacher, run)                          # --accept-terms: noted in the run's terms.json
    terms.refuse_unaccepted(recipe.teacher, run)               # before anything is asked
    manifest = opening.seal(..., terms=terms.used(recipe.teacher, run))

A record counts for the same model with the same terms at the same public hosts, so that a scheduled start needs no option.
"""

import getpass
import ipaddress
import json
import os
import platform
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

import synthdistill
from synthdistill.errors import RecipeError, StorageError, storage
from synthdistill.manifest import Accepted, TermsUsed
from synthdistill.runs import Run
from synthdistill.samplers import identify, model_folder
from synthdistill.samplers.base import BuiltinModel, Model, TransformersModel, VllmModel
from synthdistill.shards import seal

UNKNOWN = "unknown"
BUILTIN = "apache-2.0"
"""The licence of the models in the package."""
_PRIVATE4 = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/32")
_PRIVATE6 = ("::1/128", "::/128", "fc00::/7", "fe80::/10")
_PRIVATE = [ipaddress.ip_network(network) for network in (*_PRIVATE4, *_PRIVATE6)]
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")


class Acceptance(BaseModel):
    """One entry of terms.json. `hosts` are the public ones that the teacher was asked at; `terms` the recipe's table, null without one."""

    by: str
    host: str
    at: str
    model: str
    revision: str | None
    hosts: list[str]
    terms: dict[str, Any] | None
    version: str


def refuse_unaccepted(model: Model, place: Run) -> None:
    """Stop before a teacher is asked, or trained on, whose terms nobody has allowed or accepted.

    Raises:
        RecipeError: the terms forbid training, or there are none for a teacher elsewhere; names both ways out.
        StorageError: terms.json cannot be read.
    """
    if reason := needed(model, place):
        way = "mend [teacher] terms" if model.terms else "add [teacher] terms = { licence = ..., training_allowed = true }"
        command = f"{place.command('generate')} --accept-terms"
        raise RecipeError(reason, f"Read its licence; then {way}, or answer for it yourself, once, with: {command}")


def needed(model: Model, place: Run) -> str | None:
    """Why somebody has to accept the terms first, None where nobody has to or somebody has."""
    reason = _reason(model)
    return reason if reason and not _accepted(model, place) else None


def accept(model: Model, place: Run) -> None:
    """Note in terms.json who accepts what, and when. Nothing is noted where nothing has to be accepted, or it has been.

    Raises:
        StorageError: the file cannot be read or written.
    """
    if needed(model, place) is None:
        return
    identity = identify(model, place.base)
    accepted = Acceptance(
        by=user(),
        host=platform.node(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=identity.id,
        revision=identity.revision,
        hosts=_public_hosts(model),
        terms=model.terms.model_dump(mode="json") if model.terms else None,
        version=synthdistill.__version__,
    )
    entries = [entry.model_dump() for entry in [*_read(place), accepted]]
    seal(place.folder / "terms.json", (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode(), rows=len(entries))


def take_over(place: Run) -> None:
    """Let what was accepted for other runs of the recipe hold for one that has no record of its own.

    Raises:
        StorageError: a file cannot be read or written.
    """
    if (place.folder / "terms.json").is_file():
        return
    found = [entry for folder in place.siblings() for entry in _read(Run(folder, place.base, place.recipe))]
    entries = [entry.model_dump() for entry in sorted(found, key=lambda entry: entry.at)]
    if entries:
        with storage(place.folder):
            place.folder.mkdir(parents=True, exist_ok=True)
        unique = [entry for number, entry in enumerate(entries) if entry not in entries[:number]]
        seal(place.folder / "terms.json", (json.dumps(unique, indent=2, ensure_ascii=False) + "\n").encode(), rows=len(unique))


def used(model: Model, place: Run) -> TermsUsed:
    """The terms as a manifest carries them. Where the recipe has none, the licence is looked for beside the model."""
    found = _accepted(model, place) if _reason(model) else None
    accepted = Accepted(by=found.by, at=found.at) if found else None
    if model.terms:
        return TermsUsed(**model.terms.model_dump(), accepted=accepted)
    match model:
        case BuiltinModel():
            return TermsUsed(licence=BUILTIN, training_allowed=True)
        case TransformersModel() | VllmModel():
            return TermsUsed(licence=licence_of(model.model, place.base), accepted=accepted)
        case _:
            return TermsUsed(licence=UNKNOWN, accepted=accepted)


def licence_of(model: str, base: Path) -> str:
    """The licence of a model folder, as the YAML header of its README.md names it; `unknown` where it does not, or for a hub id."""
    if model == "builtin":
        return BUILTIN
    folder = model_folder(model, base)
    card = folder / "README.md" if folder else None
    if card is None or not card.is_file():
        return UNKNOWN
    with card.open(encoding="utf-8", errors="replace") as lines:
        head = re.match(r"\ufeff?---\s*\n(.*?)^---\s*$", lines.read(1 << 20), re.DOTALL | re.MULTILINE)
    named = dict(re.findall(r"^(license|license_name):[ \t]*(?:\n[ \t]*-)?[ \t]*[\"']?([^\s\"'#]+)", head[1] if head else "", re.MULTILINE))
    licence: str = named.get("license", UNKNOWN)
    return named.get("license_name", licence) if licence == "other" else licence


def is_local(url: str) -> bool:
    """Whether an address is on this machine or in a private network: loopback, RFC 1918, link-local, unique local IPv6, `.local`,
    `.internal`, a name without a dot (docker compose), a Unix socket. What cannot be told is not."""
    try:
        parts = urlsplit(url if "://" in url or url.startswith("unix:") else f"//{url}")
        host = (parts.hostname or "").removesuffix(".")
    except ValueError:
        return False
    if "unix" in parts.scheme:
        return True
    address = _address(host)
    if address is not None:
        return any(address in network for network in _PRIVATE if network.version == address.version)
    return bool(host) and ("." not in host or host.endswith(_LOCAL_ENDINGS))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; `134744072` and `0x8080808` are addresses too, and no names of a private network."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return getattr(found, "ipv4_mapped", None) or found


def _reason(model: Model) -> str | None:
    if model.terms:
        if model.terms.training_allowed:
            return None
        return f"[teacher] terms say that {model.terms.licence!r} does not allow training on this teacher's answers"
    if hosts := _public_hosts(model):
        return f"the teacher is at {', '.join(hosts)}, which is not local, and the recipe does not say on which terms ([teacher] terms)"
    return None


def _public_hosts(model: Model) -> list[str]:
    """Where a teacher is asked outside of this machine and its network; a provider's own address, which is not written out, is."""
    if "base_url" not in type(model).model_fields:
        return []
    urls = model.model_dump(include={"base_url"})["base_url"]
    found = [str(url) for url in (urls if isinstance(urls, list | tuple) else [urls])]
    return sorted({urlsplit(url).hostname or url for url in found if not is_local(url)})


def _accepted(model: Model, place: Run) -> Acceptance | None:
    """The newest record that covers this teacher on these terms."""
    records = _read(place)
    if not records:
        return None
    identity, hosts = identify(model, place.base), set(_public_hosts(model))
    claims = _claims(model.terms.model_dump() if model.terms else None)
    same = [
        each
        for each in records
        if (each.model, each.revision) == (identity.id, identity.revision) and hosts <= set(each.hosts) and _claims(each.terms) == claims
    ]
    return same[-1] if same else None


def _claims(terms: dict[str, Any] | None) -> tuple[Any, ...] | None:
    """The part of the terms that was accepted; when somebody last looked is none of it."""
    return (terms.get("licence"), terms.get("training_allowed")) if terms else None


def _read(place: Run) -> list[Acceptance]:
    path = place.folder / "terms.json"
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Acceptance]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(
            f"{path} cannot be read: {error.errors()[0]['msg']}", "Restore it, or remove it and accept the terms again"
        ) from error


def user() -> str:
    """The name of the account; its number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
