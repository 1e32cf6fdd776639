"""Texts as vectors of what they mean, by a model that the recipe names; the door to the libraries that run one.

    model = find("models/minilm", place.base)
    vectors = embed(texts, model, cache)          # [n, d], kept in the folder `cache`: a second call embeds nothing

A model is a folder of sentence-transformers, or an ONNX file with a tokenizer. It reads a text as a whole or not at all: two texts that
are longer than a model reads could begin the same and end with the opposite, and two in a script that it does not know are to it the same
row of question marks. Such a text, and one without a word, has a vector of zeros and is like nothing.
"""

import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synthdistill.errors import MissingError, RecipeError, require
from synthdistill.hushed import hushed
from synthdistill.manifest import file_hash
from synthdistill.progress import Advance
from synthdistill.quality.vector_cache import F32, Store, Vectors

KEY = "[filter] semantic_duplicates"
WINDOW = 4096, 1 << 24
"""Texts, and characters, that are held at once; those of about one length are embedded together."""
STEP = 256
"""Texts that are embedded between two writes: what a kill can take."""
DENSE = 64
"""Characters a token. A text with more of them than the model reads tokens, times this, is too long and need not be cut into tokens."""
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_READ = (".json", ".txt", ".model", ".safetensors")
"""The files of a model that sentence-transformers reads; others are of other libraries, or are for people."""
_ELSEWHERE = ("onnx", "openvino")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was found. `revision` is a hash of its files, 16 hex digits; `weights` is its ONNX file, where that is what runs it."""

    name: str
    folder: Path
    revision: str
    weights: Path | None = None


def find(name: str, base: Path) -> Model:
    """What a recipe in the folder `base` names: a folder or an ONNX file, an installed package that ships a model, or a model of the hub,
    which is fetched unless it is there.

    Raises:
        RecipeError: there is no such thing, or it is no model.
        MissingError: the hub cannot be reached.
    """
    path = base / name
    if path.is_dir():
        return _in_folder(name, path)
    if path.suffix == ".onnx" and path.is_file():
        return _of_onnx(name, path)
    if packaged := _packaged(name):
        return _in_folder(name, packaged)
    if _HUB_ID.fullmatch(name):
        return _in_folder(name, _fetched(name))
    raise RecipeError(
        f"{KEY}: model {name!r} is no folder, no installed package with a model, and no id of the hub",
        "Give a folder, or an id such as 'sentence-transformers/all-MiniLM-L6-v2'",
    )


def revision(name: str, base: Path) -> str:
    """The hash of a model's files; raises what `find` raises."""
    return find(name, base).revision


def embed(texts: Iterable[str], model: Model, cache: Path, *, batch: int = 32, advance: Advance = lambda count: None) -> Vectors:
    """The vectors of texts, in their order.

    `batch` are in the model at once. `cache` is a folder that several models and processes may share; a call that is killed goes on where
    it was. The model is only loaded where a text is new to it.

    Raises:
        MissingError: the extra `semantic` is not installed.
        RecipeError: the model cannot be loaded.
        StorageError: the cache cannot be written.
    """
    store = Store(cache / model.revision)
    encoder: _Encoder | None = None
    found, embedded = [np.empty(0, np.int64)], 0
    for window in _windows(texts):
        keys = np.array([_key(text) for text in window], np.uint64)
        said = np.array([_has_words(text) for text in window])
        _, first = np.unique(keys, axis=0, return_index=True)
        new = first[said[first] & (store.places(keys)[first] < 0)]
        new = new[np.lexsort((keys[new, 0], [len(window[row]) for row in new.tolist()]))]
        for start in range(0, len(new), STEP):
            encoder = encoder or _load(model, batch)
            some = new[start : start + STEP]
            store.add(keys[some], _vectors(encoder, [_mended(window[row]) for row in some.tolist()]))
        found.append(np.where(said, store.places(keys), -1))
        embedded += len(new)
        advance(len(window))
    return Vectors(store.file(), np.concatenate(found), embedded)


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    size = 0
    for text in texts:
        window.append(text)
        size += len(text)
        if len(window) >= WINDOW[0] or size >= WINDOW[1]:
            yield window
            window, size = [], 0
    if window:
        yield window


def _key(text: str) -> tuple[int, int]:
    whole = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:], "little")


def _has_words(text: str) -> bool:
    return any(map(str.isalnum, text))


