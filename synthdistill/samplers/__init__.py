"""Models behind one door: `open_sampler`, `open_scorer` and `identify` choose by the `kind` of the table.

identity = identify(config.teacher, base)
with open_sampler(config.teacher, base, Workload()) as sampler: ...
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from synthdistill.errors import MissingError, RecipeError
from synthdistill.manifest import file_hash, folder_hash
from synthdistill.records import Completion
from synthdistill.samplers.base import (
    ApiModel,
    BatchModel,
    BuiltinModel,
    Identity,
    Model,
    Request,
    Sampler,
    ScriptedModel,
    TransformersModel,
    VllmModel,
    Workload,
)

BUILTIN_TEACHER = Path(__file__).parent.parent / "templates" / "teacher"
BUILTIN_BASE = Path(__file__).parent.parent / "templates" / "base"


def identify(model: Model, base: Path) -> Identity:
    """Say which model a table names, without loading it.

    Raises:
        RecipeError: a path that is no model folder or no file.
    """
    match model:
        case ApiModel() | BatchModel():
            return Identity(model.model, model.revision, extra=model.extra)
        case BuiltinModel():
            return Identity("builtin/triage-teacher", folder_hash(BUILTIN_TEACHER), BUILTIN_TEACHER)
        case ScriptedModel():
            answers = base / model.answers
            if not answers.is_file():
                raise RecipeError(f"[teacher] answers: no such file: {answers}", "Give a JSONL file of scripted answers")
            return Identity(f"scripted/{answers.name}", file_hash(answers)[:16])
        case TransformersModel():
            return _of_weights(model.model, model.revision, base)
        case VllmModel():
            weights = _of_weights(model.model, model.revision, base)
            return replace(weights, revision=", ".join(filter(None, [weights.revision, *_variant(model, base)])) or None)


def open_sampler(model: Model, base: Path, workload: Workload) -> Sampler:
    """Open the sampler of a table. Its library is imported here, not before.

    Raises:
        RecipeError, MissingError: the model, the key, the server or the extra is not there.
    """
    match model:
        case ApiModel():
            from synthdistill.samplers.api import ApiSampler

            return ApiSampler(model.base_url, model.model, api_key(model), workload, model.rpm, model.tpm, model.extra)
        case BatchModel():
            from synthdistill.samplers.batch import BatchSampler

            return BatchSampler(model, api_key(model), workload)
        case ScriptedModel():
            from synthdistill.samplers.scripted import ScriptedSampler

            return ScriptedSampler(base / model.answers)
        case TransformersModel() | BuiltinModel():
            from synthdistill.samplers.transformers import TransformersSampler

            path, revision = weights_of(model, base)
            return TransformersSampler(path, identify(model, base).id, workload, revision)
        case VllmModel():
            from synthdistill.samplers.vllm import VllmSampler

            path, revision = weights_of(model, base)
            return VllmSampler(
                path,
                identify(model, base).id,
                workload,
                revision=revision,
                engine=model.arguments(),
                lora=_lora(model, base),
            )


def open_scorer(model: ApiModel | VllmModel, base: Path, workload: Workload, *, top: int, vocabulary: int, longest: int) -> Sampler:
    """Open a served model as one that scores (`samplers/scores.py`): asked for so many tokens of a place at most, of a vocabulary of about
    so many, and for rows of `longest` ids at most.

    Raises:
        RecipeError, MissingError: the model, the key, the server or the extra is not there.
    """
    if isinstance(model, ApiModel):
        from synthdistill.samplers.api_scores import ApiScores

        return ApiScores(model.base_url, model.model, api_key(model), workload, model.rpm, model.tpm, longest=longest, top=top)
    from synthdistill.samplers.vllm_scores import VllmScores

    path, revision = weights_of(model, base)
    return VllmScores(
        path,
        identify(model, base).id,
        workload,
        top=top,
        vocabulary=vocabulary,
        revision=revision,
        engine=model.arguments(),
        lora=_lora(model, base),
    )


def _lora(model: VllmModel, base: Path) -> str | None:
    return str(adapter_folder(model.lora, base) or model.lora) if model.lora else None


def weights_of(model: TransformersModel | BuiltinModel | VllmModel, base: Path) -> tuple[str, str | None]:
    """The folder or hub id of a model whose weights are here, and its revision.

    Raises:
        RecipeError: a path that is no model folder.
    """
    if isinstance(model, BuiltinModel):
        return str(BUILTIN_TEACHER), None
    return str(model_folder(model.model, base) or model.model), model.revision


def _of_weights(model: str, revision: str | None, base: Path) -> Identity:
    folder = model_folder(model, base)
    return Identity(model, revision) if folder is None else Identity(folder.name, folder_hash(folder), folder)


def _variant(model: VllmModel, base: Path) -> Iterator[str]:
    """What makes other answers of the same weights. Nothing where nothing is set, so that a plain model keeps its ids."""
    if model.lora:
        folder = adapter_folder(model.lora, base)
        yield f"lora {folder.name} {folder_hash(folder)}" if folder else f"lora {model.lora}"
    if model.quantization:
        yield f"quantization {model.quantization}"
    if model.dtype:
        yield f"dtype {model.dtype}"


def settle_open(model: Model, workload: Workload, requests: Iterable[Request]) -> Iterator[Completion]:
    """Before a model is asked live: cancel the batches of an earlier start, wait until they are, and give what they have answered of the
    requests. The others are in no batch any more, so that nothing is paid for twice. Without a batch nothing is done or taken.

    Raises:
        SamplerError, MissingError: the provider cannot be asked, or is not the one that has them.
    """
    from synthdistill.samplers import batch_state

    if not isinstance(model, ApiModel) or workload.folder is None or not batch_state.batches(workload.folder):
        return
    from synthdistill.samplers.batch import BatchSampler

    urls = [model.base_url] if isinstance(model.base_url, str) else model.base_url
    there = BatchModel(kind="batch", model=model.model, base_url=urls[0], price=model.price)
    with BatchSampler(there, api_key(model), workload) as sampler:
        yield from sampler.settle(requests)


def model_folder(model: str, base: Path) -> Path | None:
    """The local folder that a model name means, None for a hub id. `builtin` is the base student of the package.

    Raises:
        RecipeError: a path that is no model folder.
    """
    if model == "builtin":
        return BUILTIN_BASE
    folder = base / Path(model).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.exists() or model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise RecipeError(
            f"{model!r} is no model folder: {folder}/config.json is not there", "Give a folder with config.json, or a hub id owner/name"
        )
    return None


def adapter_folder(lora: str, base: Path) -> Path | None:
    """The local folder of a PEFT adapter, None for a hub id.

    Raises:
        RecipeError: a path that is no adapter's folder.
    """
    folder = base / Path(lora).expanduser()
    if (folder / "adapter_config.json").is_file():
        return folder
    if folder.exists() or lora.startswith((".", "/", "~")) or lora.count("/") != 1:
        raise RecipeError(
            f"{lora!r} is no LoRA adapter: {folder}/adapter_config.json is not there",
            "Give the folder that PEFT's save_pretrained wrote, or a hub id owner/name",
        )
    return None


def api_key(model: ApiModel | BatchModel) -> str | None:
    """The key from the environment variable that the table names, None where it names none.

    Raises:
        MissingError: the variable is not set.
    """
    if model.api_key_env is None:
        return None
    key = os.environ.get(model.api_key_env)
    if not key:
        raise MissingError(
            f"the environment variable {model.api_key_env} is not set ([teacher] api_key_env)", f"export {model.api_key_env}=..."
        )
    return key
