"""The scripted sampler: the fake that tests and rehearsals use."""

import pytest
from asking import prompt, request

from synthdistill.errors import RecipeError
from synthdistill.records import Completion, Failure
from synthdistill.samplers import open_sampler
from synthdistill.samplers.base import ScriptedModel, Workload
from synthdistill.samplers.scripted import ScriptedSampler


def script(folder, *lines):
    path = folder / "answers.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_first_matching_line_answers(tmp_path):
    path = script(
        tmp_path, '{"match": "refund", "text": "money"}', '{"match": "re", "text": "late"}', '{"text": "any", "finish": "length"}'
    )
    with ScriptedSampler(path) as sampler:
        found = list(sampler.sample([request("refund me"), request("repair"), request("hello")]))

    assert [(row.text, row.finish) for row in found] == [("money", "stop"), ("late", "stop"), ("any", "length")]
    assert [row.id for row in found] == [row.id for row in sampler.requests]


def test_a_line_can_fail_and_a_row_that_no_line_answers_fails(tmp_path):
    sampler = ScriptedSampler(script(tmp_path, '{"match": "bad", "fail": "content_policy"}', '{"match": "good", "text": "yes"}'))
    found = list(sampler.sample([request("bad"), request("good"), request("other")]))

    assert [type(row) for row in found] == [Failure, Completion, Failure]
    assert [row.kind for row in found if isinstance(row, Failure)] == ["content_policy", "unscripted"]
    assert not any(row.retryable for row in found if isinstance(row, Failure))


@pytest.mark.parametrize("line", ["{", '["text"]', '{"text": 3}', '{"txt": "a"}', '{"text": "a", "finish": "done"}'])
def test_a_bad_line_is_named_by_its_number(tmp_path, line):
    with pytest.raises(RecipeError, match="line 3 is no scripted answer"):
        ScriptedSampler(script(tmp_path, '{"text": "a"}', "", line))


def test_a_missing_or_empty_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        ScriptedSampler(tmp_path / "none.jsonl")
    with pytest.raises(RecipeError, match="holds no scripted answers"):
        ScriptedSampler(script(tmp_path, ""))


def test_a_recipe_table_opens_it(tmp_path):
    script(tmp_path, '{"text": "a"}')
    with open_sampler(ScriptedModel(kind="scripted", answers="answers.jsonl"), tmp_path, Workload()) as sampler:
        [found] = sampler.sample([request("x")])

    assert (found.text, found.prompt_id, found.model) == ("a", prompt("x").id, "scripted/answers.jsonl")
