"""A teacher of a few million parameters and a base student of a fifth of them, made from public data in minutes on a CPU.

    made = make(task, folder)                        # made/teacher, made/base

The tokenizer is a byte-level BPE over the words of the training rows. Teacher and base student share it; the base has fresh weights, the
teacher is trained by `fit` on the labelled half of the rows.

To copy a word is to find what came after the last token like this one. Fresh weights of this size do not learn that from a few thousand
rows. So where answers copy, a space is a token of its own (a word is the same ids after a space and after a quotation mark), and every
other layer is a short convolution, which sees the token before this one (LFM2, Liquid AI 2025): one layer of attention does the rest.
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


def tokenizer(texts: Iterator[str], words: int, folder: Path, *, copies: bool) -> Any:
    """A byte-level BPE of so many words, written to a folder. `copies`: a space is a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    spaces = [pre_tokenizers.Split(" ", "isolated")] if copies else []
    bare.pre_tokenizer = pre_tokenizers.Sequence([*spaces, pre_tokenizers.ByteLevel(add_prefix_space=False)])
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


def fresh(tokenizer: Any, folder: Path, *, hidden: int, inner: int, layers: int, heads: int, copies: bool) -> int:
    """A small Llama, or LFM2 where answers copy, with tied embeddings and fresh weights, written to a folder; its parameters."""
    import torch
    from transformers import AutoModelForCausalLM, Lfm2Config, LlamaConfig

    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if copies:
        kinds = ["full_attention" if layer % 2 else "conv" for layer in range(layers)]
        model = AutoModelForCausalLM.from_config(Lfm2Config(**shape, block_auto_adjust_ff_dim=False, layer_types=kinds))
    else:
        model = AutoModelForCausalLM.from_config(LlamaConfig(**shape, head_dim=hidden // heads))
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def make(task: Task, folder: Path) -> tuple[int, int]:
    """Write `teacher` and `base` for a task where they are not there yet; the parameters of both."""
    texts = (text for pair in [*task.labelled, *((prompt, "") for prompt in task.prompts)] for text in pair)
    words = tokenizer(texts, WORDS, folder / "words", copies=task.copies)
    large, small = (
        fresh(words, folder / name, **shape, copies=task.copies) for name, shape in (("teacher-base", TEACHER), ("base", STUDENT))
    )
    if not (folder / "teacher" / "student" / "config.json").exists():
        rows = [Dialogue([{"role": "user", "content": text}], {"role": "assistant", "content": answer}) for text, answer in task.labelled]
        with quiet():
            served = serve(words, "teacher", rows)
            ids: list[Any] = render(words, served, rows)
        (folder / "teacher").mkdir(exist_ok=True)
        source = Source(str(folder / "teacher-base"), words, served)
        fit(source, ids, [], task.teacher, folder=folder / "teacher", progress=Silent())
    return large, small
