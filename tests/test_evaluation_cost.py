import json
import re
import struct

import pytest

from synthdistill.evaluation import cost, speed
from synthdistill.evaluation.cost import BY_PRICE, BY_TIME, Side, Tokens


def safetensors(path, **shapes):
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": shape} for name, shape in shapes.items()}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_dollars_by_tokens_count_cached_input_at_its_own_price():
    tokens = Tokens(input=300e3, output=50e3, cached_input=200e3)

    assert cost.usd(tokens, input=1.0, output=2.0, cached_input=0.1) == pytest.approx(0.1 + 0.02 + 0.1)
    assert cost.usd(tokens, input=1.0, output=2.0) == pytest.approx(0.3 + 0.1)


def test_a_bill_is_in_dollars_and_none_without_a_price():
    usage = {"input": 1_000_000, "output": 100_000, "cached_input": 400_000}

    assert cost.bill(usage, {"input": 1.0, "output": 10.0, "cached_input": 0.1}) == pytest.approx(0.6 + 0.04 + 1.0)
    assert cost.bill(usage, {"input": 1.0, "output": 10.0, "cached_input": None}) == pytest.approx(1.0 + 1.0)
    assert cost.bill(usage, None) is None


def test_dollars_by_time_at_a_measured_rate():
    seconds = cost.seconds_per_answer(Tokens(output=50), 1000.0)

    assert cost.usd_by_time(seconds, 3.6) == pytest.approx(0.05)


@pytest.mark.parametrize("rate", [None, 0.0])
def test_time_that_was_not_measured_costs_nobody_knows_what(rate):
    assert cost.usd_by_time(cost.seconds_per_answer(Tokens(output=50), rate), 3.6) is None


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (Side(0.1, 9.0), Side(0.4, 1.0), (0.25, BY_PRICE)),
        (Side(None, 0.5), Side(None, 2.0), (0.25, BY_TIME)),
        (Side(0.0, 0.5), Side(0.4, 2.0), (0.0, BY_PRICE)),
    ],
)
def test_a_ratio_of_like_things(student, teacher, expected):
    assert cost.compare(student, teacher) == expected


@pytest.mark.parametrize(
    "sides", [(Side(None, 0.5), Side(0.4, 2.0)), (Side(0.1, 0.5), Side(None, 2.0)), (Side(None, None), Side(None, 2.0))]
)
def test_dollars_are_never_divided_by_seconds(sides):
    ratio, basis = cost.compare(*sides)

    assert ratio is None
    assert basis.startswith("unknown")


def test_parameters_come_from_the_headers_of_all_shards(tmp_path):
    safetensors(tmp_path / "model-1.safetensors", a=[10, 20], b=[5])
    safetensors(tmp_path / "model-2.safetensors", scalar=[])

    assert cost.parameters(tmp_path) == 206


@pytest.mark.parametrize("data", [None, b"", b"\x02\0\0\0\0\0\0\0no"])
def test_parameters_of_a_folder_without_readable_weights_are_unknown(tmp_path, data):
    if data is not None:
        (tmp_path / "model.safetensors").write_bytes(data)

    assert cost.parameters(tmp_path) is None


def test_rounds_go_by_turns():
    asked = []
    rates = speed.alternate({"teacher": lambda: asked.append("teacher") or 5, "student": lambda: asked.append("student") or 5}, 3)

    assert asked == ["teacher", "student"] * 3
    assert [len(found) for found in rates.values()] == [3, 3]


@pytest.mark.parametrize(("rates", "expected"), [([100.0, 900.0, 300.0], 300.0), ([], None), ([0.0, 0.0], None)])
def test_the_median_round_counts(rates, expected):
    assert speed.median(rates) == expected


def test_percentiles_are_in_milliseconds_and_null_without_latencies():
    assert speed.percentiles_ms([0.1] * 99 + [1.0])["p50"] == 100.0
    assert speed.percentiles_ms([0.0]) == {"p50": None, "p95": None}


def test_single_answers_are_timed_with_their_tokens():
    assert [tokens for seconds, tokens in speed.each([lambda: 3, lambda: 4])] == [3, 4]


class Clock:
    """A machine that answers up to `width` rows at once, in a second."""

    def __init__(self, width):
        self.now, self.width, self.asked = 0.0, width, []

    def ask(self, rows):
        self.asked.append(rows)
        self.now += -(-rows // self.width)
        return 10 * rows


@pytest.mark.parametrize(
    ("width", "most", "asked", "batch"),
    [(8, 128, [1, 2, 4, 8, 16, 32], 8), (1000, 100, [1, 2, 4, 8, 16, 32, 64, 100], 100), (1, 128, [1, 2, 4], 1), (8, 1, [1], 1)],
)
def test_batches_double_until_two_in_a_row_are_no_faster(monkeypatch, width, most, asked, batch):
    machine = Clock(width)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: machine.now)
    rates = speed.saturate(machine.ask, most)

    assert (machine.asked, speed.saturated(rates)) == (asked, batch)
    assert rates[1] == 10.0


def test_batches_stop_when_the_time_is_used_up(monkeypatch):
    machine = Clock(1000)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: machine.now)

    assert list(speed.saturate(machine.ask, 1000, seconds=3.0)) == [1, 2, 4]


@pytest.mark.parametrize(
    ("spent", "student", "teacher", "answers", "words"),
    [
        (10.0, 1.0, 5.0, 2500, None),
        (0.0, 1.0, 5.0, 0, None),
        (10.0, 5.0, 5.0, None, "no less"),
        (10.0, None, 5.0, None, "student_price"),
        (10.0, 1.0, None, None, r"\[teacher\] price"),
        (None, 1.0, 5.0, None, "what the run cost"),
    ],
)
def test_break_even_is_a_number_of_answers_or_a_reason(spent, student, teacher, answers, words):
    found = cost.break_even(spent, student, teacher)

    assert found["answers"] == answers
    assert re.search(words, found["reason"]) if words else found["reason"] is None
