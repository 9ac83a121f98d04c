"""The server API as an ASGI application: who may call, what is a request of it, and what the answers look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sockade import History, Sockade
from sockade.api.application import http_application
from sockade.api.endpoint import Desk
from sockade.api.server_api import NodeFacts, server_api_routes
from sockade.brokers.memory import MemoryBroker
from sockade.errors import StorageError
from sockade.guard.policy import Policy
from sockade.identity.api_keys import ApiKey
from sockade.identity.attempts import Attempts
from sockade.messaging.broker import Draft, Keep
from sockade.messaging.control import Control
from sockade.messaging.node import Node
from sockade.settings import LimitSettings, Settings
from tests.api.asgi import Answer, Client, Trail
from tests.identity.world import world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sockade.clock import SteppedClock
    from sockade.messaging.broker import Published
    from sockade.messaging.promise import Promise

KEY = "k" * 43
LIMITS = LimitSettings(body_bytes=4_000, message_bytes=1_000, guesses_per_minute=3)
BAD_REQUEST, UNKNOWN_CHANNEL, NOT_AVAILABLE = 107, 102, 108


class FailingBroker(MemoryBroker):
    """A broker whose disk may be full."""

    full = False

    def publish(self, channel: str, draft: Draft, keep: Keep | None, key: str = "") -> Promise[Published]:
        if self.full:
            raise StorageError("disk full")
        return super().publish(channel, draft, keep, key)


@dataclass
class Backend:
    """Who calls the server API."""

    client: Client
    trail: Trail
    clock: SteppedClock
    broker: FailingBroker

    async def send(
        self, path: str, content: bytes = b"{}", *more: tuple[str, str], key: str = KEY, **options: Any
    ) -> Answer:
        headers = [("host", "localhost:8444"), ("content-type", "application/json"), *more]
        headers += [("x-api-key", key)] if key else []
        return await self.client.send("POST", path, headers, [content], **options)

    async def do(self, method: str, body: object = None) -> Any:
        """Call a method with the key, and return what an HTTP 200 answers."""
        answer = await self.send(f"/api/{method}", msgspec.json.encode(body or {}))
        assert answer.status == 200, answer
        assert answer.header("content-type") == "application/json"
        assert answer.header("cache-control") == "no-store"
        return answer.json

    async def code(self, method: str, body: object = None) -> int:
        """Call a method in vain, and return the code of the error."""
        answer = await self.do(method, body)
        assert list(answer) == ["error"], answer
        assert answer["error"]["message"]
        return int(answer["error"]["code"])


def declared() -> Sockade:
    app = Sockade()
    app.channel("room:{name}", history=History(size=10, ttl=60), presence=True)(type("Room", (), {}))
    app.channel("long:{name}", history=History(size=2_000, ttl=60))(type("Long", (), {}))
    app.channel("flash:{name}")(type("Flash", (), {}))
    return app


async def made(folder: Path, *, channels: bool = True) -> AsyncIterator[Backend]:
    settings = Settings(limits=LIMITS)
    async with world(folder, settings) as around:
        clock, trail, broker = around.clock, Trail(), FailingBroker(around.clock)
        node = Node(broker, declared().channels, clock)
        await node.start()
        policy = Policy(names=frozenset({"localhost"}), origins=frozenset(), paths=frozenset())
        desk = Desk(around.authority, settings, trail, clock, policy, frozenset(), Attempts(LIMITS), "")
        control = Control(node) if channels else None
        routes = server_api_routes(desk, ApiKey(KEY.encode()), control, NodeFacts("7", "n", clock.monotonic()))
        app = http_application(routes, policy, trail, clock, list, [], pages=False)
        yield Backend(Client(app), trail, clock, broker)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    async for one in made(tmp_path / "data"):
        yield one


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Backend]:
    """The API of an application without channels."""
    async for one in made(tmp_path / "data", channels=False):
        yield one


# Who may call.


@pytest.mark.parametrize(
    "headers",
    [
        [("x-api-key", KEY)],
        [("authorization", f"apikey {KEY}")],
        [("Authorization", f"ApiKey {KEY}")],
    ],
)
async def test_the_key_opens_in_either_header(backend: Backend, headers: list[tuple[str, str]]) -> None:
    assert (await backend.send("/api/info", b"", *headers, key="")).status == 200
    assert backend.trail.lines == []


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "credential_missing"),
        ([("x-api-key", "")], "api_key_invalid"),
        ([("x-api-key", KEY[:-1])], "api_key_invalid"),
        ([("x-api-key", KEY + "k")], "api_key_invalid"),
        ([("x-api-key", KEY.upper())], "api_key_invalid"),
        ([("x-api-key", "\xff" * 43)], "api_key_invalid"),
        ([("authorization", f"Bearer {KEY}")], "api_key_invalid"),
        ([("authorization", f"apikey{KEY}")], "api_key_invalid"),
        # Two readers must not read two keys.
        ([("x-api-key", KEY), ("x-api-key", "other")], "api_key_invalid"),
        ([("x-api-key", KEY), ("authorization", f"apikey {KEY}")], "api_key_invalid"),
    ],
)
async def test_anything_else_is_401_with_one_line(
    backend: Backend, headers: list[tuple[str, str]], reason: str
) -> None:
    answer = await backend.send("/api/publish", b'{"channel":"room:a","data":1}', *headers, key="")
    assert answer.status == 401
    assert answer.json["code"] == reason
    assert answer.header("www-authenticate") == "apikey"
    assert answer.header("cache-control") == "no-store"
    assert [(line["event"], line["reason"], line["connection"]) for line in backend.trail.lines] == [
        ("authn_fail", reason, answer.json["id"])
    ]
    assert KEY[:-1] not in str(backend.trail.lines)
    assert (await backend.do("history", {"channel": "room:a"}))["result"]["offset"] == 0


async def test_without_the_key_nobody_learns_which_methods_there_are(backend: Backend) -> None:
    for path in ("/api/publish", "/api/nothing"):
        assert (await backend.send(path, key="wrong")).status == 401


async def test_who_is_wrong_too_often_is_429_and_keeps_nobody_out(backend: Backend) -> None:
    statuses = [(await backend.send("/api/info", key="wrong")).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    answer = await backend.send("/api/info", key="wrong")
    assert answer.header("retry-after") == "20"
    assert [line["reason"] for line in backend.trail.lines] == ["api_key_invalid"] * 3 + ["rate_limited"] * 3
    # The same address with the key.
    assert "result" in await backend.do("info")
    backend.clock.step(20)
    assert (await backend.send("/api/info", key="wrong")).status == 401


async def test_a_key_in_the_url_is_400(backend: Backend) -> None:
    answer = await backend.send("/api/info", key="", query=f"api_key={KEY}")
    assert answer.status == 400
    assert answer.json["code"] == "credential_in_url"
    assert KEY not in str(backend.trail.lines)


async def test_another_host_is_421(backend: Backend) -> None:
    headers = [("host", "evil.example"), ("x-api-key", KEY)]
    answer = await backend.client.send("POST", "/api/info", headers, [b"{}"])
    assert answer.status == 421


async def test_no_page_of_another_origin_is_let_near(backend: Backend) -> None:
    asks = [("host", "localhost"), ("origin", "https://a.example"), ("access-control-request-method", "POST")]
    preflight = await backend.client.send("OPTIONS", "/api/info", asks)
    assert preflight.status == 405
    answer = await backend.send("/api/info", b"{}", ("origin", "https://a.example"))
    for one in (preflight, answer):
        assert not [name for name, _ in one.headers if name.startswith("access-control")]


async def test_only_post(backend: Backend) -> None:
    answer = await backend.client.send("GET", "/api/info", [("host", "localhost"), ("x-api-key", KEY)])
    assert answer.status == 405
    assert answer.header("allow") == "POST"


# What is a request.


async def test_a_body_over_the_limit_is_413(backend: Backend) -> None:
    assert (await backend.send("/api/publish", b"{" + b" " * 4_000 + b"}")).status == 413


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"channel":"a","channel":"b"}', b'{"data":NaN}', b"[" * 40, b"\xff", b'{"data":18446744073709551616}'],
)
async def test_what_is_no_acceptable_json_is_400(backend: Backend, content: bytes) -> None:
    assert (await backend.send("/api/publish", content)).status == 400


async def test_another_content_type_is_400(backend: Backend) -> None:
    headers = [("host", "localhost"), ("x-api-key", KEY), ("content-type", "text/plain")]
    assert (await backend.client.send("POST", "/api/info", headers, [b"{}"])).status == 400


async def test_no_such_method_is_404(backend: Backend) -> None:
    for path in ("/api/block_user", "/api/", "/api/publish/x", "/metrics", "/admin", "/"):
        assert (await backend.send(path)).status == 404, path


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("publish", {}),
        ("publish", {"channel": "room:a"}),
        ("publish", {"channel": "", "data": 1}),
        ("publish", {"channel": "room:a", "data": 1, "colour": 2}),
        ("publish", {"channel": "room:a", "data": 1, "tags": {"a": 1}}),
        ("publish", ["room:a", 1]),
        ("broadcast", {"channels": [], "data": 1}),
        ("broadcast", {"channels": "room:a", "data": 1}),
        ("subscribe", {"channel": "room:a"}),
        ("unsubscribe", {"user": "", "channel": "room:a"}),
        ("disconnect", {"user": ""}),
        ("disconnect", {"user": "ada", "disconnect": {"code": 1_000}}),
        ("disconnect", {"user": "ada", "disconnect": {"code": 5_000}}),
        # These mean something else on plain endpoints and would be translated.
        ("disconnect", {"user": "ada", "disconnect": {"code": 3_008}}),
        ("refresh", {"user": "ada", "expire_at": -1}),
        ("history", {"channel": "room:a", "limit": -2}),
        ("channels", {"pattern": 1}),
        ("info", {"what": 1}),
    ],
)
async def test_a_request_of_another_shape_is_107(backend: Backend, method: str, body: object) -> None:
    assert await backend.code(method, body) == BAD_REQUEST


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("publish", {"channel": "room:a", "data": 1, "b64data": "AA=="}),
        ("publish", {"channel": "room:a", "data": 1, "version": 3}),
        ("broadcast", {"channels": ["room:a"], "b64data": "AA=="}),
        ("subscribe", {"user": "ada", "channel": "room:a", "b64info": "AA=="}),
        ("subscribe", {"user": "ada", "channel": "room:a", "override": {"presence": {"value": True}}}),
        ("subscribe", {"user": "ada", "channel": "room:a", "recover_since": {"offset": 1, "epoch": "x"}}),
        ("disconnect", {"user": "ada", "session": "s"}),
        ("refresh", {"user": "ada", "session": "s"}),
        ("presence", {"channel": "flash:a"}),
        ("presence_stats", {"channel": "flash:a"}),
        ("history", {"channel": "flash:a"}),
        ("history_remove", {"channel": "flash:a"}),
    ],
)
async def test_what_is_not_offered_is_108_and_never_ignored(backend: Backend, method: str, body: object) -> None:
    assert await backend.code(method, body) == NOT_AVAILABLE


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("publish", {"data": 1}),
        ("subscribe", {"user": "ada"}),
        ("unsubscribe", {"user": "ada"}),
        ("presence", {}),
        ("presence_stats", {}),
        ("history", {}),
        ("history_remove", {}),
    ],
)
async def test_a_channel_that_is_not_declared_is_102(backend: Backend, method: str, more: dict[str, Any]) -> None:
    assert await backend.code(method, {"channel": "hall:a", **more}) == UNKNOWN_CHANNEL


async def test_fields_that_change_nothing_are_accepted(backend: Backend) -> None:
    idle = {"b64data": "", "delta": True, "version": 0, "version_epoch": "", "tags": {}, "idempotency_key": ""}
    assert (await backend.do("publish", {"channel": "room:a", "data": None, **idle}))["result"]["offset"] == 1
    idle = {"session": "", "client": "", "override": {}, "recover_since": None, "data": None}
    assert await backend.do("subscribe", {"user": "ada", "channel": "room:a", **idle}) == {"result": {}}


async def test_a_publication_is_no_larger_than_a_client_s(backend: Backend) -> None:
    assert (await backend.do("publish", {"channel": "room:a", "data": "x" * 998}))["result"]["offset"] == 1
    assert await backend.code("publish", {"channel": "room:a", "data": "x" * 999}) == 106


# What is answered.


async def test_answers_hold_every_field_even_where_there_is_nothing(backend: Backend) -> None:
    node = {"uid": "7", "name": "n", "version": "sockade 0.1", "uptime": 5}
    node |= dict.fromkeys(("num_clients", "num_users", "num_subs", "num_channels"), 0)
    backend.clock.step(5)
    epoch = (await backend.do("history", {"channel": "room:a"}))["result"]["epoch"]
    for method, body, result in (
        ("publish", {"channel": "flash:a", "data": 1}, {"offset": 0, "epoch": ""}),
        ("history", {"channel": "room:a"}, {"publications": [], "offset": 0, "epoch": epoch}),
        ("history_remove", {"channel": "room:a"}, {}),
        ("presence", {"channel": "room:a"}, {"presence": {}}),
        ("presence_stats", {"channel": "room:a"}, {"num_clients": 0, "num_users": 0}),
        ("channels", {}, {"channels": {}}),
        ("info", {}, {"nodes": [node]}),
        ("disconnect", {"user": "ada"}, {}),
        ("unsubscribe", {"user": "ada", "channel": "room:a"}, {}),
        ("refresh", {"user": "ada", "expire_at": 1}, {}),
    ):
        assert await backend.do(method, body) == {"result": result}, method


async def test_a_history_reply_has_at_most_a_thousand_publications(backend: Backend) -> None:
    for _ in range(1_001):
        await backend.broker.publish("long:a", Draft(b"1", backend.clock.wall()), Keep(2_000, 60.0))
    for limit in (-1, 100_000):
        found = (await backend.do("history", {"channel": "long:a", "limit": limit}))["result"]
        assert (len(found["publications"]), found["offset"]) == (1_000, 1_001)


async def test_history_shows_what_was_published(backend: Backend) -> None:
    for number in (1, 2, 3):
        await backend.do("publish", {"channel": "room:a", "data": number, "tags": {"n": "x"}})
    found = (await backend.do("history", {"channel": "room:a", "limit": -1}))["result"]["publications"]
    assert [(one["offset"], one["data"], one["tags"]) for one in found] == [(n, n, {"n": "x"}) for n in (1, 2, 3)]


async def test_a_broker_that_fails_is_100_and_nothing_was_published(backend: Backend) -> None:
    backend.broker.full = True
    assert await backend.code("publish", {"channel": "room:a", "data": 1}) == 100
    broadcast = await backend.do("broadcast", {"channels": ["room:a", "hall:a"], "data": 1})
    assert [one["error"]["code"] for one in broadcast["result"]["responses"]] == [100, 102]
    backend.broker.full = False
    assert (await backend.do("history", {"channel": "room:a"}))["result"]["offset"] == 0


@pytest.mark.parametrize("parallel", [True, False])
async def test_batch_answers_each_command_in_its_place(backend: Backend, parallel: bool) -> None:
    commands = [
        {"publish": {"channel": "room:a", "data": 1}},
        {"publish": {"channel": "hall:a", "data": 1}},
        {"publish": {"channel": "room:a"}},
        {"batch": {"commands": []}},
        {"publish": {"channel": "room:a", "data": 1}, "info": {}},
        {},
        {"disconnect": {"user": "ada"}},
    ]
    replies = (await backend.do("batch", {"commands": commands, "parallel": parallel}))["replies"]
    assert replies[0]["publish"]["offset"] == 1
    assert [one["error"]["code"] for one in replies[1:6]] == [102, 107, 104, 104, 104]
    assert replies[6] == {"disconnect": {}}


async def test_what_is_no_batch_is_400(backend: Backend) -> None:
    for content in (b"[]", b'{"commands":{}}', b'{"commands":[1]}', b'{"commands":[],"x":1}'):
        assert (await backend.send("/api/batch", content)).status == 400


HALF = "\\ud800"


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("publish", f'{{"channel":"room:a","data":"{HALF}"}}'),
        ("publish", f'{{"channel":"room:{HALF}","data":1}}'),
        ("publish", f'{{"channel":"room:a","data":{{"{HALF.upper().replace("U", "u")}":1}}}}'),
        ("publish", f'{{"channel":"room:a","data":1,"idempotency_key":"{HALF}"}}'),
        ("publish", f'{{"channel":"room:a","data":1,"tags":{{"a":"{HALF}"}}}}'),
        ("broadcast", f'{{"channels":["room:a","room:{HALF}"],"data":1}}'),
        ("history", f'{{"channel":"room:{HALF}","limit":1}}'),
        ("subscribe", f'{{"user":"x","channel":"room:a","info":"{HALF}"}}'),
        ("disconnect", f'{{"user":"x","disconnect":{{"code":4001,"reason":"{HALF}"}}}}'),
        ("batch", f'{{"commands":[{{"publish":{{"channel":"room:a","data":"{HALF}"}}}}]}}'),
    ],
)
async def test_half_a_character_is_400(backend: Backend, method: str, body: str) -> None:
    """What no UTF-8 can hold would fail where it is written, and take the publishes of others along."""
    answer = await backend.send(f"/api/{method}", body.encode())
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    whole = body.replace(HALF, "\\ud83d\\ude00").replace("\\uD800", "x")
    assert (await backend.send(f"/api/{method}", whole.encode())).status == 200


async def test_without_channels_everything_is_108(empty: Backend) -> None:
    assert await empty.code("info") == NOT_AVAILABLE
    assert await empty.code("publish", {"channel": "room:a", "data": 1}) == NOT_AVAILABLE
    assert (await empty.send("/api/info", key="wrong")).status == 401


async def test_without_the_key_no_body_is_waited_for(backend: Backend) -> None:
    assert (await backend.send("/api/info", key="wrong", hang=True)).status == 401


async def test_health_is_asked_for_without_a_key(backend: Backend) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await backend.client.send("GET", path, [("host", "localhost")])).status == 200
