"""Train the byte-level BPE tokenizer that teacher and student share, and turn rows into token ids.

    from examples.triage.tokenizer import train_tokenizer
    train_tokenizer().save_pretrained("synthdistill/templates/teacher")

Digits are single tokens, so that an order number is copied digit by digit; the JSON between two values is one token.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from examples.triage.make import heldout_rows, training_rows

PROMPT = Path(__file__).parents[2] / "synthdistill" / "templates" / "triage" / "prompts" / "triage.md"
VOCABULARY = 1536
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PIECES = r'"?[{,]"[a-z]+":"?|"\}|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+'
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('the roles are system, user and assistant, given was ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(rows: int = 20_000) -> PreTrainedTokenizerFast:
    """Learn the merges from messages and answers of the training templates."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    drawn = islice(training_rows(5, heldout_rows(0)), rows)
    texts = (text for row in drawn for text in (system_message(), row["message"], row["label"]))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=list(SPECIAL[2:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def system_message() -> str:
    """The system message of the prompt file."""
    text = PROMPT.read_text(encoding="utf-8").split("--- system ---\n")[1]
    return text.split("\n--- user ---\n")[0].strip()


def prompt_text(tokenizer: PreTrainedTokenizerFast, message: str) -> str:
    """The prompt as teacher and student see it."""
    turns = [{"role": "system", "content": system_message()}, {"role": "user", "content": message}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
