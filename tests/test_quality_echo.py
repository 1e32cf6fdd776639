"""An answer that says the prompt again is an echo; one that quotes from it is not."""

import json

import pytest

from synthdistill.quality.echo import no_echo
from synthdistill.records import Completion, Prompt, Usage

LETTER = (
    "Dear team, my parcel with the order number 48213 should have come last Tuesday, but the driver left a note for another house "
    "and since then nobody at the depot picks up the phone. Please send it again to 12 Main Street, Springfield, or give my money back."
)
TASK = "Read the letter of a customer and say in one sentence what should be done about it."
ASKED = Prompt(
    "p", ["1"], [{"role": "system", "content": "You help."}, {"role": "user", "content": f"{TASK}\n\n{LETTER}"}], LETTER, "train"
)


def value(text, prompt=ASKED):
    return no_echo().measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), prompt).value


def kept(text, prompt=ASKED):
    return no_echo().keeps(no_echo().measure(Completion("c", "p", [], 0, text, "stop", "m", Usage(), 0.0), prompt))


def asked(*contents):
    return Prompt("p", ["1"], [{"role": "user", "content": content} for content in contents], str(contents[-1]), "train")


@pytest.mark.parametrize(
    "text",
    [
        LETTER,
        f"{TASK}\n\n{LETTER}",
        f"{TASK} {LETTER} The parcel should be sent again, and the customer should be told when it will come, for the depot is silent." * 3,
        LETTER.upper().replace(",", ""),
        f"Sure! {LETTER}",
    ],
)
def test_an_answer_that_repeats_the_prompt_or_begins_with_it_is_dropped(text):
    assert not kept(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "48213",
        "12 Main Street, Springfield",
        '{"order": 48213, "address": "12 Main Street, Springfield", "wish": "give my money back"}',
        "The parcel with the order number 48213 should be sent again to 12 Main Street, Springfield.",
    ],
)
def test_an_extraction_and_a_short_answer_that_quotes_stay(text):
    assert value(text) == 0.0


def test_the_measure_is_the_share_of_the_longest_run():
    words = LETTER.replace(",", "").replace(".", "").split()
    answer = " ".join([*words[:20], *(f"x{number}" for number in range(20)), *words[20:35]])

    assert value(answer) == pytest.approx(20 / 55, abs=1e-4)


def test_a_whole_turn_counts_from_six_words_on():
    assert value("What is the capital of France? It is Paris.", asked("What is the capital of France?")) == 1.0
    assert value("Good morning! How are you?", asked("Good morning, how are you?")) == 0.0


def test_an_earlier_answer_may_be_given_again():
    said = [
        {"role": "user", "content": "Sum up the letter."},
        {"role": "assistant", "content": LETTER},
        {"role": "user", "content": "Again!"},
    ]

    assert kept(LETTER, Prompt("p", ["1"], said, "Again!", "train"))


def test_scripts_without_spaces_have_words_too():
    sentence = "\u6211\u7684\u5305\u88f9\u8ba2\u5355\u53f7\u5e94\u8be5\u4e0a\u5468\u4e8c\u5230\u8fbe"

    assert not kept(sentence, asked(f"\u8bf7\u603b\u7ed3: {sentence}"))
    assert kept("\u8bf7\u91cd\u65b0\u5bc4\u9001\u5305\u88f9\u5230\u65b0\u5730\u5740", asked(f"\u8bf7\u603b\u7ed3: {sentence}"))


def test_the_text_of_a_turn_in_parts_is_compared():
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": LETTER}]

    assert not kept(LETTER, Prompt("p", ["1"], [{"role": "user", "content": parts}], "", "train"))


def test_a_megabyte_of_the_same_words_takes_time_that_grows_with_its_length_only():
    """Were it the square, it would not come back."""
    assert value("a b " * 250_000, asked("b a " * 250_000)) == pytest.approx(1.0, abs=1e-4)


def test_human_solutions_are_no_echoes_of_their_questions(data):
    with (data / "gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]

    assert [row["answer"] for row in rows if not kept(row["answer"], asked(row["question"]))] == []


def test_the_echoes_of_a_model_without_tuning_are_found(data):
    """Of 252 answers of GPT-3, 8 begin with the task; of the human ones 4 are long quotations or conversions."""
    with (data / "selfinstruct/user_oriented.jsonl").open(encoding="utf-8") as lines:
        tasks = [json.loads(line) for line in lines]
    prompts = [asked("\n\n".join(filter(None, (task["instruction"], task["instances"][0]["input"])))) for task in tasks]
    with (data / "selfinstruct/user_oriented_model_outputs.jsonl").open(encoding="utf-8") as lines:
        answers = [row for row in map(json.loads, lines) if row["model"] == "davinci"]

    assert sum(not kept(row["response"], prompts[row["row"]]) for row in answers) == 8
    assert sum(not kept(task["instances"][0]["output"], prompt) for task, prompt in zip(tasks, prompts, strict=True)) == 4
