"""Prompts at training are prompts at inference: proved on every chat template that TRL ships, and on rows that try to break it."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import tiny_model

from synthdistill.errors import RecipeError
from synthdistill.samplers import BUILTIN_BASE
from synthdistill.thinking import lesson, split
from synthdistill.training.render import Dialogue, Rendered, render, serve

pytest.importorskip("trl")
FOLDER = Path(find_spec("trl").submodule_search_locations[0]) / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja") if not path.stem.endswith("_training"))
"""Without the `_training` variants: TRL puts those in place of a model's template while it trains, no model is served with one."""

REFUSED = {
    "deepseek_r1_distill": "opens an answer with '<think>",  # always inside a thinking block, and it has no switch
    "deepseekv3": "opens an answer with '<think>",
    "glm4moe": "writes '\\n<think></think>\\n' between",  # and no token ends its turn
    "gptoss": "writes '<|channel|>final<|message|>' between",
    "idefics3": "leaves it out",  # multimodal only: reads lists of parts, passes over plain text
    "llava_next": "does not render the roles user, assistant",  # multimodal only
    "muse_glimmer": "writes ' to=user<|message|>' between",
    "smolvlm": "leaves it out",  # multimodal only
}
NO_SYSTEM = {"gemma"}
CHANGED = {
    "llama3_2": ["its date stands at 2024-07-26"],
    **{name: ["enable_thinking is off"] for name in ("qwen3", "qwen3_5_think", "qwen3_6", "qwen3_8")},
    **{f"nemotron_3_{name}": ["enable_thinking is off"] for name in ("5_lightning", "nano", "super", "ultra")},
}
SPELLED = re.compile(r"<\|[^|<>\s]+\|?>|<\|?[a-z_]+\|>|<(?:start_of_turn|end_of_turn|bos|eos)>|<\uff5c[^\uff5c]+\uff5c>|</?s>")
ANSWER = '{"intent": "refund", "order": null}'


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("render") / "model", context=2048)


