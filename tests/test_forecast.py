"""What is said before anybody is paid: each figure, its interval and where it comes from."""

from statistics import stdev

import pytest
from asking import request
from transformers import AutoTokenizer

from synthdistill.records import Completion, Usage
from synthdistill.samplers import BUILTIN_TEACHER
from synthdistill.samplers.base import ApiModel, BuiltinModel, Price, Workload
from synthdistill.stages import forecast as room
from synthdistill.stages.forecast import forecast, mean

BUILTIN = BuiltinModel(kind="builtin")
REQUESTS = [request(f"Where is parcel number {number}, and why is it {'so ' * (number % 7)}late?") for number in range(40)]


def api(**given):
    return ApiModel(kind="api", model="m", **given)


def answered(inputs, outputs, latency=2.0):
    return [
        Completion(f"{number:032x}", "p", ["s"], 0, "text", "stop", "m", Usage(read, written), latency)
        for number, (read, written) in enumerate(zip(inputs, outputs, strict=True))
    ]


def look(missing=REQUESTS, teacher=None, tmp_path=None, seen=(), **workload):
    return forecast(missing, teacher or api(), tmp_path, Workload(**workload), seen)


def width(figure):
    return figure["high"] - figure["low"]


def test_the_input_of_a_teacher_whose_tokenizer_is_here_is_counted_to_the_token(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_TEACHER)
    ids = [tokenizer.apply_chat_template(each.prompt.messages, add_generation_prompt=True, return_dict=False) for each in REQUESTS]
    wanted = sum(map(len, ids))

    assert look(teacher=BUILTIN, tmp_path=tmp_path)["input_tokens"] == {
        "low": wanted,
        "estimate": wanted,
        "high": wanted,
        "by": "the model's tokenizer",
    }


def test_a_served_model_is_counted_with_the_tokenizer_that_the_recipe_names(tmp_path):
    found = look(teacher=api(tokenizer=str(BUILTIN_TEACHER)), tmp_path=tmp_path)["input_tokens"]

    assert found == look(teacher=BUILTIN, tmp_path=tmp_path)["input_tokens"]


def test_of_very_many_prompts_some_are_counted_and_the_interval_holds_the_truth(tmp_path, monkeypatch):
    exact = look(teacher=BUILTIN, tmp_path=tmp_path)["input_tokens"]["estimate"]
    monkeypatch.setattr(room, "COUNTED", 15)
    found = look(teacher=BUILTIN, tmp_path=tmp_path)["input_tokens"]

    assert found["by"] == "the model's tokenizer on 15 of them"
    assert found["low"] < exact < found["high"]


def test_without_a_tokenizer_input_is_guessed_from_bytes_in_an_interval_that_holds_the_truth(tmp_path):
    exact = look(teacher=BUILTIN, tmp_path=tmp_path)["input_tokens"]["estimate"]
    found = look(tmp_path=tmp_path)["input_tokens"]

    assert found["by"] == "bytes"
    assert found["low"] < exact < found["high"]


def test_without_an_answer_output_has_an_upper_end_and_no_estimate(tmp_path):
    assert look(tmp_path=tmp_path)["output_tokens"] == {
        "low": 0,
        "estimate": None,
        "high": 40 * 24,
        "at_most": 40 * 24,
        "by": "max_tokens",
    }


def test_answers_on_disk_narrow_input_and_output_and_say_so(tmp_path):
    before = look(tmp_path=tmp_path)
    found = look(tmp_path=tmp_path, seen=answered([30, 32, 34, 31], [9, 12, 10, 11]))

    for kind in ("input_tokens", "output_tokens"):
        assert found[kind]["by"] == "4 answers on disk"
        assert width(found[kind]) < width(before[kind])
    assert found["input_tokens"]["estimate"] == round(40 * 31.75)
    assert found["output_tokens"]["estimate"] == round(40 * 10.5)


def test_more_answers_narrow_it_further(tmp_path):
    few = look(tmp_path=tmp_path, seen=answered([30, 34] * 2, [9, 13] * 2))
    many = look(tmp_path=tmp_path, seen=answered([30, 34] * 20, [9, 13] * 20))

    assert width(many["input_tokens"]) < width(few["input_tokens"])
    assert width(many["output_tokens"]) < width(few["output_tokens"])


