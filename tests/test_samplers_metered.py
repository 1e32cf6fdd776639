"""A sampler that does not know of a budget, under one; and one that is opened when it is first asked."""

from itertools import islice

from asking import request

from synthdistill.budget import Budget, Purse, spent_before
from synthdistill.records import Completion, Failure, Usage
from synthdistill.samplers.base import Closing
from synthdistill.samplers.late import Late
from synthdistill.samplers.metered import Metered

REQUESTS = [request(f"question {number}", max_tokens=100) for number in range(30)]


class Eager(Closing):
    """Takes so many requests at a time, as a model that works in batches does, and answers each with 50 tokens."""

    def __init__(self, batch=4, fails=()):
        self.batch, self.fails, self.asked, self.closed = batch, fails, [], 0

    def sample(self, requests):
        waiting = iter(requests)
        while group := list(islice(waiting, self.batch)):
            self.asked += group
            for each in group:
                if each in self.fails:
                    yield Failure(each.id, each.prompt.id, each.index, "too_long", "no", 1, retryable=False)
                else:
                    yield Completion(each.id, each.prompt.id, [], each.index, "text", "stop", "m", Usage(30, 20), 0.0)

    def close(self):
        self.closed += 1


def purse(tmp_path, tokens):
    return Purse(tmp_path / "spend.jsonl", None, Budget(tokens=tokens))


def test_all_is_asked_where_the_budget_is_large_enough_though_not_for_all_at_once(tmp_path):
    """30 answers take 1,500 tokens; each is set aside at about 350."""
    with purse(tmp_path, 2000) as held:
        found = list(Metered(Eager(), held).sample(REQUESTS))

    assert [answer.id for answer in found] == [each.id for each in REQUESTS]
    assert spent_before(tmp_path / "spend.jsonl").tokens == 1500
    assert held.refused is None


def test_it_ends_where_the_budget_does_not_allow_for_one_more(tmp_path):
    with purse(tmp_path, 1000) as held:
        sampler = Eager()
        found = list(Metered(sampler, held).sample(REQUESTS))

    assert 0 < len(found) == len(sampler.asked) < 30
    assert spent_before(tmp_path / "spend.jsonl").tokens == 50 * len(found) <= 1000
    assert held.refused is not None


def test_nobody_is_asked_with_a_budget_for_less_than_one(tmp_path):
    with purse(tmp_path, 50) as held:
        sampler = Eager()

        assert (list(Metered(sampler, held).sample(REQUESTS)), sampler.asked) == ([], [])


def test_a_request_that_could_not_be_answered_costs_nothing(tmp_path):
    with purse(tmp_path, 5000) as held:
        found = list(Metered(Eager(fails=REQUESTS[:10]), held).sample(REQUESTS))

    assert len(found) == 30
    assert spent_before(tmp_path / "spend.jsonl").tokens == 20 * 50


def test_what_was_handed_over_and_not_waited_for_counts_at_its_worst_case(tmp_path):
    with purse(tmp_path, 5000) as held:
        answers = Metered(Eager(), held).sample(REQUESTS)
        next(answers)
        answers.close()

    assert spent_before(tmp_path / "spend.jsonl").tokens > 50 + 3 * 100


def test_a_late_sampler_is_opened_once_when_it_is_asked_and_closed_with_the_block():
    opened = []

    def door():
        opened.append(Eager())
        return opened[-1]

    with Late(door) as sampler:
        assert opened == []
        for _ in range(2):
            assert len(list(sampler.sample(REQUESTS))) == 30

    assert [each.closed for each in opened] == [1]


def test_a_late_sampler_that_nobody_asked_is_never_opened():
    with Late(lambda: 1 / 0):
        pass
