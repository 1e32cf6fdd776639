"""Marks of thinking and of templates in an answer."""

import json

import pytest

from synthdistill.quality.traces import no_think_tags
from synthdistill.records import Completion, Prompt, Usage
from synthdistill.thinking import _HARMONY, _PAIRS

PROMPT = Prompt("p", ["1"], [], "", "train")


def score(text):
    return no_think_tags().measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), PROMPT)


MARKS = [
    *("<think>", "</think>", "</thinking>", "<reasoning>", "[THINK]", "[/THINK]", "\u25c1think\u25b7", "<seed:think>"),
    *("<|channel|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|END_OF_TURN_TOKEN|>"),
    *("<\uff5cUser\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[INST]", "[/INST]", "<<SYS>>", "<end_of_turn>", "<tool_call>"),
    *("[TOOL_CALLS]", "[gMASK]", "<eos>", "<pad>", "<|reserved_special_token_0|>", "<|tool_calls_section_begin|>"),
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("text", ["{}The parcel left.", "The parcel {} left.", "The parcel left.{}"])
def test_a_mark_anywhere_is_a_leak_and_is_named(mark, text):
    found = score(text.format(mark))

    assert (found.value, found.reason) == (0.0, f"holds {mark}")


def test_every_mark_that_the_project_parts_traces_by_is_known():
    marks = [mark for pair in _PAIRS for mark in pair] + sorted(_HARMONY)

    assert [mark for mark in marks if score(f"so {mark} on").value != 0.0] == []


def test_an_end_of_text_at_the_end_is_a_leak_but_not_that_of_struck_out_html():
    assert score("The parcel left.</s>\n").reason == "holds </s>"
    assert score("<s>10</s> 12 <s>14</s>").value == 1.0
    assert score("The tag </s> ends it.").value == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Qwen writes `<think>` first, then `</think>`.",
        "I think <b>so</b>, 2 < 3 and 4 > 3.",
        "a <| b |> c, x <|> y, list |> map",
        "[1, 2] [THINKING] [link](x) [INSTALL]",
        "<thinker>no</thinker>",
        "def f(x: list[int]) -> bool: return x << 2 > 1",
        "",
    ],
)
def test_what_only_looks_like_a_mark_is_none(text):
    assert score(text).value == 1.0


def test_human_texts_hold_no_marks(data):
    texts = []
    for name, key in {"banking77/train": "text", "clinc150/train": "text", "gsm8k/train": "answer"}.items():
        texts += [json.loads(line)[key] for line in (data / f"{name}.jsonl").open(encoding="utf-8")]
    for name in ("seed_tasks", "user_oriented"):
        for line in (data / f"selfinstruct/{name}.jsonl").open(encoding="utf-8"):
            texts += [instance["output"] for instance in json.loads(line)["instances"]]

    assert [text for text in texts if score(text).value != 1.0] == []
