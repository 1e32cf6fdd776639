"""The transformers sampler, on a tiny random model: its answers are noise, but the same noise."""

import math
import shutil
from collections import Counter

import pytest
from asking import prompt, request
from tiny import CHAT_TEMPLATE, tiny_model

from synthdistill.errors import MissingError, RecipeError
from synthdistill.records import Failure, Prompt
from synthdistill.samplers.base import Request, Sampling, Workload
from synthdistill.samplers.tokenizer import ChatTokenizer
from synthdistill.samplers.transformers import TransformersSampler

pytest.importorskip("transformers", reason="the train extra is not installed")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def sampler(folder):
    with TransformersSampler(str(folder), "tiny", Workload()) as opened:
        yield opened


def asked(count=24, **sampling):
    return [request(f"parcel {'x ' * (number % 7)}number {number}", **sampling) for number in range(count)]


def by_id(found):
    return {row.id: row for row in found}


def test_greedy_equals_plain_generate_row_by_row(sampler, folder):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    found = by_id(sampler.sample(asked(8)))
    for wanted in asked(8):
        ids = torch.tensor([sampler.tokens(wanted.prompt)])
        expected = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]

        assert expected.tolist() == found[wanted.id].token_ids


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_p": 0.9}])
def test_an_answer_does_not_depend_on_its_batch(sampler, sampling):
    requests = asked(**sampling)
    together = by_id(sampler.sample(requests))
    alone = by_id(answer for wanted in requests[:8] for answer in sampler.sample([wanted]))

    assert {key: row.token_ids for key, row in alone.items()} == {key: together[key].token_ids for key in alone}


def test_samples_of_one_prompt_differ_and_come_back_the_same(sampler):
    requests = [request("hello", index=index, temperature=1.0) for index in range(8)]
    first, second = by_id(sampler.sample(requests)), by_id(sampler.sample(requests))

    assert len({row.text for row in first.values()}) > 4
    assert {key: row.token_ids for key, row in first.items()} == {key: row.token_ids for key, row in second.items()}


def test_first_tokens_are_drawn_with_the_models_probabilities(sampler):
    """1,500 draws at temperature 1, with top_p 0.5: no token outside the nucleus, and each inside within 5 standard errors."""
    import torch

    ids = torch.tensor([sampler.tokens(prompt("hello"))])
    with torch.inference_mode():
        share = sampler.model(input_ids=ids).logits[0, -1].softmax(-1).sort(descending=True)
    inside = int((share.values.cumsum(0) < 0.5).sum()) + 1
    expected = dict(zip(share.indices[:inside].tolist(), (share.values[:inside] / share.values[:inside].sum()).tolist(), strict=True))
    draws = 1500
    requests = [request("hello", index=index, temperature=1.0, top_p=0.5, max_tokens=1) for index in range(draws)]
    found = Counter(row.token_ids[0] for row in sampler.sample(requests))

    assert set(found) <= set(expected)
    for token, probability in expected.items():
        assert abs(found[token] / draws - probability) < 5 * math.sqrt(probability * (1 - probability) / draws)


def test_a_colder_temperature_draws_the_likeliest_token_more_often(sampler):
    def share(temperature):
        rows = sampler.sample([request("hello", index=index, temperature=temperature, max_tokens=1) for index in range(200)])
        return Counter(row.token_ids[0] for row in rows).most_common(1)[0][1]

    assert share(0.2) > share(2.0)


def test_finish_and_token_ids_tell_whether_the_answer_ended(sampler):
    rows = list(sampler.sample(asked(48, max_tokens=40)))
    end = sampler.tokenizer.bare.eos_token_id

    assert {row.finish for row in rows} == {"stop", "length"}
    for row in rows:
        assert (row.token_ids[-1] == end) == (row.finish == "stop")
        assert end not in row.token_ids[:-1]
        assert "<|" not in row.text
        assert row.usage.output == len(row.token_ids) <= 40
        assert row.usage.input > 0
        assert row.latency_s > 0


def test_a_stop_string_ends_the_answer_before_it(sampler):
    [whole] = sampler.sample([request("hello")])
    word = whole.text[5:7]
    [cut] = sampler.sample([request("hello", stop=[word])])

    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(word)], "stop")
    assert len(cut.token_ids) < len(whole.token_ids)


def test_rows_with_different_limits_share_a_batch(sampler):
    requests = [request(f"row {number}", max_tokens=1 + number) for number in range(12)]
    found = by_id(sampler.sample(requests))

    assert all(len(found[wanted.id].token_ids) <= wanted.sampling.max_tokens for wanted in requests)
    assert any(row.finish == "length" for row in found.values())


