"""The purse: what is set aside before a request is sent, what is settled after it, and what a killed process leaves behind."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from project import environment

from synthdistill.budget import BLOCKS, PICO, Amount, Budget, Price, Purse, spent_before
from synthdistill.errors import StorageError
from synthdistill.records import Usage
from synthdistill.samplers.worst_case import WorstCase

PRICE = Price(input=1.0, output=2.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spend.jsonl"


def purse(path, *, usd=None, tokens=None, price=PRICE):
    return Purse(path, price, Budget(usd=usd, tokens=tokens))


def killed(purse):
    """Let go of the file and write nothing, as a kill does."""
    if purse._handle >= 0:
        os.close(purse._handle)
        purse._handle = -1


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_request_costs_at_most_its_whole_input_uncached_and_every_token_it_may_write():
    cached = Price(input=1.0, output=2.0, cached_input=0.25)

    assert Purse(None, cached).worst(1000, 500) == Amount(2 * PICO // 1000, 1500)


def test_an_answer_costs_its_cached_input_at_the_price_of_cached_input():
    cached = Price(input=1.0, output=2.0, cached_input=0.25)

    assert Purse(None, cached).amount(Usage(1000, 500, cached_input=400)).usd == pytest.approx((600 + 100 + 1000) / 1e6)


def test_cached_input_without_a_price_of_its_own_costs_as_input():
    assert Purse(None, PRICE).amount(Usage(1000, 500, cached_input=400)).usd == pytest.approx(2000 / 1e6)


def test_a_million_small_amounts_add_up_without_rounding():
    price = Price(input=0.1, output=0.3)
    each = Purse(None, price).amount(Usage(1, 1))

    assert Amount(each.pico * 1_000_000).usd == 0.4


def test_what_does_not_fit_is_refused_and_fits_once_another_is_settled(path):
    with purse(path, tokens=100) as held:
        assert held.reserve(Amount(0, 60))
        assert not held.reserve(Amount(0, 60))
        held.settle(Amount(0, 60), Amount(0, 40))

        assert held.reserve(Amount(0, 60))


def test_a_refusal_is_forgotten_once_it_fits(path):
    with purse(path, tokens=100) as held:
        held.reserve(Amount(0, 60))
        held.reserve(Amount(0, 60))
        before = held.refused
        held.settle(Amount(0, 60), Amount(0, 10))
        held.reserve(Amount(0, 60))

    assert (before, held.refused) == (Amount(0, 60), None)


def test_the_last_token_of_a_budget_may_be_spent_and_none_after_it(path):
    with purse(path, tokens=100) as held:
        assert held.reserve(Amount(0, 100))
        assert not held.reserve(Amount(0, 1))


def test_a_budget_in_dollars_does_not_count_tokens(path):
    with purse(path, usd=1.0) as held:
        assert held.reserve(Amount(PICO, 10**15))
        assert not held.reserve(Amount(1, 0))


def test_a_budget_in_tokens_does_not_count_dollars(path):
    with purse(path, tokens=10) as held:
        assert held.reserve(Amount(10**6 * PICO, 10))


def test_of_two_budgets_either_stops(path):
    with purse(path, usd=1.0, tokens=100) as held:
        assert not held.reserve(Amount(2 * PICO, 1))
        assert not held.reserve(Amount(1, 101))
        assert held.reserve(Amount(PICO, 100))


def test_without_a_budget_a_bill_is_kept_and_nothing_is_refused(path):
    with Purse(path, PRICE) as held:
        assert held.reserve(Amount(10**6 * PICO, 10**9))
        held.settle(Amount(10**6 * PICO, 10**9), Amount(5, 7))

    assert spent_before(path) == Amount(5, 7)


def test_a_purse_that_nobody_looks_into_keeps_no_ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Purse.unlimited() as held:
        assert held.reserve(Amount(PICO, 1))
        held.settle(Amount(PICO, 1), Amount(PICO, 1))

    assert list(tmp_path.iterdir()) == []


def test_nothing_asked_leaves_no_ledger(path):
    with purse(path, tokens=100):
        pass

    assert not path.exists()


# the ledger


def test_money_is_in_the_ledger_before_a_request_may_be_sent(path):
    held = purse(path, tokens=1000)
    held.reserve(Amount(0, 400))

    assert spent_before(path).tokens >= 400
    held.close()


def test_a_process_that_ends_counts_what_it_spent(path):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 400))
        held.settle(Amount(0, 400), Amount(0, 30))

    assert spent_before(path) == Amount(0, 30)


def test_what_is_in_flight_at_the_end_was_sent_and_counts_at_its_worst_case(path):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 400))
        held.reserve(Amount(0, 300))
        held.settle(Amount(0, 400), Amount(0, 30))

    assert spent_before(path) == Amount(0, 330)


def test_a_process_that_is_killed_counts_all_that_it_had_set_aside(path):
    held = purse(path, tokens=1000)
    held.reserve(Amount(0, 400))
    killed(held)

    assert 400 <= purse(path, tokens=1000).earlier.tokens <= 400 + 1000 // BLOCKS


def test_a_kill_costs_a_block_at_most_beyond_what_was_spent_and_in_flight(path):
    held = purse(path, tokens=100_000)
    for _ in range(1000):
        held.reserve(Amount(0, 50))
        held.settle(Amount(0, 50), Amount(0, 40))
        assert 0 <= spent_before(path).tokens - held.spent.tokens <= 50 + 100_000 // BLOCKS
    killed(held)


def test_the_disk_is_asked_once_a_block_and_not_once_a_request(path):
    with purse(path, tokens=100_000) as held:
        for _ in range(10_000):
            held.reserve(Amount(0, 10))
            held.settle(Amount(0, 10), Amount(0, 10))

    assert len(lines(path)) <= BLOCKS + 2


def test_no_more_is_set_aside_than_the_budget_allows(path):
    held = purse(path, tokens=1000)
    held.reserve(Amount(0, 999))
    killed(held)

    assert spent_before(path).tokens <= 1000


def test_starts_add_up_those_that_ended_and_those_that_were_killed(path):
    for ends in (True, False, True, False):
        held = purse(path, tokens=10_000)
        held.reserve(Amount(0, 1000))
        held.settle(Amount(0, 1000), Amount(0, 700))
        held.close() if ends else killed(held)

    assert 4 * 700 <= spent_before(path).tokens <= 2 * 700 + 2 * (1000 + 10_000 // BLOCKS)


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_dropped_and_the_next_one_is_not_glued_to_it(path, cut):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 400))
        held.settle(Amount(0, 400), Amount(0, 300))
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-cut])
    before = spent_before(path)
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 100))
        held.settle(Amount(0, 100), Amount(0, 50))

    assert (before, spent_before(path)) == (Amount(0, 300), Amount(0, 350))


def test_a_line_that_a_kill_tore_at_the_very_start_is_dropped(path):
    path.write_bytes(b'{"proc')
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 100))

    assert spent_before(path) == Amount(0, 100)


def test_a_damaged_ledger_is_named_with_its_line_and_not_taken_for_nothing_spent(path):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 100))
    path.write_bytes(b"garbage\n" + path.read_bytes())

    with pytest.raises(StorageError, match=r"spend\.jsonl line 1 is no line of a ledger.*--run NEW"):
        purse(path, tokens=1000)


def test_a_full_disk_is_said_and_leaves_no_half_line(path, monkeypatch):
    held = purse(path, tokens=1000)
    held.reserve(Amount(0, 100))
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:10]))
    with pytest.raises(StorageError, match="the disk is full"):
        held.reserve(Amount(0, 800))
    monkeypatch.undo()
    held.close()

    assert path.read_bytes().endswith(b"\n")
    assert spent_before(path).tokens == 900


def test_a_budget_that_was_lowered_below_what_is_spent_refuses_and_raised_goes_on(path):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 500))
    with purse(path, tokens=400) as lowered:
        assert not lowered.reserve(Amount(0, 1))
    with purse(path, tokens=501) as raised:
        assert raised.reserve(Amount(0, 1))


def test_another_price_does_not_change_what_was_spent(path):
    with purse(path, usd=1.0) as held:
        held.reserve(held.worst(100_000, 50_000))

    assert purse(path, usd=1.0, price=Price(input=100.0, output=200.0)).earlier.usd == pytest.approx(0.2)


def test_what_was_counted_too_high_may_be_corrected(path):
    with purse(path, tokens=1000) as held:
        held.reserve(Amount(0, 900))
        held.settle(Amount(0, 900), Amount(0, 900))
        held.correct(Amount(0, 900), Amount(0, 300))
        assert held.reserve(Amount(0, 700))

    assert spent_before(path) == Amount(0, 1000)


def test_a_signal_in_the_middle_of_settling_loses_nothing(path):
    """Wherever it comes, the ledger says no less than was spent."""
    for line in range(1, 6):
        path.unlink(missing_ok=True)
        held = purse(path, tokens=1000)
        held.reserve(Amount(0, 100))
        seen = []

        def interrupt(frame, event, argument, line=line, seen=seen):
            if frame.f_code is Purse.settle.__code__:
                seen.append(event)
                if len(seen) == line:
                    raise KeyboardInterrupt
            return interrupt

        sys.settrace(interrupt)
        try:
            held.settle(Amount(0, 100), Amount(0, 80))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        held.close()

        assert spent_before(path).tokens >= 80


# any order of events


def test_no_order_of_reserving_settling_losing_and_killing_passes_the_limit(path):
    """What the provider was sent at its worst case, over all processes, against the limit and against the ledger."""
    for seed in range(150):
        path.unlink(missing_ok=True)
        dice = random.Random(seed)
        limit = Amount(dice.randrange(1, 3000), dice.randrange(1, 3000))
        budget = Budget(usd=limit.pico / PICO, tokens=limit.tokens)
        held, flying, billed = Purse(path, PRICE, budget), [], Amount()
        limit = held.limit  # to a picodollar
        for _ in range(60):
            event = dice.random()
            if event < 0.5:
                worst = Amount(dice.randrange(200), dice.randrange(200))
                if held.reserve(worst):
                    flying.append(worst)
            elif event < 0.85 and flying:
                worst = flying.pop(dice.randrange(len(flying)))
                spent = dice.choice([Amount(), worst, Amount(dice.randint(0, worst.pico), dice.randint(0, worst.tokens))])
                held.settle(worst, spent)
                billed += spent
            elif event >= 0.9:
                killed(held) if dice.random() < 0.7 else held.close()
                billed, flying = sum(flying, billed), []  # the provider answered them all
                assert not (spent_before(path) - billed).pico < 0
                assert not (spent_before(path) - billed).tokens < 0
                held = Purse(path, PRICE, budget)
            assert sum(flying, billed).pico <= limit.pico and sum(flying, billed).tokens <= limit.tokens, seed
            assert spent_before(path).pico <= limit.pico and spent_before(path).tokens <= limit.tokens, seed
        held.close()


SPENDER = """
import sys, time
from pathlib import Path
from synthdistill.budget import Amount, Budget, Purse