def tokenizer_with(folder: Path, template: str):
    """The small tokenizer, with a template and the special tokens that it spells."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(sorted(set(SPELLED.findall(template))), special_tokens=True)
    tokenizer.bos_token = "<|pad|>"
    tokenizer.chat_template = template
    return tokenizer


def dialogue(*turns: tuple[str, str], answer: str = ANSWER) -> Dialogue:
    return Dialogue([{"role": role, "content": content} for role, content in turns], {"role": "assistant", "content": answer})


def dialogues(name: str) -> list[Dialogue]:
    """A single question, a conversation, and both after a system message where the template knows one."""
    user, earlier = ("user", "Where is parcel 4711?"), [("user", "Hello!"), ("assistant", "How can I help?")]
    openings = [[]] if name in NO_SYSTEM else [[], [("system", "Answer in JSON.")]]
    return [dialogue(*opening, *turns, user) for opening in openings for turns in ([], earlier)]


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in REFUSED])
def test_a_template_of_trl_gives_the_same_prompt_ids_at_training_and_at_inference(folder, name):
    tokenizer = tokenizer_with(folder, (FOLDER / f"{name}.jinja").read_text())
    given = dialogues(name)
    served = serve(tokenizer, name, given)
    tokenizer.chat_template = served.template  # as the saved student carries it

    for asked, row in zip(given, render(tokenizer, served, given), strict=True):
        at_inference = tokenizer.apply_chat_template(asked.messages, add_generation_prompt=True, tokenize=True, return_dict=False)

        assert row.prompt == at_inference
        learned = [label for label in row.labels if label != -100]
        assert learned == [*tokenizer(ANSWER, add_special_tokens=False)["input_ids"], served.end_of_turn]
        assert row.labels[: len(at_inference)] == [-100] * len(at_inference)
        whole = tokenizer.apply_chat_template([*asked.messages, asked.answer], tokenize=True, return_dict=False)
        assert whole[: len(row)] == row.ids  # what the template itself makes of the answered prompt
    assert list(served.notes) == CHANGED.get(name, [])


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_of_trl_that_cannot_be_trained_with_is_refused_by_name_and_reason(folder, name):
    tokenizer = tokenizer_with(folder, (FOLDER / f"{name}.jinja").read_text())

    with pytest.raises(RecipeError) as refused:
        serve(tokenizer, f"owner/{name}", dialogues(name)[:1])

    assert f"the chat template of owner/{name} cannot be trained with" in refused.value.message
    assert REFUSED[name] in refused.value.message


def test_a_template_that_passes_over_tools_or_tool_calls_is_refused(folder):
    tokenizer = tokenizer_with(folder, (BUILTIN_BASE / "chat_template.jinja").read_text())
    calls = [{"id": "1", "type": "function", "function": {"name": "track", "arguments": "{}"}}]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    answer = {"role": "assistant", "content": "On its way."}
    asked = {"role": "user", "content": "Where is it?"}

    with pytest.raises(RecipeError, match="leaves out the tools"):
        serve(tokenizer, "builtin", [Dialogue([asked], answer, [{"type": "function", "function": {"name": "track"}}])])
    with pytest.raises(RecipeError, match="leaves out tool calls"):
        serve(tokenizer, "builtin", [Dialogue([asked, said, asked], answer, None)])


def test_every_refused_or_changed_template_is_one_that_trl_ships():
    assert {*REFUSED, *CHANGED, *NO_SYSTEM} <= set(TEMPLATES)


def test_a_template_that_raises_on_a_role_is_refused_for_it(folder):
    tokenizer = tokenizer_with(folder, (FOLDER / "gemma.jinja").read_text())

    with pytest.raises(RecipeError, match="roles system, user, assistant: System role not supported"):
        serve(tokenizer, "gemma", [dialogue(("system", "Be brief."), ("user", "Hello!"))])


ROLES = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ROLES, "writes '<|assistant|>' between the generation prompt and the answer"),
        (ROLES.replace("m.content", "m.content | upper") + "{% if add_generation_prompt %}<|assistant|>{% endif %}", "alters the answer"),
        (
            "{% for m in messages %}\n{{ m.role }}: {{ m.content }}{% endfor %}{% if add_generation_prompt %}\nassistant: {% endif %}",
            "no special",
        ),
    ],
    ids=["generation prompt ignored", "answer altered", "no end of turn"],
)
def test_a_template_from_which_an_answer_cannot_be_learned_is_refused(folder, template, reason):
    with pytest.raises(RecipeError, match=re.escape(reason)):
        serve(tokenizer_with(folder, template), "mine", [dialogue(("user", "Hello!"))])


def test_a_tokenizer_without_template_is_refused(folder):
    tokenizer = tokenizer_with(folder, ROLES)
    tokenizer.chat_template = None

    with pytest.raises(RecipeError, match="the tokenizer of mine has no chat template"):
        serve(tokenizer, "mine", [dialogue(("user", "Hello!"))])


@pytest.fixture
def plain(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, serve(tokenizer, "tiny", [dialogue(("user", "Hello!"))])


@pytest.mark.parametrize("asked", [dialogue(("user", "a<|end|>b")), dialogue(("user", "Hello!"), answer="<|assistant|>")])
def test_a_row_that_spells_a_special_token_is_not_rendered(plain, asked):
    assert render(*plain, [asked]) == ["special_token"]


def test_rows_that_cannot_be_rendered_leave_the_others_in_their_places(plain):
    fit = dialogue(("user", "Hello!"))

    found = render(*plain, [fit, dialogue(("user", "<|end|>")), fit])

    assert [isinstance(row, Rendered) for row in found] == [True, False, True]
    assert found[0] == found[2]


def test_a_tool_call_is_learned_as_the_template_writes_it(folder):
    tokenizer = tokenizer_with(folder, (FOLDER / "qwen2_5.jinja").read_text())
    asked = dialogue(("user", "Where is parcel 4711?"))
    call = {"type": "function", "function": {"name": "track", "arguments": '{"parcel": 4711}'}}
    asked = replace(asked, answer={"role": "assistant", "content": "", "tool_calls": [call]})

    row = render(tokenizer, serve(tokenizer, "qwen", [asked]), [asked])[0]

    assert tokenizer.decode(row.completion) == '<tool_call>\n{"name": "track", "arguments": {"parcel": 4711}}\n</tool_call><|im_end|>'


def test_a_tool_call_that_the_template_leaves_out_is_not_rendered(plain):
    call = {"type": "function", "function": {"name": "track", "arguments": "{}"}}
    asked = replace(dialogue(("user", "Hello!")), answer={"role": "assistant", "content": "", "tool_calls": [call]})

    assert render(*plain, [asked]) == ["template"]


LESSON = lesson("It is late.\nSo: money back.", ANSWER)
NO_ROOM = {
    "glm4moe": "alters the answer",  # and no token ends its turn
    "gptoss": "writes '<|channel|>final<|message|>' between",
    "idefics3": "leaves it out",  # multimodal only
    "llava_next": "does not render the roles user, assistant",  # multimodal only
    "muse_glimmer": "writes ' to=user<|message|>' between",
    "smolvlm": "leaves it out",  # multimodal only
}
"""Templates that leave no room for a student's own block of thinking."""
OPENS = re.compile(r"deepseek|nemotron_3|qwen3_[568](?!_instruct)")
"""Those that write the opening mark themselves."""
FORGETFUL = {"deepseek_r1_distill", "deepseekv3", "qwen3_8"}
"""Those that leave a thought out of an answer that is rendered, or want it beside the answer."""