def _mended(text: str) -> str:
    """The text as UTF-8 can hold it: a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Encoder(Protocol):
    """A model that was loaded."""

    dimension: int
    reader: "_Reader"

    def encode(self, texts: list[str]) -> F32:
        """Vectors [n, d], of any length."""
        ...


def _vectors(encoder: _Encoder, texts: Sequence[str]) -> F32:
    """Vectors [n, d] of texts, of length 1; of zeros where the model does not read a text as a whole, or found no number for it."""
    rows = encoder.reader.whole(texts)
    found = np.zeros((len(texts), encoder.dimension), np.float32)
    if rows:
        found[rows] = encoder.encode([texts[row] for row in rows])
    found[~np.isfinite(found).all(axis=1)] = 0
    length = np.linalg.norm(found, axis=1, keepdims=True)
    np.divide(found, length, out=found, where=length > 0)
    return found


class _Reader:
    """Which texts a model reads as a whole: with the words that the model puts before them no more than `longest` tokens, and none that it
    does not know."""

    def __init__(self, tokenizer: Any, longest: float, before: str = "") -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())  # its own, for truncation is a state
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        used = self._tokenizer.num_special_tokens_to_add(False) + len(self._tokenizer.encode(before, add_special_tokens=False).ids)
        self._longest = longest - used
        model = json.loads(self._tokenizer.to_str())["model"]
        unknown = model.get("unk_token")
        self._unknown = model.get("unk_id") if unknown is None else self._tokenizer.token_to_id(unknown)

    def whole(self, texts: Sequence[str]) -> list[int]:
        """The numbers of these texts."""
        rows = [row for row, text in enumerate(texts) if len(text) <= DENSE * self._longest]
        encoded = self._tokenizer.encode_batch([texts[row] for row in rows], add_special_tokens=False)
        return [row for row, each in zip(rows, encoded, strict=True) if len(each.ids) <= self._longest and self._unknown not in each.ids]


def _load(model: Model, batch: int) -> _Encoder:
    return _Onnx(model, batch) if model.weights else _SentenceTransformer(model, batch)


class _SentenceTransformer:
    """A folder of sentence-transformers, on a GPU where there is one."""

    def __init__(self, model: Model, batch: int) -> None:
        require("sentence_transformers", "semantic", KEY)
        with hushed(), _translated(model.name):
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(str(model.folder), local_files_only=True)
            self._batch = batch
            longest = math.inf if self._model.max_seq_length is None else float(self._model.max_seq_length)
            before = self._model.prompts.get(self._model.default_prompt_name or "") or ""
            self.reader = _Reader(getattr(self._model.tokenizer, "backend_tokenizer", self._model.tokenizer), longest, before)
            self.dimension = self.encode(["a"]).shape[1]

    def encode(self, texts: list[str]) -> F32:
        return np.asarray(self._model.encode(texts, batch_size=self._batch, show_progress_bar=False), np.float32)


class _Onnx:
    """An ONNX file and a `tokenizer.json`. Where it gives a vector for each token, these are averaged, or the first one counts, as
    `1_Pooling/config.json` says."""

    def __init__(self, model: Model, batch: int) -> None:
        for package in ("onnxruntime", "tokenizers"):
            require(package, "semantic", KEY)
        longest = _longest(model)
        self._first = _takes_first(model)
        self._batch = batch
        with _translated(model.name):
            import onnxruntime
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self.reader = _Reader(self._tokenizer, longest)
            there = onnxruntime.get_available_providers()
            providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
            self._session = onnxruntime.InferenceSession(str(model.weights), providers=providers)
            self._inputs = [each.name for each in self._session.get_inputs()]
            outputs = [each.name for each in self._session.get_outputs()]
            self._output = "sentence_embedding" if "sentence_embedding" in outputs else outputs[0]
            self.dimension = self.encode(["a"]).shape[1]

    def encode(self, texts: list[str]) -> F32:
        return np.concatenate([self._encoded(texts[start : start + self._batch]) for start in range(0, len(texts), self._batch)])

    def _encoded(self, texts: list[str]) -> F32:
        encodings = self._tokenizer.encode_batch(texts)
        shape = len(texts), max(1, *(len(each.ids) for each in encodings))
        filled = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        for row, each in enumerate(encodings):
            for values, tokens in zip(filled.values(), (each.ids, each.attention_mask, each.type_ids), strict=True):
                values[row, : len(tokens)] = tokens
        (output,) = self._session.run([self._output], {name: filled[name] for name in self._inputs})
        if output.ndim == 2:
            return np.asarray(output, np.float32)
        if self._first:
            return np.asarray(output[:, 0], np.float32)
        mask = filled["attention_mask"][:, :, None]
        return np.asarray((output * mask).sum(axis=1) / np.maximum(1, mask.sum(axis=1)), np.float32)


def _longest(model: Model) -> float:
    """How many tokens an ONNX model reads: the least that the files beside it say."""
    said = [
        _json(model.folder / file).get(key)
        for file, key in (
            ("sentence_bert_config.json", "max_seq_length"),
            ("tokenizer_config.json", "model_max_length"),
            ("config.json", "max_position_embeddings"),
        )
    ]
    numbers = [float(number) for number in said if isinstance(number, int | float) and number > 0]
    if not numbers:
        raise RecipeError(
            f"{KEY}: nothing in {model.folder} says how many tokens {model.name} reads",
            'Put a sentence_bert_config.json there, such as {"max_seq_length": 512}',
        )
    return min(numbers)


def _takes_first(model: Model) -> bool:
    """Whether the first token's vector stands for the text, and not the mean of all."""
    pooling = _json(model.folder / "1_Pooling" / "config.json")
    ways = {key.removeprefix("pooling_mode_") for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True}
    ways |= {str(pooling["pooling_mode"])} if "pooling_mode" in pooling else set()
    if not ways <= {"mean", "mean_tokens", "cls", "cls_token"} or len(ways) > 1:
        raise RecipeError(
            f"{KEY}: {model.name} pools tokens by {', '.join(sorted(ways))}", "Give its folder of sentence-transformers instead"
        )
    return any(way.startswith("cls") for way in ways)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{KEY}: {path} is no JSON: {error}", "Mend it") from error
    return found if isinstance(found, dict) else {}


