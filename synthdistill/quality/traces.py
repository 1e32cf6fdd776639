"""Marks of a model's thinking, and of the templates that models are fed with, that have slipped into an answer.

no_think_tags().measure(completion, prompt)        # Score("no_think_tags", 0.0, "holds </think>", "rules")
"""

import re

from synthdistill.quality.checks import Check, yes_or_no
from synthdistill.records import Completion, Prompt, Score

_CLEAN = Score("no_think_tags", 1.0, "", "rules")
_MARK = re.compile(
    r"(?<!`)(?:"
    r"</?(?:think|thinking|reasoning|rationale|seed:think)>"  # as `thinking` parts them; Seed
    r"|\[/?THINK\]|\u25c1/?think\u25b7"  # Mistral; Kimi
    r"|<\|/?[A-Za-z][\w:/.-]{0,60}\|>|<\uff5c[^<>\s]{1,60}\uff5c>"  # <|im_start|>, <|channel|>, <|eot_id|>; DeepSeek
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\]"  # Mistral, Llama 2
    r"|</?(?:start_of_turn|end_of_turn|tool_call|tool_response|bos|eos|pad|unk)>"  # Gemma, Qwen, T5
    r"|\[gMASK\]|<sop>|</s>\s*\Z"  # GLM; Llama 2, Mistral
    r")"
)
"""As models and templates spell them, upper and lower case told apart. `<s>` is HTML's, and so is its end unless it ends the answer."""


def no_think_tags() -> Check:
    """The answer holds no mark of thinking (`<think>`, `</reasoning>`, `[THINK]`, `<|channel|>`), and no other special token of a template.

    A mark right behind a backtick is spoken of, not leaked. Tool calls are not looked at.
    """

    def measure(completion: Completion, prompt: Prompt) -> Score:
        found = _leak(completion.text)
        return Score("no_think_tags", 0.0, f"holds {found}", "rules") if found else _CLEAN

    return yes_or_no("no_think_tags", measure)


def _leak(text: str) -> str:
    """The first mark in a text, or nothing."""
    if "<" not in text and "[" not in text and "\u25c1" not in text:  # nearly every answer: much quicker than the pattern
        return ""
    for match in _MARK.finditer(text):
        if not match[0].startswith("</s>") or "<s>" not in text:
            return match[0].strip()
    return ""
