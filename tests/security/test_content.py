"""Cases 64 to 66 and 68: what a message may hold. Case 67 needs a browser: tests/e2e/test_page.py."""

from __future__ import annotations

import asyncio
import json
import math
import time
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from sockade import Sockade
from sockade.errors import UsageError
from sockade.guard.messages import MessageRules, Rates, Reject, Standing, decide
from sockade.guard.rates import Bucket
from sockade.guard.schemas import compile_schema
from sockade.guard.text import skeleton
from sockade.identity.names import parse_name
from sockade.protocol.codec import DecodeError, parse
from sockade.settings import LimitSettings
from tests.member import LOBBY, member
from tests.running import PASSWORD, ROOMY

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start
    from tests.security.report import Observe

APP = """
from pathlib import Path

import msgspec

from sockade import Connection, Sockade

app = Sockade()

class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    count: int = 0
    size: float = 0
    more: list = []

class Echo:
    async def on_message(self, connection: Connection, message: object) -> None:
        connection.send(msgspec.json.encode(message).decode())

app.endpoint("/")(Echo)
app.endpoint("/typed", message=Say)(Echo)
app.endpoint("/schema", schema=Path(__file__).parent / "schema.json")(Echo)
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "pattern": "^(a+)+$"},
        "mail": {"type": "string", "pattern": "^([a-zA-Z0-9]+\\.?)*@x$"},
        "count": {"type": "integer", "minimum": 0},
    },
    "additionalProperties": False,
}
BUDGET = 1_000


@pytest.fixture
def served(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = tmp_path_factory.mktemp("app")
    (folder / "content_under_test.py").write_text(APP)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    config = f"[limits]\n{ROOMY}violations_per_minute = {BUDGET}\n"
    return start(config, "content_under_test:app", module_path=str(folder))


async def answer(client: ClientConnection, message: str) -> Any:
    """Send one message and return the answer; a rejection comes as a control message."""
    await client.send(message)
    return json.loads(await asyncio.wait_for(client.recv(), 10))


def rejected(reason: str) -> dict[str, dict[str, str]]:
    return {"sockade": {"rejected": reason}}


BAD = {
    "not JSON": "hi",
    "nothing": "",
    "another type": "[]",
    "a field of another type": '{"text":1}',
    "a missing field": "{}",
    "an unknown field": '{"text":"a","other":1}',
    "__proto__": '{"text":"a","__proto__":{"role":"admin"}}',
    "constructor": '{"text":"a","constructor":{"prototype":{}}}',
    "a duplicate key": '{"text":"a","text":"b"}',
    "a duplicate key behind an escape": '{"text":"a","t\\u0065xt":"b"}',
    "NaN": '{"text":"a","size":NaN}',
    "Infinity": '{"text":"a","size":-Infinity}',
    "a float over all floats": '{"text":"a","size":1e400}',
    "an integer of 60,000 digits": '{"text":"a","count":' + "9" * 60_000 + "}",
    "an integer over 64 bits": '{"text":"a","count":18446744073709551616}',
    "33 levels": '{"text":"a","more":' + "[" * 33 + "]" * 33 + "}",
    "60,000 levels": "[" * 60_000,
    "30,000 levels closed": "[" * 30_000 + "]" * 30_000,
    "10,000 objects deep": '{"a":' * 10_000,
    "10,000 unknown keys": "{" + ",".join(f'"k{number}":0' for number in range(5_000)) + "}",
    "half an escape": '{"text":"\\ud800"}',
    "a trailing comma": '{"text":"a",}',
    "a comment": '{"text":"a"/**/}',
    "single quotes": "{'text':'a'}",
    "two values": '{"text":"a"}{"text":"b"}',
}


async def test_what_is_not_of_the_type_is_rejected_and_the_connection_stays(served: RunningServer) -> None:
    """Case 64."""
    token = await asyncio.to_thread(served.token)
    async with served.connect("/typed", token=token, subprotocols=["sockade"]) as client:
        for name, message in BAD.items():
            expected = "text_forbidden" if name == "half an escape" else "bad_request"
            assert await answer(client, message) == rejected(expected), name
        assert (await answer(client, '{"text":"good"}'))["text"] == "good"


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    count: int = 0
    size: float = 0
    more: list[Any] = []


def judge(message: str, rules: MessageRules) -> tuple[Any, float]:
    """Return what is decided about a message, and the fewest milliseconds of CPU that it took in five tries."""
    limits = LimitSettings(violations_per_minute=BUDGET)
    took = []
    for _ in range(5):
        rates = Rates.of(limits)
        standing = Standing(rates, Bucket(rates.user), Bucket(rates.total))
        began = time.thread_time()
        found = decide(message, rules, standing, math.inf, 0.0)
        took.append(time.thread_time() - began)
    return found, min(took) * 1_000


def test_every_bad_message_is_rejected_in_under_5_ms(observe: Observe) -> None:
    """Case 64."""
    took = {}
    # A long text goes another way, and blanks at its end mean nothing.
    long = {f"{name}, and blanks": message + " " * 2_000 for name, message in BAD.items()}
    for name, message in (BAD | long).items():
        found, took[name] = judge(message, MessageRules(shape=Say))
        assert isinstance(found, Reject), name
    slowest = max(took, key=lambda name: took[name])
    observe("under 5 ms", f"{took[slowest]:.2f} ms at most, for {slowest}; {len(BAD)} kinds")
    assert took[slowest] < 5


async def test_a_client_cannot_say_who_it_is_when_it_was_or_what_its_role_is(server: RunningServer) -> None:
    """Case 65."""
    ada, bob = await asyncio.to_thread(server.token, "ada"), await asyncio.to_thread(server.token, "bob")
    async with member(server, ada, LOBBY) as hearer, member(server, bob, LOBBY) as liar:
        claims: list[dict[str, Any]] = [
            {"from": "ada"},
            {"at": 0},
            {"time": 0},
            {"role": "admin"},
            {"info": {"user": "ada"}},
        ]
        for claim in claims:
            assert (await liar.say("a lie", **claim))["error"]["code"] == 107
        began = time.time()
        assert await liar.say("true") == {}
        heard = await hearer.hear("pub")
        assert (heard["data"], heard["info"]["user"]) == ({"text": "true"}, "bob")
        assert began - 1 < heard["time"] / 1000 < time.time() + 1
    # Beside the data there is no place for it either: the command itself would be malformed.
    async with member(server, bob, LOBBY) as liar:
        with pytest.raises(ConnectionClosed):
            await liar.ask("publish", channel=LOBBY, data={"text": "a lie"}, info={"user": "ada"})
        assert liar.client.close_code == 3501


FORBIDDEN = [
    "a\x00b",
    "\x1b[31mred",
    "\x07",
    "\x7f",
    "\x9b",
    "\u202eabc",
    "\u2066x",
    "\u200e",
    "\u2028",
    "\ufeff",
    "\U000e0041",
]


async def test_characters_that_deceive_are_rejected_raw_or_escaped_and_text_is_in_nfc(served: RunningServer) -> None:
    """Case 66."""
    token = await asyncio.to_thread(served.token)
    async with (
        served.connect("/", token=token, subprotocols=["sockade"]) as plain,
        served.connect("/typed", token=token, subprotocols=["sockade"]) as typed,
        served.connect("/schema", token=token, subprotocols=["sockade"]) as schema,
    ):
        for text in FORBIDDEN:
            assert await answer(plain, text) == rejected("text_forbidden"), repr(text)
            # json.dumps writes every one of them as an escape.
            assert await answer(typed, json.dumps({"text": text})) == rejected("text_forbidden"), repr(text)
            assert await answer(schema, json.dumps({text: 1})) == rejected("text_forbidden"), repr(text)
            nested = json.dumps({"text": "", "more": [[{"a": text}]]})
            assert await answer(typed, nested) == rejected("text_forbidden"), repr(text)
        assert await answer(plain, "e\u0301") == "\u00e9"
        assert (await answer(typed, '{"text":"e\\u0301"}'))["text"] == "\u00e9"
        assert await answer(schema, '{"word":"\\u0061"}') == {"word": "a"}
        # Two keys that become one in normal form are a duplicate.
        assert await answer(schema, '{"\\u00e9":1,"e\\u0301":2}') == rejected("text_forbidden")
        assert (await answer(typed, '{"text":"a\\nb\\tc","more":[null]}'))["text"] == "a\nb\tc"


HIDDEN_IN_NAMES = [
    *FORBIDDEN,
    "\u200b",
    "\u200c",
    "\u200d",
    "\u2060",
    "\u00ad",
    "\u3164",
    "\u115f",
    "\ufe0f",
    "\u034f",
    " ",
    "\u00a0",
]


def test_nothing_invisible_is_part_of_a_name(observe: Observe) -> None:
    """Case 66."""
    tried = [pattern.format(text) for text in HIDDEN_IN_NAMES for pattern in ("{}ada", "a{}da", "ada{}")]
    accepted = [name for name in tried if parse_name(name) is not None]
    observe(f"0 of {len(tried)} names with hidden characters accepted", str(len(accepted)))
    assert accepted == []


@pytest.mark.parametrize("name", ["a\u202eda", "a\u200bda", "\x1b[31m"])
def test_a_name_that_hides_something_is_refused_at_the_command_line(server: RunningServer, name: str) -> None:
    """Case 66."""
    words = ("user", "add", name, "--password-stdin", "--data-dir", str(server.data_dir))
    done = server.command(*words, stdin="correct horse battery")
    assert done.returncode != 0
    assert name not in done.stdout + done.stderr


ALIKE = [
    ("paypal", "раураl"),  # Cyrillic
    ("ada", "Ada"),
    ("ada", "ａｄａ"),  # full width
    ("alice", "aIice"),
    ("alice", "a1ice"),
    ("bob", "b0b"),
    ("modern", "modem"),
    ("hob", "НОВ"),  # Cyrillic capitals
    ("oxo", "οхо"),  # Greek and Cyrillic
    ("file", "\ufb01le"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    """Case 66."""
    assert unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", other)
    assert skeleton(one) == skeleton(other)
    assert skeleton(skeleton(one)) == skeleton(one)


def test_names_that_do_not_look_alike_have_another_skeleton() -> None:
    """Case 66."""
    names = [
        "ada",
        "bob",
        "grace",
        "mary",
        "marie",
        "иван",
        "мария",
        "Ελένη",
        "王伟",
        "محمد",
        "user2",
        "user3",
        "anne",
        "ann",
    ]
    assert len({skeleton(name) for name in names}) == len(names)


def test_who_signs_up_cannot_look_like_somebody_who_is_there(server: RunningServer, observe: Observe) -> None:
    """Case 66."""
    link = server.panel.partition("#link=")[2].split()[0]
    server.add_user("paypal")
    done = server.command(
        "user", "add", "раураl", "--password-stdin", "--data-dir", str(server.data_dir), stdin=PASSWORD
    )
    assert done.returncode == 2
    assert "looks the same" in done.stderr

    def redeem(name: str) -> int:
        body = {"link": link, "username": name}
        return server.http("POST", "/auth/login", body, {"Origin": server.origin}).status

    alike = ["PAYPAL", "раураl", "paypaI", "ｐａｙｐａｌ", "pаypal"]
    refused = [redeem(name) for name in alike]
    observe(f"{len(alike)} of {len(alike)} look-alikes of a user refused at sign-up", str(refused.count(409)))
    assert refused == [409] * len(alike)
    # Neither does one of them sign in as the other.
    guess = {"username": "раураl", "password": PASSWORD}
    assert server.http("POST", "/auth/login", guess, {"Origin": server.origin}).status == 401
    assert redeem("paypet") == 200


async def test_a_pattern_that_would_backtrack_for_ever_is_answered_at_once(
    served: RunningServer, observe: Observe
) -> None:
    """Case 68."""
    token = await asyncio.to_thread(served.token)
    async with served.connect("/schema", token=token, subprotocols=["sockade"]) as client:
        slowest = 0.0
        for bad in ({"word": "a" * 60_000 + "!"}, {"mail": "a" * 60_000 + "!"}, {"count": -1}, {"other": 1}, [], 1):
            began = time.perf_counter()
            assert await answer(client, json.dumps(bad)) == rejected("bad_request")
            slowest = max(slowest, time.perf_counter() - began)
        good = {"word": "a" * 60_000, "count": 3}
        assert await answer(client, json.dumps(good)) == good
    observe("answered within 0.5 s", f"60,000 characters against (a+)+$: {slowest * 1_000:.0f} ms with the round trip")
    assert slowest < 0.5


def test_the_schema_s_check_is_under_5_ms(observe: Observe) -> None:
    """Case 68."""
    rules = MessageRules(schema=compile_schema(json.dumps(SCHEMA)))
    took = 0.0
    for bad in ({"word": "a" * 60_000 + "!"}, {"mail": "a" * 60_000 + "!"}):
        found, milliseconds = judge(json.dumps(bad), rules)
        assert isinstance(found, Reject)
        took = max(took, milliseconds)
    observe("under 5 ms", f"{took:.2f} ms")
    assert took < 5


@pytest.mark.parametrize(
    "schema",
    [
        '{"$ref":"http://127.0.0.1:9/x.json"}',
        '{"$ref":"https://127.0.0.1:9/x.json"}',
        '{"$ref":"file:///etc/passwd"}',
        '{"$ref":"other.json"}',
        '{"$dynamicRef":"http://127.0.0.1:9/x#m"}',
        '{"$schema":"http://127.0.0.1:9/draft","type":"string"}',
        '{"pattern":"^(?=a)"}',
        '{"pattern":"(a)\\\\1"}',
        '{"pattern":"(a{1000}){1000}"}',
        '{"type":"nonsense"}',
        '{"type":"string","type":"number"}',
        "nonsense",
        "[]",
    ],
)
def test_a_schema_that_reaches_out_or_needs_backtracking_is_refused_at_the_start(tmp_path: Path, schema: str) -> None:
    """Case 68."""
    (tmp_path / "schema.json").write_text(schema)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match=r"schema\.json"):
        Sockade().endpoint("/", schema=tmp_path / "schema.json")


def test_a_schema_does_not_read_another_file_though_it_is_there_and_fits(tmp_path: Path) -> None:
    """Case 68."""
    (tmp_path / "other.json").write_text('{"type":"string"}')
    (tmp_path / "schema.json").write_text(json.dumps({"$ref": (tmp_path / "other.json").as_uri()}))
    with pytest.raises(UsageError, match=r"schema\.json"):
        Sockade().endpoint("/", schema=tmp_path / "schema.json")


def test_an_integer_is_judged_by_its_digits_before_it_is_read() -> None:
    """Case 64."""
    with pytest.raises(DecodeError, match="integer too large"):
        parse("9" * 60_000)


def test_references_within_the_schema_are_followed_and_do_not_go_round() -> None:
    """Case 68."""
    tree = compile_schema('{"$ref":"#/$defs/t","$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}}}')
    assert tree.accepts([[], [[]]])
    assert not tree.accepts([[1]])
    assert isinstance(compile_schema('{"$ref":"#"}').accepts(1), bool)


def test_message_and_schema_together_or_a_missing_file_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both"):
        Sockade().endpoint("/", message=Say, schema=tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        Sockade().endpoint("/", schema=tmp_path / "missing.json")
