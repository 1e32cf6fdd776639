import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthdistill import errors
from synthdistill.records import Completion, Failure, Prompt, Usage, decode, digest, encode

TEXT = st.text(st.characters(codec=None, exclude_categories=()))


def completion(text: str = "yes", **more) -> Completion:
    given = {"id": "a" * 32, "prompt_id": "b" * 32, "source_ids": ["1"], "index": 0, "text": text, "finish": "stop"}
    return Completion(**{**given, "model": "m", "usage": Usage(1, 2), "latency_s": 0.5, **more})


@given(st.text())
def test_what_is_written_is_read_again(text):
    row = completion(text, reasoning=text, token_ids=[1, 2], tool_calls=[{"name": text}])

    assert decode(encode(row), Completion) == row


@given(st.text())
def test_a_record_is_one_line_whatever_its_text(text):
    assert encode(completion(text)).count(b"\n") == 1


@given(TEXT)
def test_a_lone_surrogate_of_a_cut_escape_is_written_as_a_replacement_character(text):
    again = decode(encode(completion(text)), Completion).text

    assert again == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_every_line_can_be_read_by_any_json_reader():
    assert json.loads(encode(completion("\u2028 \x00 é")))["text"] == "\u2028 \x00 é"


def test_a_torn_line_is_no_record():
    with pytest.raises(msgspec.DecodeError):
        decode(encode(completion())[:-5], Completion)


def test_a_record_of_another_kind_is_refused():
    failure = Failure("a", "b", 0, "http", "503", 3, True)

    with pytest.raises(msgspec.DecodeError):
        decode(encode(failure), Prompt)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_a_digest_tells_values_and_their_places_apart():
    different = [
        digest("a", "b"),
        digest("ab"),
        digest(["a", "b"]),
        digest("b", "a"),
        digest("a", None, "b"),
        digest(1),
        digest("1"),
        digest(True),
    ]

    assert len(set(different)) == len(different)


def test_a_digest_of_a_lone_surrogate_exists_and_is_stable():
    assert digest({"content": "\ud800"}) == digest({"content": "\ud800"})


@pytest.mark.parametrize("kind", [errors.RecipeError, errors.ChangedError, errors.MissingError, errors.StorageError, errors.LockedError])
def test_an_error_crosses_a_process_boundary_whole(kind):
    error = pickle.loads(pickle.dumps(kind("what was given", "what to type")))

    assert (type(error), error.message, error.hint, error.code) == (kind, "what was given", "what to type", kind.code)


def test_exit_codes_are_those_that_are_promised():
    codes = {
        kind.__name__: kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SynthdistillError)
    }

    assert codes == {
        "SynthdistillError": 1,
        "RecipeError": 2,
        "ChangedError": 2,
        "MissingError": 3,
        "StorageError": 3,
        "UnfinishedError": 1,
        "SamplerError": 1,
        "GateError": 4,
        "BudgetError": 5,
        "LockedError": 75,
    }
