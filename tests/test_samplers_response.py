"""The form of answers in a recipe, and how a server is asked for it."""

import json
from dataclasses import replace

import pytest
from aiohttp import web
from asking import request
from pydantic import ValidationError
from servers import serve

from synthdistill.errors import RecipeError
from synthdistill.records import Completion
from synthdistill.samplers.api import ApiSampler
from synthdistill.samplers.base import ApiModel, ResponseFormat, Workload
from synthdistill.samplers.response import Response, fields, read, schema_file

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
FORMATS = [ResponseFormat("json_schema", CLOSED), ResponseFormat("regex", "a|b"), ResponseFormat("choice", ["a", "b"])]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "takes one of json_schema, regex and choice, given none"),
        ({"regex": "a", "choice": ["a"]}, "given regex and choice"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": [""]}, "at least 1 character"),
        ({"regexp": "a"}, "Extra inputs"),
    ],
)
def test_a_response_is_exactly_one_of_three(values, said):
    with pytest.raises(ValidationError, match=said):
        Response.model_validate(values)


def test_a_schema_is_read_from_its_file_and_counts_by_its_contents(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(CLOSED))
    response = Response(json_schema="a.json")
    before = schema_file(response, tmp_path)
    (tmp_path / "a.json").write_text("{}")

    assert read(response, tmp_path) == ResponseFormat("json_schema", {})
    assert before.keys() == {"a.json"}
    assert before != schema_file(response, tmp_path)


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read: No such file"), ("{", "is no JSON"), ("[]", "is not an object")])
def test_a_schema_that_is_none_is_refused_with_its_path(tmp_path, text, said):
    if text is not None:
        (tmp_path / "a.json").write_text(text)

    with pytest.raises(RecipeError, match=said) as refused:
        read(Response(json_schema="a.json"), tmp_path)
    assert str(tmp_path / "a.json") in refused.value.message


OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        (CLOSED | {"required": []}, False),
        (CLOSED | {"properties": {"a": OPEN}}, False),
        (CLOSED | {"properties": {"a": {"type": "array", "items": CLOSED}}}, True),
        (CLOSED | {"properties": {"a": {"anyOf": [{"type": "null"}, OPEN]}}}, False),
        (CLOSED | {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": OPEN}}, False),
        (CLOSED | {"properties": {"a": {"type": "string", "minLength": 3}}}, False),
        ({"type": "array", "items": CLOSED}, False),
        ({"anyOf": [CLOSED]}, False),
    ],
)
def test_strict_is_asked_for_where_openai_takes_it(schema, strict):
    described = fields(ResponseFormat("json_schema", schema))["response_format"]["json_schema"]

    assert described == {"name": "answer", "schema": schema, "strict": strict}


@pytest.mark.parametrize("wanted", FORMATS, ids=lambda wanted: wanted.kind)
def test_vllms_own_server_reads_the_fields_as_they_are_meant(wanted):
    protocol = pytest.importorskip("vllm.entrypoints.openai.chat_completion.protocol", reason="vLLM is not installed")

    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], **fields(wanted)}
    found = protocol.ChatCompletionRequest.model_validate(body).extract_structured_outputs()

    assert getattr(found, {"json_schema": "json"}.get(wanted.kind, wanted.kind)) == wanted.value


def formed(text, wanted):
    return replace(request(text), response=wanted)


def ask(server, requests, told, *, concurrency=1, extra=None):
    workload = Workload(concurrency=concurrency, timeout_s=5.0, note=told.append)
    with ApiSampler(server.url, "m", None, workload, extra=extra) as sampler:
        return list(sampler.sample(requests))


@pytest.mark.parametrize("wanted", FORMATS, ids=lambda wanted: wanted.kind)
def test_a_server_is_asked_for_the_form(wanted):
    with serve() as server:
        ask(server, [formed("hello", wanted), request("free")], told := [])

    assert server.bodies[0].items() >= fields(wanted).items()
    assert not server.bodies[1].keys() & {"response_format", "structured_outputs"}
    assert told == []


def refuses(body, number):
    """As OpenAI does what it does not know: neither `param` nor `code` is always there."""
    error = {"message": "Unrecognized request argument supplied: structured_outputs", "type": "invalid_request_error", "param": None}
    known = "structured_outputs" not in body
    return None if known else lambda http, body: web.json_response({"error": error}, status=400)


def test_a_server_that_does_not_know_the_form_is_asked_without_it_and_that_is_said_once():
    with serve(choose=refuses) as server:
        found = ask(server, [formed(f"row {number}", FORMATS[2]) for number in range(5)], told := [])

    assert {row.text for row in found} == {f"echo: row {number}" for number in range(5)}
    assert server.requests == 6
    [line] = told
    assert "does not take [generate] response (HTTP 400: Unrecognized request argument" in line
    assert "verified only" in line


def test_a_row_that_is_refused_with_and_without_the_form_is_the_rows_own_fault():
    with serve(choose=lambda body, number: 400 if body["messages"][-1]["content"] == "bad" else None) as server:
        found = ask(server, [formed(text, FORMATS[2]) for text in ("bad", "good", "better")], told := [])

    said = {row.kind if not isinstance(row, Completion) else row.text for row in found}
    assert said == {"rejected", "echo: good", "echo: better"}
    assert all("structured_outputs" in body for body in server.bodies if body["messages"][-1]["content"] != "bad")
    assert told == []


def test_a_server_that_took_the_form_before_is_asked_for_it_again_after_one_refusal():
    with serve([None, 400]) as server:
        ask(server, [formed(f"row {number}", FORMATS[2]) for number in range(3)], [])

    assert sorted("structured_outputs" in body for body in server.bodies) == [False, True, True, True]


def test_extra_fields_go_into_each_body():
    extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    with serve() as server:
        ask(server, [request("hello")], [], extra=extra)

    assert server.bodies[0].items() >= extra.items()


@pytest.mark.parametrize("name", ["model", "messages", "n", "stream", "seed", "max_tokens", "response_format"])
def test_a_field_that_we_set_ourselves_is_no_extra_one(name):
    with pytest.raises(ValidationError, match=f"{name} is set by "):
        ApiModel(kind="api", model="m", extra={name: 1})
