"""A uniform sample of a stream."""

import random
from collections import Counter

from production_logs import key

from synthdistill.redistill.sample import Sample


def test_a_sample_is_the_same_whatever_the_order_and_the_repeats():
    keys = [key(str(number)) for number in range(500)]
    mixed = random.Random(1).sample(keys, 500) + keys[:100]

    assert Sample("a", 20, ((each, {}) for each in keys)).rows.keys() == Sample("a", 20, ((each, {}) for each in mixed)).rows.keys()
    assert Sample("a", 20, ((each, {}) for each in keys)).rows.keys() != Sample("b", 20, ((each, {}) for each in keys)).rows.keys()


def test_a_sample_is_uniform():
    """Chi-square over 2,000 draws of 10 from 50 keys: 49 degrees of freedom, 99.9% of uniform samplers stay below 85.4 (draws without
    replacement even below 0.8 of it)."""
    keys = [key(str(number)) for number in range(50)]
    drawn = Counter(each for draw in range(2000) for each in Sample(f"draw {draw}", 10, ((each, {}) for each in keys)).rows)
    expected = 2000 * 10 / 50
    chi_square = sum((drawn[each] - expected) ** 2 / expected for each in keys)

    assert chi_square < 85.4
    assert sum(drawn.values()) == 20_000
