"""A Llama of some 70,000 random weights with its own byte-level BPE tokenizer and chat template, made in about a second.

    folder = tiny_model(tmp_path / "model")

Its answers are noise, but the same noise on every machine: what travels around a model can be tested without a trained one.
"""

from pathlib import Path

CHAT_TEMPLATE = (
    "{%- for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
TEXTS = [
    "The parcel with order 4711 has not arrived yet, please send it again.",
    "How do I reset the password of my account? The link in the mail does not work.",
    '{"intent": "refund", "product": "lamp", "order": null, "urgency": "high", "summary": "wants money back"}',
]


def tiny_model(folder: Path, *, seed: int = 0, context: int = 256) -> Path:
    """Write config, random weights (deterministic under `seed`), tokenizer and template to `folder`, and return it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    tokenizer = _tokenizer(context)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.2,  # wide, so that greedy answers differ from prompt to prompt and some of them end
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if bars:
        logging.enable_progress_bar()
    return folder


def brief(folder: Path) -> Path:
    """The same model, less sure of all but the end of turn, whose embedding points to where its hidden states mostly lie: answers of some
    ten tokens. It says no other special token."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        words *= 0.5
        mean = model.model(torch.arange(6, 206)[None]).last_hidden_state.mean((0, 1))
        words[[SPECIAL.index(token) for token in SPECIAL if token != "<|end|>"]] = 0.0
        words[SPECIAL.index("<|end|>")] = 4.0 * mean / mean.square().sum()
    model.save_pretrained(folder)
    return folder


def _tokenizer(context: int):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bare.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=SPECIAL[2:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
