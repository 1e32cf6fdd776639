"""Production logs: what is read out of a row, and a folder of them distilled without a request."""

import json

import pytest
from project import jsonl, project, synthdistill
from servers import serve
from test_sources import as_parquet

from synthdistill import shards
from synthdistill.errors import RecipeError
from synthdistill.logs import Book, completions_of, logged
from synthdistill.prompts import Config, load
from synthdistill.records import Completion, Prompt, Usage
from synthdistill.sources import Row, read_rows

TEACHER = "qwen3-32b"
TOOLS = [{"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {"order": {"type": "string"}}}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "track", "arguments": '{"order": "7"}'}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 4}}


def request(text="Where is it?", **more):
    return {"model": TEACHER, "messages": [{"role": "user", "content": text}], "temperature": 0.3} | more


def response(*texts, model=TEACHER, finish="stop", **message):
    said = [{"role": "assistant", "content": text, **message} for text in texts]
    choices = [{"index": place, "message": each, "finish_reason": finish} for place, each in enumerate(said)]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "choices": choices, "usage": USAGE}


def row(**values):
    return Row(values, "log.jsonl line 1")


def said(found):
    return [each.answer.text for each in found.answers]


# one row

FORMS = {
    "request and response": {"request": request(), "response": response("On its way.")},
    "as JSON text": {"request": json.dumps(request()), "response": json.dumps(response("On its way."))},
    "with the requests' HTTP around them": {
        "request": {"method": "POST", "url": "/v1/chat/completions", "body": request()},
        "response": {"status_code": 200, "body": response("On its way.")},
        "error": None,
    },
    "the two lines of a batch together": {
        "custom_id": "1",
        "method": "POST",
        "body": request(),
        "response": {"status_code": 200, "request_id": "x", "body": response("On its way.")},
        "error": {"code": None, "message": None},
    },
    "the request's fields beside the response": {**request(), "response": response("On its way.")},
    "with a status of its own": {"request": request(), "response": response("On its way."), "status": "200"},
    "a streamed answer that was put together": {"request": request(stream=True), "response": response("On its way.")},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_request_is_the_prompt_and_the_response_its_answer_in(form):
    found = logged(row(**FORMS[form]))

    assert found.messages == request()["messages"]
    assert (said(found), found.answers[0].usage, found.failed) == (["On its way."], Usage(10, 6, 4), False)


@pytest.mark.parametrize(
    "values", [{"text": "a"}, {"messages": request()["messages"]}, {"messages": request()["messages"], "response": "x"}]
)
def test_a_row_that_is_no_log_is_none(values):
    assert logged(row(**values)) is None


def test_tools_calls_and_reasoning_are_read():
    answer = response(None, finish="tool_calls", tool_calls=[CALL], reasoning_content="They ask for 7.")
    found = logged(row(request=request(tools=TOOLS), response=answer))

    assert found.tools == TOOLS
    (only,) = found.answers
    assert (only.answer.tool_calls, only.answer.finish, only.answer.reasoning) == ([CALL], "tool_calls", "They ask for 7.")


def test_each_choice_is_an_answer_and_their_tokens_add_up_to_what_was_paid():
    found = logged(row(request=request(), response=response("a", "b", "c", "d")))

    assert said(found) == ["a", "b", "c", "d"]
    assert [each.usage for each in found.answers] == [Usage(10, 1, 4), Usage(0, 2, 0), Usage(0, 1, 0), Usage(0, 2, 0)]


FAILED = {
    "a status": {"response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}},
    "a status beside it": {"status": 500, "response": None},
    "an error": {"error": {"message": "expired"}, "response": None},
    "an error in the body": {"response": {"error": {"message": "bad"}}},
    "no choices": {"response": {"model": TEACHER, "choices": []}},
    "a web page": {"response": "<html>"},
}


@pytest.mark.parametrize("case", FAILED)
def test_a_response_that_failed_is_no_answer_and_its_request_still_a_prompt(case):
    found = logged(row(request=request(), **FAILED[case]))

    assert (found.messages, found.answers, found.failed, found.unfit) == (request()["messages"], [], True, None)


def test_a_request_alone_is_a_prompt_without_an_answer_and_nothing_failed():
    found = logged(row(custom_id="1", body=request()))

    assert (found.messages, found.answers, found.failed) == (request()["messages"], [], False)


STREAMED = {
    "server-sent events": 'data: {"object": "chat.completion.chunk"}\n\ndata: [DONE]',
    "a list of chunks": [{"object": "chat.completion.chunk", "choices": []}],
    "one chunk": {"object": "chat.completion.chunk", "choices": []},
    "events of a body": {"status_code": 200, "body": "data: {}"},
}


@pytest.mark.parametrize("case", STREAMED)
def test_a_streamed_response_is_refused_with_what_to_do(case):
    with pytest.raises(RecipeError, match=r"log\.jsonl line 1 holds a streamed response.*Log whole responses"):
        logged(row(request=request(stream=True), response=STREAMED[case]))


def test_the_answers_of_a_batch_without_its_requests_are_refused_with_what_to_do():
    with pytest.raises(RecipeError, match=r"log\.jsonl line 1 holds a response without its request.*custom_id"):
        logged(row(id="batch_req_1", custom_id="1", response={"status_code": 200, "body": response("a")}))


def test_logs_from_parquet_are_the_same_prompts_and_answers(tmp_path):
    rows = [
        {"request": request(tools=TOOLS), "response": response(None, tool_calls=[CALL], finish="tool_calls")},
        {"request": request("Hello"), "response": response("Hi.", refusal=None)},
    ]
    as_parquet(tmp_path / "log.parquet", rows)
    found = [logged(each) for each in read_rows(tmp_path / "log.parquet")]

    assert found == [logged(row(**each)) for each in rows]


# answers to completions


def prompt_of(found):
    return Prompt("p", ["1"], found.messages, "text", "train", found.tools)


def test_completions_say_that_they_were_logged_and_are_numbered():
    found = logged(row(request=request(), response=response("a", "b", model=f"{TEACHER}-2026")))
    one, two = completions_of(found.answers, prompt_of(found), TEACHER, None)

    assert (one.index, one.text, one.sampling, one.model, one.latency_s, one.source_ids) == (
        0,
        "a",
        "logged",
        f"{TEACHER}-2026",
        0.0,
        ["1"],
    )
    assert (two.index, two.text, two.usage) == (1, "b", Usage(0, 3, 0))
    assert one.id != two.id


def test_the_id_of_a_logged_answer_follows_model_revision_and_number_only():
    found = logged(row(request=request(), response=response("a", "b")))
    ids = [
        [each.id for each in completions_of(found.answers, prompt_of(found), *model)]
        for model in ((TEACHER, None), (TEACHER, "r"), ("m", None))
    ]
    other = logged(row(request=request(), response=response("c", "d")))

    assert len({each for pair in ids for each in pair}) == 6
    assert [each.id for each in completions_of(other.answers, prompt_of(other), TEACHER, None)] == ids[0]


def test_a_book_keeps_distinct_answers_of_the_teacher_and_counts_the_others():
    book = Book()
    for answer in (response("a"), response("b", model="other"), response("a"), response("c"), {"error": "x"}):
        book.add("p", logged(row(request=request(model="alias"), response=answer)), {TEACHER})

    assert [each.answer.text for each in book.answers["p"]] == ["a", "c"]
    assert {name: count for name, count in book.others.items() if count} == {
        "logged_by_other_model": 1,
        "logged_repeated": 1,
        "logged_failed": 1,
    }


@pytest.mark.parametrize(("asked", "answered"), [(TEACHER, f"{TEACHER}-2026-01-01"), ("alias", TEACHER), (TEACHER, None)])
def test_the_teacher_is_known_by_the_name_in_the_request_or_in_the_response(asked, answered):
    book = Book()
    book.add("p", logged(row(request=request(model=asked), response=response("a", model=answered))), {TEACHER})

    assert len(book.answers["p"]) == 1


# as a source


def loaded(folder, rows, **config):
    jsonl(folder / "log.jsonl", rows)
    return load(Config(source="log.jsonl", **config), folder, teacher={TEACHER})


def test_what_is_no_prompt_in_a_log_is_dropped_with_its_reason(tmp_path):
    rows = [
        {"id": "embedding", "request": {"model": "e", "input": "text"}, "response": {"data": []}},
        {"id": "malformed", "request": {"messages": [{"role": "bot"}]}, "response": {"status_code": 400, "body": {}}},
        {"id": "prefilled", "request": request() | {"messages": [{"role": "assistant", "content": "So"}]}, "response": response("a")},
        {"id": "good", "request": request(), "response": response("a")},
    ]
    found = loaded(tmp_path, rows)

    assert {each.source_ids[0]: each.reason for each in found.dropped} == {
        "embedding": "log_without_messages",
        "malformed": "log_without_messages",
        "prefilled": "log_ends_with_answer",
    }
    assert [prompt.source_ids for prompt in found.prompts] == [["good"]]


def test_the_same_request_twice_is_one_prompt_with_two_answers(tmp_path):
    (prompt,) = loaded(tmp_path, [{"request": request(), "response": response(text)} for text in ("a", "b", "a")]).prompts

    assert (prompt.logged, len(prompt.source_ids)) == (2, 3)


def conversation(number):
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Hello, I am number {number}."}]
    second = [*first, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Where is my order?"}]
    return [{"request": {"model": TEACHER, "messages": each}, "response": response("a")} for each in (first, second)]


def test_the_turns_of_a_conversation_are_prompts_of_one_group_and_one_split(tmp_path):
    found = loaded(tmp_path, [turn for number in range(60) for turn in conversation(number)], held_out=0.3, validation=0.2)
    splits = {}
    for prompt in found.prompts:
        splits.setdefault(prompt.group, []).append(prompt.split)

    assert len(found.prompts) == 120
    assert len(splits) == 60
    assert all(len(each) == 2 and len(set(each)) == 1 for each in splits.values())


def test_an_answer_to_other_messages_than_the_recipe_asks_is_not_used(tmp_path):
    (tmp_path / "system.md").write_text("Be brief.")
    found = loaded(tmp_path, [{"request": request(), "response": response("a")}], system="system.md")

    assert [prompt.logged for prompt in found.prompts] == [0]
    assert found.log_counts["logged_asked_otherwise"] == 1


# the whole program


def logs_of(folder, count, **more):
    rows = [{"request": request(f"Where is parcel {n}?", **more), "response": response(f"Parcel {n} is here.")} for n in range(count)]
    for day in range(4):
        (folder / "logs" / f"2026-11-0{day + 1}").mkdir(parents=True)
        jsonl(folder / "logs" / f"2026-11-0{day + 1}" / "requests.jsonl", rows[day::4])


def distil(folder, url="http://127.0.0.1:9/v1", *, generate=None, **prompts):
    """A recipe whose source is the logs, and whose teacher is behind an address where by default nobody is."""
    prompts = {"source": "logs/2026-*/*.jsonl", "template": None, **prompts}
    teacher = {"kind": "api", "model": TEACHER, "base_url": url, "answers": None, "price": {"input": 1.0, "output": 2.0}}
    return project(folder, [], prompts=prompts, teacher=teacher, **({"generate": generate} if generate else {}))


def rows_of(folder, stem, kind):
    return list(shards.read(folder / "runs" / "toy" / "main" / "generate", stem, kind))


def manifest_of(folder):
    return json.loads((folder / "runs" / "toy" / "main" / "generate" / "manifest.json").read_text())


def test_logs_of_the_teacher_distil_without_a_request(tmp_path):
    """Nobody listens at the teacher's address."""
    logs_of(tmp_path, 40)
    recipe = distil(tmp_path)
    done = [synthdistill(stage, recipe) for stage in ("generate", "filter")]

    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    prompts = {prompt.id: prompt for prompt in rows_of(tmp_path, "prompts", Prompt)}
    found = rows_of(tmp_path, "completions", Completion)
    assert {prompts[row.prompt_id].text: (row.text, row.sampling, row.index) for row in found} == {
        f"Where is parcel {n}?": (f"Parcel {n} is here.", "logged", 0) for n in range(40)
    }
    assert {prompt.split for prompt in prompts.values()} == {"train", "validation", "held_out"}
    manifest = manifest_of(tmp_path)
    assert manifest["counts"]["more"]["logged"] == 40
    assert (manifest["usage"], manifest["cost_usd"]) == ({"input": 0, "output": 0, "cached_input": 0}, 0.0)


def test_only_what_was_not_logged_is_asked_for(tmp_path):
    logs_of(tmp_path, 40)
    fresh = [{"request": request(f"New {n}?"), "response": response("other", model="another") | {}} for n in range(10)]
    jsonl(tmp_path / "logs" / "2026-11-01" / "more.jsonl", [each | {"request": each["request"] | {"model": "another"}} for each in fresh])
    with serve() as server:
        done = synthdistill("generate", distil(tmp_path, server.url))

    assert done.returncode == 0, done.stderr
    assert sorted(server.asked.elements()) == sorted(f"New {n}?" for n in range(10))
    assert manifest_of(tmp_path)["counts"]["more"]["logged_by_other_model"] == 10


def test_samples_that_were_not_logged_are_asked_for_beside_those_that_were(tmp_path):
    logs_of(tmp_path, 40)
    with serve() as server:
        recipe = distil(tmp_path, server.url, generate={"samples": 3, "sampling": {"temperature": 0.7}})
        planned = json.loads(synthdistill("generate", recipe, "--dry-run", "--json").stdout)
        done = synthdistill("generate", recipe)

    assert done.returncode == 0, done.stderr
    train = [prompt for prompt in rows_of(tmp_path, "prompts", Prompt) if prompt.split == "train"]
    found = {}
    for row in rows_of(tmp_path, "completions-train", Completion):
        found.setdefault(row.prompt_id, []).append((row.index, row.sampling))
    assert all(sorted(each) == [(0, "logged"), (1, None), (2, None)] for each in found.values())
    assert len(found) == len(train)
    assert server.requests == 2 * len(train) == planned["plan"]["generate"]["to_ask"]


def test_more_logged_answers_than_a_held_out_prompt_needs_do_not_stand_for_answers_that_are_missing(tmp_path):
    twice = [{"request": request(f"Twice {n}?"), "response": response(text)} for n in range(30) for text in ("one", "two")]
    (tmp_path / "logs" / "2026-11-01").mkdir(parents=True)
    jsonl(tmp_path / "logs" / "2026-11-01" / "twice.jsonl", twice)
    with serve() as server:
        done = synthdistill("generate", distil(tmp_path, server.url, held_out=0.5))
    counts = manifest_of(tmp_path)["counts"]

    assert done.returncode == 0, done.stderr
    assert counts["read"] == counts["written"] == counts["more"]["logged"]
    assert counts["more"]["logged"] + counts["more"]["logged_unused"] == 60


def test_a_row_that_is_logged_later_makes_another_run_that_takes_the_asked_answers_over(tmp_path):
    logs_of(tmp_path, 30)
    new = {"request": request("New?", model="another"), "response": response("other", model="another")}
    jsonl(tmp_path / "logs" / "2026-11-01" / "new.jsonl", [new])
    with serve() as server:
        recipe = distil(tmp_path, server.url)
        first = synthdistill("generate", recipe)
        jsonl(tmp_path / "logs" / "2026-11-02" / "late.jsonl", [{"request": request("Late?"), "response": response("Late.")}])
        refused = synthdistill("generate", recipe)
        second = synthdistill("generate", recipe, "--run", "next")

    assert (first.returncode, refused.returncode, second.returncode) == (0, 2, 0), second.stderr
    assert "logs/2026-*/*.jsonl was edited" in refused.stderr
    assert server.requests == 1


def test_real_questions_logged_with_real_answers_are_distilled_as_they_lie(tmp_path, data):
    """GSM8K's test questions with what a real model answered (MIT), four models a question as a gateway would log them."""
    solutions = [each.values for each in read_rows(data / "gsm8k" / "model_solutions.jsonl")][:400]
    model = solutions[0]["model"]
    rows = [
        {
            "request": {"model": each["model"], "messages": [{"role": "user", "content": each["question"]}]},
            "response": response(each["solution"], model=each["model"]),
        }
        for each in solutions
    ]
    jsonl(tmp_path / "log.jsonl", rows)
    found = load(Config(source="log.jsonl"), tmp_path, teacher={model})

    assert found.rows == 400 == len(found.prompts) + found.merged
    own = [each for each in solutions if each["model"] == model]
    assert sum(prompt.logged for prompt in found.prompts) + found.log_counts["logged_repeated"] == len(own)
    assert found.log_counts["logged_by_other_model"] == 400 - len(own)