purse = Purse(Path(sys.argv[1]), None, Budget(tokens=100_000))
while purse.reserve(Amount(0, 20)):
    sys.stdout.write("20\\n")  # sent
    sys.stdout.flush()
    time.sleep(0.0005)
    purse.settle(Amount(0, 20), Amount(0, 20))
purse.close()
sys.stdout.write("end\\n")
"""


def test_real_processes_killed_again_and_again_never_pass_the_limit(path: Path):
    sent, ends, moments = 0, False, random.Random(7)
    for _ in range(30):
        process = subprocess.Popen([sys.executable, "-c", SPENDER, str(path)], env=environment(), stdout=subprocess.PIPE)
        for _ in range(moments.randrange(1, 400)):
            if process.stdout.readline() == b"end\n":
                ends = True
                break
            sent += 20
        process.kill()
        rest = process.stdout.read().splitlines()
        sent += 20 * rest.count(b"20")
        ends = ends or b"end" in rest
        assert process.wait() in (0, -signal.SIGKILL)
        assert sent <= spent_before(path).tokens <= 100_000
        if ends:
            break
    assert ends or sent > 20_000


def test_a_request_that_hung_since_the_first_counts_by_what_was_learned_meanwhile():
    purse = Purse(None, Price(input=1.0), Budget(usd=1.0))
    bound = WorstCase(purse)
    first = bound.of(1000, 10)
    assert purse.reserve(first)

    for _ in range(30):
        bound.learn(1000, 250)
    bound.lose(1000, 10, first)

    assert first.tokens > 1000
    assert purse.held.tokens == 0
    assert 250 + 10 <= purse.spent.tokens <= 250 * 1.1 + 11