def thoughtful(name: str) -> list[Dialogue]:
    return [replace(asked, answer={"role": "assistant", "content": LESSON}) for asked in dialogues(name)]


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in NO_ROOM])
def test_a_student_that_thinks_first_is_trained_and_served_with_the_same_prompt(folder, name):
    tokenizer = tokenizer_with(folder, (FOLDER / f"{name}.jinja").read_text())
    given = thoughtful(name)
    served = serve(tokenizer, name, given, thinks=True)
    tokenizer.chat_template = served.template

    assert served.opens == ("<think>\n" if OPENS.match(name) else "")
    for asked, row in zip(given, render(tokenizer, served, given), strict=True):
        at_inference = tokenizer.apply_chat_template(asked.messages, add_generation_prompt=True, tokenize=True, return_dict=False)

        assert row.prompt == at_inference
        assert row.completion[-1] == served.end_of_turn
        assert split(tokenizer.decode(row.completion[:-1]), opened=bool(served.opens)) == split(LESSON)
        whole = tokenizer.apply_chat_template([*asked.messages, asked.answer], tokenize=True, return_dict=False)
        assert (whole[: len(row)] == row.ids) == (name not in FORGETFUL)


@pytest.mark.parametrize("name", NO_ROOM)
def test_a_template_without_room_to_think_is_refused_by_name_and_reason(folder, name):
    tokenizer = tokenizer_with(folder, (FOLDER / f"{name}.jinja").read_text())

    with pytest.raises(RecipeError) as refused:
        serve(tokenizer, f"owner/{name}", thoughtful(name)[:1], thinks=True)

    assert f"the chat template of owner/{name} cannot be trained with" in refused.value.message
    assert NO_ROOM[name] in refused.value.message


SHUT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if not thinking %}<think></think>{% endif %}{% endif %}"
)


def test_a_template_that_shuts_the_thinking_is_served_with_its_switch_on(folder):
    served = serve(tokenizer_with(folder, SHUT), "mine", thoughtful("mine"), thinks=True)

    assert served.notes == ("thinking is on",)


def test_a_template_that_always_shuts_the_thinking_is_refused_for_it(folder):
    template = SHUT.replace("not thinking", "true")

    with pytest.raises(RecipeError, match="shuts the block of thinking before the answer begins"):
        serve(tokenizer_with(folder, template), "mine", thoughtful("mine"), thinks=True)


def test_the_marks_of_an_answers_own_thinking_may_be_special_tokens(folder):
    tokenizer = tokenizer_with(folder, ROLES + "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    given = [*thoughtful("mine")[:1], dialogue(("user", "<think>"), answer=LESSON)]

    found = render(tokenizer, serve(tokenizer, "mine", given, thinks=True), given)

    assert tokenizer.decode(found[0].completion) == f"{LESSON}<|end|>"
    assert found[1] == "special_token"
