from synthdistill.quality.select import sample

IDS = [f"{number:032x}" for number in range(1000)]


def test_a_sample_has_its_size_and_never_more_than_there_is():
    assert len(sample(IDS, 10)) == 10
    assert sample(IDS, 5000) == set(IDS)


def test_the_order_of_the_input_changes_nothing():
    assert sample(IDS, 100) == sample(reversed(IDS), 100)


def test_a_higher_count_only_adds():
    assert sample(IDS, 100) < sample(IDS, 200)


def test_a_sample_is_spread_over_the_ids():
    assert 60 < len(sample(IDS, 200) & set(IDS[:500])) < 140
