import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pytest
from aiohttp import web
from background import in_background

from synthdistill.errors import MissingError, RecipeError
from synthdistill.ops import notify
from synthdistill.ops.notify import Decision, Notifier
from synthdistill.upkeep import Notify

SECRET = "T0KEN-b81c"
KEPT = Decision(
    "2026-11-23T02:00:07Z", "triage", "kept", "2026-11-23-1f0c", "triage: kept, retention 0.93 < 0.95", {"retention": 0.93, "drift": None}
)
FAILED = Decision("2026-11-23T02:00:07Z", "triage", "failed", None, "triage: failed", {})


@dataclass
class Asked:
    method: str
    path: str
    kind: str
    body: str


@dataclass
class Listener:
    """A server that writes down what it is sent. It answers with `statuses` in order, then with 200."""

    origin: str = ""
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        self.asked.append(Asked(request.method, request.path_qs, request.content_type, await request.text()))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            request.transport.close()
        return web.Response(status=status or 200, headers=self.headers if status else {})


@contextmanager
def listening(*statuses: int, **headers: str) -> Iterator[Listener]:
    """0 is a connection that breaks off."""
    listener = Listener(statuses=list(statuses), headers={name.replace("_", "-"): value for name, value in headers.items()})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", listener.hear)
    with in_background(app) as listener.origin:
        yield listener


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses, which are not waited for."""
    asked = []
    monkeypatch.setattr(notify, "sleep", asked.append)
    return asked


@pytest.fixture
def notifier(monkeypatch):
    """A notifier by way of its variables: `notifier(webhook=...)` sets HOOK_URL."""
    names = {"webhook": "HOOK_URL", "slack": "SLACK_URL", "apprise": "APPRISE_URLS", "ping": "PING_URL"}

    def made(**urls: str) -> Notifier:
        for who, url in urls.items():
            monkeypatch.setenv(names[who], url)
        return Notifier.of(Notify(**{f"{who}_env": names[who] for who in urls}))

    return made


def nowhere() -> str:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_a_webhook_gets_the_decision_as_json(notifier):
    with listening() as server:
        lines = notifier(webhook=f"{server.origin}/hook?key={SECRET}").tell(KEPT)

    assert lines == []
    assert [("POST", f"/hook?key={SECRET}", "application/json")] == [(one.method, one.path, one.kind) for one in server.asked]
    assert asdict(KEPT) == json.loads(server.asked[0].body)


def test_a_number_that_is_none_is_null_for_a_webhook(notifier):
    decision = Decision(KEPT.at, "triage", "kept", None, "", {"p": float("nan")})

    with listening() as server:
        notifier(webhook=server.origin).tell(decision)

    assert json.loads(server.asked[0].body)["details"] == {"p": None}


def test_half_a_character_reaches_everybody_as_a_sign_that_stands_for_it(notifier):
    decision = Decision(KEPT.at, "triage", "failed", None, "x \ud83d", {"reason": "y \ud83d"})

    with listening() as server:
        apprise = f"json{server.origin.removeprefix('http')}/"
        everybody = notifier(webhook=server.origin, slack=server.origin, apprise=apprise, ping=server.origin)
        lines = everybody.tell(decision) + everybody.ping("fail", decision.text)

    assert lines == []
    assert [
        json.loads(server.asked[0].body)["text"],
        json.loads(server.asked[1].body)["text"],
        json.loads(server.asked[2].body)["message"],
        server.asked[3].body,
    ] == ["x \ufffd", "x \ufffd", "x ?", "x ?"]


def test_slack_gets_the_line_alone_with_its_own_characters_escaped(notifier):
    with listening() as server:
        lines = notifier(slack=f"{server.origin}/services/{SECRET}").tell(KEPT)

    assert lines == []
    assert [json.loads(one.body) for one in server.asked] == [{"text": "triage: kept, retention 0.93 &lt; 0.95"}]


def test_everybody_hears_though_the_first_is_away(notifier):
    with listening() as server:
        address = server.origin.removeprefix("http")
        all_of_them = notifier(webhook=f"http://{nowhere()}", slack=f"{server.origin}/slack", apprise=f"json{address}/apprise")
        lines = all_of_them.tell(KEPT)

    assert lines == ["HOOK_URL cannot be reached: ConnectError (3 attempts)"]
    assert [one.path.rstrip("/") for one in server.asked] == ["/slack", "/apprise"]


def test_nobody_is_told_where_nobody_is_named():
    quiet = Notifier.of(Notify())

    assert quiet.tell(KEPT) + quiet.ping("fail") == []


@pytest.mark.parametrize("first", [500, 503, 429, 0])
def test_what_may_pass_is_tried_again(notifier, waits, first):
    with listening(first, first) as server:
        lines = notifier(webhook=server.origin).tell(KEPT)

    assert lines == []
    assert [json.loads(one.body) for one in server.asked] == [asdict(KEPT)] * 3
    assert waits == [1.0, 2.0]


def test_after_three_attempts_it_is_given_up_with_a_line(notifier, waits):
    with listening(*[500] * 9) as server:
        lines = notifier(webhook=server.origin).tell(KEPT)

    assert lines == ["HOOK_URL answered 500 (3 attempts)"]
    assert len(server.asked) == 3
    assert len(waits) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_not_tried_again(notifier, status):
    with listening(status) as server:
        lines = notifier(webhook=server.origin).tell(KEPT)

    assert [f"HOOK_URL answered {status}"] == lines
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed(notifier):
    with listening() as elsewhere, listening(302, Location=f"{elsewhere.origin}/") as server:
        lines = notifier(webhook=server.origin).tell(KEPT)

    assert lines == ["HOOK_URL answered 302"]
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("said", "waited"), [("7", 7.0), ("0", 0.0), ("86400", 30.0), ("soon", 1.0)])
def test_retry_after_is_honoured_within_reason(notifier, waits, status, said, waited):
    with listening(status, Retry_After=said) as server:
        lines = notifier(webhook=server.origin).tell(KEPT)

    assert lines == []
    assert [waited] == waits


def test_a_server_that_is_silent_is_given_up(notifier, monkeypatch):
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lines = notifier(webhook=f"http://127.0.0.1:{silent.getsockname()[1]}").tell(KEPT)

    assert lines == ["HOOK_URL cannot be reached: ReadTimeout (3 attempts)"]


def test_a_decision_stands_though_the_proxy_is_set_wrongly(notifier, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", f"nonsense://{SECRET}")

    assert notifier(webhook="http://127.0.0.1:9").tell(KEPT) == ["HOOK_URL cannot be reached: ValueError"]


@pytest.mark.parametrize(
    ("address", "start", "success", "fail"),
    [
        ("/ping/uuid", "/ping/uuid/start", "/ping/uuid", "/ping/uuid/fail"),
        ("/ping/uuid/", "/ping/uuid/start", "/ping/uuid/", "/ping/uuid/fail"),
        ("/uuid?rid=1&x=/a", "/uuid/start?rid=1&x=/a", "/uuid?rid=1&x=/a", "/uuid/fail?rid=1&x=/a"),
        ("", "/start", "/", "/fail"),
    ],
)
def test_pings_go_where_healthchecks_wants_them(notifier, address, start, success, fail):
    with listening() as server:
        pinging = notifier(ping=server.origin + address)
        lines = pinging.ping("start") + pinging.ping("success") + pinging.ping("fail", "triage: failed")

    assert lines == []
    assert [("GET", start, ""), ("GET", success, ""), ("POST", fail, "triage: failed")] == [
        (one.method, one.path, one.body) for one in server.asked
    ]


def test_a_ping_that_fails_is_a_line(notifier):
    with listening(*[502] * 3) as server:
        lines = notifier(ping=f"{server.origin}/{SECRET}").ping("success")

    assert lines == ["PING_URL answered 502 (3 attempts)"]
    assert len(server.asked) == 3


def test_apprise_delivers(notifier):
    with listening() as server:
        lines = notifier(apprise=f"json{server.origin.removeprefix('http')}/{SECRET}").tell(FAILED)

    assert lines == []
    sent = json.loads(server.asked[0].body)
    assert (sent["title"], sent["message"], sent["type"]) == ("synthdistill triage: failed", "triage: failed", "failure")


def test_of_two_apprise_addresses_only_the_one_that_failed_is_asked_again(notifier):
    with listening() as good, listening(*[500] * 9) as bad:
        lines = notifier(apprise="  ".join(f"json{server.origin.removeprefix('http')}/" for server in (good, bad))).tell(KEPT)

    assert lines == ["APPRISE_URLS (address 2) was not reached by Apprise (3 attempts)"]
    assert (len(good.asked), len(bad.asked)) == (1, 3)


def test_an_address_that_apprise_does_not_know_is_a_line(notifier):
    assert notifier(apprise=f"nonsense://{SECRET}").tell(KEPT) == ["APPRISE_URLS is no address that Apprise knows"]


def test_every_variable_that_is_not_set_is_named_with_what_to_type(notifier, monkeypatch):
    monkeypatch.delenv("HOOK_URL", raising=False)
    monkeypatch.setenv("SLACK_URL", " ")
    wanted = Notify(webhook_env="HOOK_URL", slack_env="SLACK_URL")

    with pytest.raises(MissingError) as caught:
        Notifier.of(wanted)

    assert caught.value.code == 3
    assert caught.value.message == "[redistill.notify] names HOOK_URL and SLACK_URL, not set in the environment"
    assert caught.value.hint.startswith("export HOOK_URL=...; export SLACK_URL=...,")


@pytest.mark.parametrize("who", ["webhook", "slack", "ping"])
@pytest.mark.parametrize(
    "value",
    [SECRET, f"ftp://{SECRET}", f"https:///{SECRET}", f"https://host:{SECRET}/", f"https://[{SECRET}", f"https://a/{SECRET} https://b"],
)
def test_an_address_that_is_none_is_refused_without_its_value(notifier, who, value):
    with pytest.raises(RecipeError, match=r"(HOOK|SLACK|PING)_URL holds no http") as caught:
        notifier(**{who: value})

    assert SECRET not in f"{caught.value} {caught.value.__context__}"


def test_something_that_cannot_be_for_apprise_is_refused_without_its_value(notifier):
    with pytest.raises(RecipeError, match="APPRISE_URLS holds something") as caught:
        notifier(apprise=f"ntfy://topic {SECRET}")

    assert SECRET not in str(caught.value)


def test_without_apprise_the_extra_is_named(notifier, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingError, match=r"synthdistill\[notify\]"):
        notifier(apprise="ntfy://topic")


def test_an_address_is_in_no_line_no_log_and_no_output(notifier, caplog, capfd):
    """Told by way of everything, to a server that is there, one that fails, and one that is not."""
    caplog.set_level(logging.DEBUG)
    lines = []
    with listening(*[500] * 12) as fails, listening() as hears:
        for place in (fails.origin.removeprefix("http://"), hears.origin.removeprefix("http://"), nowhere()):
            url = f"http://user:{SECRET}@{place}/{SECRET}?key={SECRET}"
            everything = notifier(webhook=url, slack=url, ping=url, apprise=f"json://user:{SECRET}@{place}/{SECRET} nonsense://{SECRET}")
            lines += everything.tell(KEPT) + everything.ping("fail", "text") + [repr(everything)]
    logging.getLogger("synthdistill").info("the log goes on")
    captured = capfd.readouterr()

    assert len(hears.asked) == 4
    assert SECRET not in "\n".join([*lines, captured.out, captured.err])
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == ["the log goes on"]