def _in_folder(name: str, folder: Path) -> Model:
    if (folder / "modules.json").is_file() and any(_files(folder, (".safetensors", ".bin"))):
        weights = _files(folder, (".safetensors",)) or _files(folder, (".bin",))
        others = [path for path in _files(folder, _READ) if path.suffix != ".safetensors"]
        return Model(name, folder, _hash(folder, [*others, *weights]))
    found = [path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx", *sorted(folder.glob("*.onnx"))) if path.is_file()]
    if found:
        return _of_onnx(name, found[0])
    raise RecipeError(
        f"{KEY}: {folder} has neither the modules.json and weights of sentence-transformers nor a model.onnx",
        "Save the model there with SentenceTransformer.save_pretrained",
    )


def _of_onnx(name: str, weights: Path) -> Model:
    folder = next((place for place in (weights.parent, weights.parent.parent) if (place / "tokenizer.json").is_file()), None)
    if folder is None:
        raise RecipeError(f"{KEY}: there is no tokenizer.json beside {weights}", "Put the one of the model there")
    beside = [path for path in weights.parent.glob(f"{weights.stem}*data") if path.is_file()]
    files = [weights, *beside, *folder.glob("*.json"), *folder.glob("1_Pooling/config.json")]
    return Model(name, folder, _hash(folder, files), weights)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files with these endings, but for hidden ones and those in a folder of another library."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.suffix in suffixes and path.is_file() and parts[0] not in _ELSEWHERE and not any(part.startswith(".") for part in parts):
            found.append(path)
    return found


def _hash(folder: Path, files: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted(set(files)):
        stat = path.stat()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{_file_hash(path, stat.st_size, stat.st_mtime_ns)}\0".encode())
    return whole.hexdigest()[:16]


@lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, changed: int) -> str:
    """Once a process, for weights are large."""
    return file_hash(path)


def _packaged(name: str) -> Path | None:
    """The folder of the model that an installed package ships: itself, or one in it. The package is not imported."""
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() and not module.startswith("_") else None
    for place in map(Path, (spec and spec.submodule_search_locations) or ()):
        for folder in (place, *sorted(path for path in place.iterdir() if path.is_dir())):
            if any((folder / file).is_file() for file in ("modules.json", "model.onnx")):
                return folder
    return None


def _fetched(name: str) -> Path:
    """The folder of the hub's cache, with the model in it. What is there stays as it is, so that a run is not stopped by a newer one."""
    require("sentence_transformers", "semantic", KEY)
    with hushed():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

        try:
            folder = Path(snapshot_download(name, local_files_only=True))
            if (folder / "modules.json").is_file() and _files(folder, (".safetensors", ".bin")):
                return folder
        except LocalEntryNotFoundError:
            pass
        try:
            wanted = [f"*{suffix}" for suffix in _READ]
            return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=[f"{place}/*" for place in _ELSEWHERE]))
        except RepositoryNotFoundError as error:
            raise RecipeError(f"{KEY}: there is no folder {name}, and no such model on the hub", "Look at the recipe's model") from error
        except Exception as error:  # a download fails in as many ways as a network does
            words = " ".join(str(error).split())[:200] or type(error).__name__
            hint = "Give a model folder, or go online once"
            raise MissingError(f"{KEY}: {name} is no folder, and cannot be had from the hub: {words}", hint) from error


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """A model can be broken in as many ways as its formats have readers: what they say, in one line.

    Raises:
        RecipeError: the model cannot be loaded.
    """
    try:
        yield
    except Exception as error:
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RecipeError(
            f"{KEY}: {name} cannot be loaded: {words[:300]}", "Give a folder of sentence-transformers, or an ONNX file"
        ) from error