def test_one_answer_has_no_interval_and_so_says_nothing(tmp_path):
    assert look(tmp_path=tmp_path, seen=answered([30], [9]))["output_tokens"]["by"] == "max_tokens"


def test_output_is_never_said_to_be_more_than_may_be_written(tmp_path):
    found = look(tmp_path=tmp_path, seen=answered([30] * 3, [24, 1, 24]))["output_tokens"]

    assert found["high"] == found["at_most"]


def test_samples_that_are_asked_for_together_are_billed_for_their_input_once(tmp_path):
    alone = look([request("same", 0, temperature=0.7)], tmp_path=tmp_path)
    together = look([request("same", index, temperature=0.7) for index in range(4)], tmp_path=tmp_path)

    assert together["input_tokens"] == alone["input_tokens"]
    assert together["output_tokens"]["at_most"] == 4 * alone["output_tokens"]["at_most"]


def test_a_model_in_this_process_reads_the_input_of_each_sample(tmp_path):
    alone = look([request("same", 0, temperature=0.7)], BUILTIN, tmp_path)
    together = look([request("same", index, temperature=0.7) for index in range(4)], BUILTIN, tmp_path)

    assert together["input_tokens"]["estimate"] == 4 * alone["input_tokens"]["estimate"]


def test_dollars_follow_from_the_tokens_and_are_at_most_what_could_be_billed(tmp_path):
    teacher = api(price=Price(input=1000.0, output=2000.0))
    found = look(tmp_path=tmp_path, teacher=teacher, seen=answered([30, 34] * 5, [9, 13] * 5))

    for end in ("low", "estimate", "high"):
        tokens = found["input_tokens"][end] + 2 * found["output_tokens"][end]
        assert found["usd"][end] == pytest.approx(tokens / 1000, abs=0.004)
    assert found["usd"]["low"] < found["usd"]["estimate"] < found["usd"]["high"] < found["usd"]["at_most"]


def test_without_a_price_there_are_no_dollars_and_without_an_answer_or_a_rate_no_time(tmp_path):
    found = look(tmp_path=tmp_path)

    assert (found["usd"], found["seconds"]) == (None, None)


def test_time_is_latency_over_requests_in_flight(tmp_path):
    found = look(tmp_path=tmp_path, seen=answered([30] * 3, [9] * 3, latency=6.0), concurrency=4)["seconds"]

    assert (found["estimate"], found["by"]) == (60, "the latency of 3 answers on disk, 4 in flight")


def test_a_rate_that_is_slower_than_the_answers_decides_the_time(tmp_path):
    found = look(tmp_path=tmp_path, teacher=api(rpm=10), seen=answered([30] * 3, [9] * 3, latency=0.1), concurrency=4)["seconds"]

    assert (found["estimate"], found["by"]) == (240, "the latency of 3 answers on disk, 4 in flight; rpm = 10")


def test_tokens_a_minute_decide_where_they_are_the_slowest(tmp_path):
    found = look(tmp_path=tmp_path, teacher=api(tpm=100), seen=answered([30] * 3, [10] * 3, latency=0.1), concurrency=4)["seconds"]

    assert found["estimate"] == 40 * 40 / 100 * 60


def test_tokens_a_minute_bound_the_time_before_any_answer(tmp_path):
    found = look(tmp_path=tmp_path, teacher=api(rpm=6000, tpm=100))["seconds"]

    assert found["high"] >= 40 * 24 / 100 * 60


def test_nothing_to_ask_costs_nothing(tmp_path):
    found = look([], api(price=Price(input=1.0, output=1.0)), tmp_path, answered([30] * 3, [9] * 3))

    assert found["usd"] == {"low": 0, "estimate": 0, "high": 0, "at_most": 0}
    assert found["seconds"]["estimate"] == 0


def test_a_prompt_that_the_model_cannot_be_asked_with_costs_nothing_and_stops_no_forecast(tmp_path):
    too_long = request("parcel " * 5000)

    assert look([*REQUESTS, too_long], BUILTIN, tmp_path)["input_tokens"] == look(REQUESTS, BUILTIN, tmp_path)["input_tokens"]


@pytest.mark.parametrize(("count", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093), (100, 1.984)])
def test_the_interval_of_a_mean_is_students(count, t):
    values = [float(number) + 1000 for number in range(count)]
    found = mean(values)
    half = found.high - found.estimate

    assert half / (stdev(values) / count**0.5) == pytest.approx(t, rel=0.02)
