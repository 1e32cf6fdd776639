"""From a prompt and its answer to the ids that a student is trained on.

    served = serve(tokenizer, "Qwen/Qwen3-0.6B", [dialogue])
    row = render(tokenizer, served, [dialogue])[0]
    row.prompt + row.completion

The prompt's ids are those of inference, because the same call makes them: the chat template with its generation prompt. The
completion is the answer's own ids and then the token that ends the turn. `serve` proves on the template itself that this is how it
renders the answered prompt, or refuses it by name: nothing may stand between the generation prompt and the answer (a thinking
block, a channel), for a served student would have to write it, and nobody would have taught it the rest.

A student that shall think first (`thinks`) learns answers that begin with a block `<think>`. The generation prompt must then leave room for
one: a template may write the opening mark itself, which is then no part of the completion, but must not shut the block.

A template may be mended by words put before it, and the student is then served with the mended one:
a thinking switch (`enable_thinking`, `thinking`) is set to false where only then the answer follows at once (to true where only then
there is room to think); and a clock
(`strftime_now`) stands still, for a date in the prompt would be another one at every serving.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from synthdistill.errors import RecipeError
from synthdistill.records import Message, with_parsed_arguments
from synthdistill.thinking import CLOSE, OPEN, opening, split

PROBE = 'First {"line"}.\nSecond line, 42.'
"""An answer that no template has a reason to alter."""

_THIRD = "Third line."
THOUGHT = f"{OPEN}\n{_THIRD}\n{CLOSE}\n\n{PROBE}"
"""The same after a thought, which some templates take apart and put together again."""

CLOCK = date(2024, 7, 26)
"""The day on which a template's clock stands: the date that Llama 3's templates fall back to."""

_SWITCHES = ("enable_thinking", "thinking")
_FORMAT = re.compile(r"""strftime_now\(\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What the student is asked with, and the assistant message that it shall answer."""

    messages: list[Message]
    answer: Message
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """How a student is asked, in training and ever after. `notes` say what was put before its own template."""

    template: str
    end_of_turn: int
    notes: tuple[str, ...] = ()
    opens: str = ""
    """What the generation prompt writes of the answer already: the mark that opens the student's thinking."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The ids of one row; `completion` ends with the end of turn."""

    prompt: list[int]
    completion: list[int]

    @property
    def ids(self) -> list[int]:
        """All of them."""
        return self.prompt + self.completion

    @property
    def labels(self) -> list[int]:
        """The ids that are learned, -100 where they are only read."""
        return [-100] * len(self.prompt) + self.completion

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


class _UnfitError(Exception):
    """Why a template cannot be trained with."""


def serve(tokenizer: Any, name: str, dialogues: Sequence[Dialogue], *, thinks: bool = False) -> Served:
    """The template to train and serve a model with, proved on every kind of prompt (its roles, its tools) among the dialogues.
    `thinks` says that each answer begins with a block `<think>`.

    Raises:
        RecipeError: there is no chat template, or it cannot be trained with; names the model and the reason.
    """
    if not tokenizer.chat_template:
        raise RecipeError(
            f"the tokenizer of {name} has no chat template", "Give a chat (instruct) student, or its folder a chat_template.jinja"
        )
    problem = ""
    prove = _thinking_turn if thinks else _plain_turn
    for template, notes in _candidates(tokenizer.get_chat_template(), thinks):
        try:
            ways = {prove(tokenizer, template, messages, tools) for messages, tools in _kinds(dialogues)}
            if len(ways) > 1:
                raise _UnfitError("it opens or ends answers in different ways")
            opens, end = ways.pop()
            return Served(template, end, notes, opens)
        except _UnfitError as error:
            problem = problem or str(error)
    raise RecipeError(
        f"the chat template of {name} cannot be trained with: {problem}",
        "Give its folder another chat_template.jinja, write prompts it can render ([train] template), or take another student",
    )


def render(tokenizer: Any, served: Served, dialogues: Sequence[Dialogue]) -> list[Rendered | str]:
    """Every dialogue as ids, or the reason why it cannot be: `special_token`, `template`."""
    special = _special_pattern(tokenizer)
    texts = [_texts(tokenizer, served, dialogue, special) for dialogue in dialogues]
    fit = [text for text in texts if not isinstance(text, str)]
    prompts = iter(_ids(tokenizer, [prompt for prompt, _ in fit]))
    answers = iter(_ids(tokenizer, [answer for _, answer in fit]))
    return [text if isinstance(text, str) else Rendered(next(prompts), [*next(answers), served.end_of_turn]) for text in texts]


def prompt_text(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None) -> str:
    """The text that a model reads before it answers."""
    return _render(tokenizer, template, messages, tools, opens=True)


def _candidates(source: str, thinks: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The template as it is, then with each thinking switch that it reads turned off (or on); its clock stands in all."""
    notes: tuple[str, ...] = ()
    if "strftime_now" in source:
        known = json.dumps({form: CLOCK.strftime(form) for form in sorted(set(_FORMAT.findall(source)))})
        told = f'{known}[form] if form in {known} else raise_exception("it asks for the date in a form that is not written in it")'
        clock = f"{{%- macro strftime_now(form) -%}}{{{{- {told} -}}}}{{%- endmacro -%}}"
        if clock not in source:  # as it is in that of a student that was served so before
            source, notes = clock + source, (f"its date stands at {CLOCK}",)
    yield source, notes
    for switch in _SWITCHES:
        if re.search(rf"\b{switch}\b", source):
            value, word = ("true", "on") if thinks else ("false", "off")
            yield f"{{%- set {switch} = {value} %}}{source}", (*notes, f"{switch} is {word}")


def _kinds(dialogues: Sequence[Dialogue]) -> list[tuple[list[Message], list[dict[str, Any]] | None]]:
    """One prompt of every kind: the same roles, with tools or without. Its words are harmless, so that a row's own are not judged here."""
    kinds: dict[Any, Dialogue] = {}
    for dialogue in dialogues:
        roles = tuple((message["role"], "tool_calls" in message) for message in dialogue.messages)
        kinds.setdefault((roles, bool(dialogue.tools)), dialogue)
    return [([_harmless(message) for message in kind.messages], kind.tools) for kind in kinds.values()]


def _harmless(message: Message) -> Message:
    return {**message, "content": "Some words."} if isinstance(message.get("content"), str) else message


def _plain_turn(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None) -> tuple[str, int]:
    """What the prompt opens of an answer (nothing), and the id that ends one, after proof."""
    prompt, whole = _probed(tokenizer, template, messages, tools, {"content": PROBE})
    return "", _end_of_turn(tokenizer, prompt, whole, PROBE)


def _thinking_turn(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None) -> tuple[str, int]:
    """What the prompt opens of an answer that begins with a thought, and the id that ends one, after proof.

    Templates take a thought within the content or beside it. One that leaves thoughts out is proved on a plain answer in their place.
    """
    problem: _UnfitError | None = None
    for answer, shown in (
        ({"content": THOUGHT}, THOUGHT),
        ({"content": PROBE, "reasoning_content": _THIRD}, THOUGHT),
        ({"content": PROBE}, PROBE),
    ):
        prompt, whole = _probed(tokenizer, template, messages, tools, answer)
        if prompt.rstrip().endswith(CLOSE):
            raise _UnfitError("it shuts the block of thinking before the answer begins")
        opens = opening(prompt)
        try:
            before = prompt.removesuffix(opens)
            return opens, _end_of_turn(tokenizer, before, whole, shown)
        except _UnfitError as error:
            problem = problem or error
    assert problem
    raise problem


def _probed(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None, answer: Message) -> tuple[str, str]:
    """A prompt, and the same with an answer, as a template renders them."""
    try:
        prompt = _render(tokenizer, template, messages, tools, opens=True)
        whole = _render(tokenizer, template, [*messages, {"role": "assistant", **answer}], tools, opens=False)
    except Exception as error:  # a template raises what it likes
        roles = ", ".join(message["role"] for message in messages)
        raise _UnfitError(f"it does not render the roles {roles}, assistant: {error}") from error
    _refuse_omissions(tokenizer, template, messages, tools, prompt)
    return prompt, whole


def _end_of_turn(tokenizer: Any, prompt: str, whole: str, probe: str) -> int:
    """The id that ends an answer, after proof that a template renders prompt, answer and that token with nothing between them."""
    if not whole.startswith(prompt):
        raise _UnfitError(f"it opens an answer with {_tail(prompt, whole)!r}, which its rendering of the answered prompt has not")
    before, answer, after = whole[len(prompt) :].partition(probe)
    if not answer:
        raise _UnfitError("it alters the answer, or leaves it out")
    if before and not _same_ids(tokenizer, prompt, whole, probe):
        raise _UnfitError(f"it writes {before!r} between the generation prompt and the answer")
    rest = _ids(tokenizer, [after])[0]
    if not rest or rest[0] not in special_ids(tokenizer):
        raise _UnfitError("it ends an answer with no special token, so that a student could not learn to stop")
    return rest[0]


def _refuse_omissions(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None, prompt: str) -> None:
    """A template that passes over tools or tool calls would train a student that never sees them."""
    if tools and _render(tokenizer, template, messages, None, opens=True) == prompt:
        raise _UnfitError("it leaves out the tools")
    bare = [{key: value for key, value in message.items() if key != "tool_calls"} for message in messages]
    if bare != messages and _renders(tokenizer, template, bare, tools) == prompt:
        raise _UnfitError("it leaves out tool calls")


def _renders(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None) -> str | None:
    try:
        return _render(tokenizer, template, messages, tools, opens=True)
    except Exception:  # a template may refuse a turn that has neither words nor calls
        return None


def _tail(prompt: str, whole: str) -> str:
    """The end of a prompt from where it differs."""
    same = next((place for place, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other), len(whole))
    return prompt[same:]


def _same_ids(tokenizer: Any, prompt: str, whole: str, probe: str) -> bool:
    """Whether a space before the answer is the one that a SentencePiece tokenizer puts before any text."""
    asked, answered, both = _ids(tokenizer, [prompt, probe, whole])
    return both[: len(asked) + len(answered)] == asked + answered


def _texts(tokenizer: Any, served: Served, dialogue: Dialogue, special: re.Pattern[str] | None) -> tuple[str, str] | str:
    """The text of the prompt and that of the answer, or why there is none."""
    if special and any(special.search(_words(message)) for message in (*dialogue.messages, _without_marks(dialogue.answer))):
        return "special_token"
    try:
        prompt = prompt_text(tokenizer, served.template, dialogue.messages, dialogue.tools)
        if not dialogue.answer.get("tool_calls"):
            content = str(dialogue.answer.get("content") or "")
            return (prompt, content.removeprefix(served.opens)) if content.startswith(served.opens) else "template"
        whole = _render(tokenizer, served.template, [*dialogue.messages, dialogue.answer], dialogue.tools, opens=False)
    except Exception:  # of this row only: its kind of prompt was proved to render
        return "template"
    answer, end, _ = whole[len(prompt) :].partition(tokenizer.convert_ids_to_tokens(served.end_of_turn))
    calls = [call.get("function", call).get("name") for call in dialogue.answer["tool_calls"]]
    thought = CLOSE in answer or CLOSE not in str(dialogue.answer.get("content") or "")
    told = whole.startswith(prompt) and end and thought and all(name and name in answer for name in calls)
    return (prompt, answer) if told else "template"


def _without_marks(answer: Message) -> Message:
    """An answer without the marks around its thinking, which may be special tokens."""
    content = answer.get("content")
    if not isinstance(content, str) or not content.startswith(OPEN):
        return answer
    trace, said = split(content)
    return {**answer, "content": f"{trace}\n{said}"}


def _render(tokenizer: Any, template: str, messages: list[Message], tools: list[dict[str, Any]] | None, *, opens: bool) -> str:
    plain = [with_parsed_arguments(message) for message in messages]
    found: str = tokenizer.apply_chat_template(plain, tools=tools, chat_template=template, add_generation_prompt=opens, tokenize=False)
    return found


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids as `apply_chat_template` makes them of its rendering: nothing added."""
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return found


def special_ids(tokenizer: Any) -> set[int]:
    """The ids of tokens that no text may spell."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _special_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    spelled = {str(tokenizer.convert_ids_to_tokens(number)) for number in special_ids(tokenizer)} - {""}
    return re.compile("|".join(map(re.escape, sorted(spelled)))) if spelled else None


def _words(message: Message) -> str:
    """All that a message says, tool calls included."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content or [] if isinstance(part, dict)]
    calls = message.get("tool_calls")
    return "\n".join([*parts, json.dumps(calls, ensure_ascii=False)] if calls else parts)


def refuse_other_turns(teacher: Served, student: Served, tokenizer: Any, name: str, student_name: str, *, ends: bool = True) -> None:
    """An answer that opens, or ends, otherwise for the teacher is another answer to it. Not `ends`: each has an end of its own.

    Raises:
        RecipeError: it is so; names both.
    """
    if teacher.opens == student.opens and (teacher.end_of_turn == student.end_of_turn or not ends):
        return
    one, other = (tokenizer.convert_ids_to_tokens(served.end_of_turn) for served in (teacher, student))
    raise RecipeError(
        f"the teacher {name} opens an answer with {teacher.opens!r} and ends an answer with {one}, the student {student_name} with "
        f"{student.opens!r} and {other}: it would judge another answer",
        "Give the student's folder the teacher's chat_template.jinja",
    )
