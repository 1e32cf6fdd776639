"""A teacher of a few million parameters and a base student of a fifth of them, made from public data in minutes on a CPU.

    made = make(task, folder)                        # made/teacher, made/base

The tokenizer is a byte-level BPE over the words of the training rows. Teacher and base student share it; the base has fresh weights, the
teacher is trained by `fit` on the labelled half of the rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intents.tasks import Task

from synthdistill.progress import Silent
from synthdistill.training.guards import quiet
from synthdistill.training.render import Dialogue, render, serve
from synthdistill.training.sft import fit
from synthdistill.training.student import Source

CHAT_TEMPLATE = (
    "{%- for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
)
TEACHER = {"hidden": 192, "inner": 512, "layers": 4, "heads": 6}
STUDENT = {"hidden": 96, "inner": 256, "layers": 2, "heads": 3}
WORDS = 2000
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def tokenizer(texts: Iterator[str], words: int, folder: Path) -> Any:
    """A byte-level BPE of so many words, written to a folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=words, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=SPECIAL[2:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    made.save_pretrained(folder)
    return made


def fresh(tokenizer: Any, folder: Path, *, hidden: int, inner: int, layers: int, heads: int, seed: int = 0) -> int:
    """A small Llama with tied embeddings and fresh weights, written to a folder; its parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.num_parameters()


def make(task: Task, folder: Path) -> tuple[int, int]:
    """Write `teacher` and `base` for a task where they are not there yet; the parameters of both."""
    words = tokenizer(
        (text for pair in [*task.labelled, *((prompt, "") for prompt in task.prompts)] for text in pair), WORDS, folder / "words"
    )
    sizes = fresh(words, folder / "teacher-base", **TEACHER), fresh(words, folder / "base", **STUDENT)
    if not (folder / "teacher" / "student" / "config.json").exists():
        rows = [Dialogue([{"role": "user", "content": text}], {"role": "assistant", "content": answer}) for text, answer in task.labelled]
        with quiet():
            served = serve(words, "teacher", rows)
            ids: list[Any] = render(words, served, rows)
        (folder / "teacher").mkdir(exist_ok=True)
        source = Source(str(folder / "teacher-base"), words, served)
        fit(source, ids, [], task.teacher, folder=folder / "teacher", progress=Silent())
    return sizes