def test_a_prompt_too_long_for_the_model_fails_and_the_others_are_answered(sampler):
    found = by_id(sampler.sample([request("y " * 300), request("hello")]))
    failure = found[request("y " * 300).id]

    assert len(found) == 2
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.retryable) == ("too_long", False)
    assert "256" in failure.message


def test_max_tokens_is_what_the_context_leaves(sampler):
    [found] = sampler.sample([request("y " * 118, max_tokens=200)])

    assert found.usage.input + found.usage.output <= 256


def test_messages_that_the_template_cannot_render_are_a_failure(sampler):
    broken = Prompt("b", ["b"], [{"role": "user"}], "", "train")
    [found] = sampler.sample([Request("b", broken, 0, Sampling())])

    assert (found.kind, found.retryable) == ("template", False)


def test_a_models_own_generation_config_changes_no_answer(folder, sampler, tmp_path):
    """A hub model often comes with a temperature and a repetition penalty; the recipe's sampling is the only one."""
    other = shutil.copytree(folder, tmp_path / "other")
    config = (other / "generation_config.json").read_text(encoding="utf-8")
    own = config.replace("{", '{"do_sample": true, "temperature": 1.9, "repetition_penalty": 3.0, "max_length": 5,', 1)
    (other / "generation_config.json").write_text(own, encoding="utf-8")
    with TransformersSampler(str(other), "tiny", Workload()) as changed:
        found = by_id(changed.sample(asked(4)))

    assert {key: row.token_ids for key, row in found.items()} == {
        key: row.token_ids for key, row in by_id(sampler.sample(asked(4))).items()
    }


@pytest.mark.parametrize("harm", ["no_weights", "torn_weights", "no_template", "no_tokenizer", "no_config"])
def test_a_folder_that_is_no_chat_model_is_refused_by_name(folder, tmp_path, harm):
    broken = shutil.copytree(folder, tmp_path / "broken")
    gone = {
        "no_weights": "model.safetensors",
        "no_template": "chat_template.jinja",
        "no_tokenizer": "tokenizer.json",
        "no_config": "config.json",
    }
    if harm == "torn_weights":
        (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    else:
        (broken / gone[harm]).unlink()
    with pytest.raises(RecipeError, match="broken"):
        TransformersSampler(str(broken), "broken", Workload())


def test_an_extra_that_is_not_installed_is_a_missing_error(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"synthdistill\[train\]"):
        TransformersSampler(str(folder), "tiny", Workload())


def test_nothing_is_printed(folder, capfd):
    with TransformersSampler(str(folder), "tiny", Workload()) as opened:
        list(opened.sample([request("hello"), request("y " * 300)]))

    assert capfd.readouterr() == ("", "")


def with_template(folder, copy, template, special=()):
    """A copy of the model whose tokenizer has another template, and more special tokens."""
    from transformers import AutoTokenizer

    shutil.copytree(folder, copy)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(copy)
    return copy


def test_what_follows_an_opened_thought_is_no_answer_until_the_thought_ends(folder, tmp_path):
    opens = with_template(folder, tmp_path / "opens", CHAT_TEMPLATE.replace("<|assistant|>", "<|assistant|><think>\\n"))
    plain = with_template(folder, tmp_path / "plain", CHAT_TEMPLATE.replace("<|assistant|>", "<|assistant|>think\\n"))

    for place, empty in ((opens, True), (plain, False)):
        with TransformersSampler(str(place), "tiny", Workload()) as sampler:
            found = [row for row in sampler.sample(asked(8)) if row.finish == "length"]
        assert found
        assert {row.text == "" for row in found} == {empty}
        assert {bool(row.reasoning) for row in found} == {empty}


def test_marks_of_thinking_that_are_special_tokens_stay_to_be_seen(folder, tmp_path):
    marked = with_template(folder, tmp_path / "marked", CHAT_TEMPLATE, ["[THINK]", "[/THINK]"])
    plain, thinks = ChatTokenizer(str(folder)), ChatTokenizer(str(marked))
    ids = thinks.bare.encode("[THINK]The parcel.[/THINK]yes<|end|>", add_special_tokens=False)

    assert thinks.text(ids) == "[THINK]The parcel.[/THINK]yes"
    assert thinks.text(thinks.bare.encode("yes<|end|>")) == plain.text(plain.bare.encode("yes<|end|>")) == "yes"
