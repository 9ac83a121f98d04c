"""What applications write: refused when it is declared, if the server could not call it, or never would."""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from sockade import Length, Message, Sockade
from sockade.assembly import declare_channels
from sockade.errors import RejectedError, SettingsError, UsageError
from sockade.guard.identity import Identity
from sockade.protocol.codec import convert
from sockade.settings import ChannelSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade import Connection

PATTERN = "room:{name}"


async def endpoint_callback(self: object, connection: Connection) -> None:
    """Do nothing."""


def right(self: object, identity: Identity, name: str) -> bool:
    return False


async def slow_right(self: object, identity: Identity, name: str) -> bool:
    return False


async def hook(self: object, connection: Connection, name: str) -> None:
    """Do nothing."""


def plain_hook(self: object, connection: Connection, name: str) -> None:
    """Do nothing."""


def right_without_the_name(self: object, identity: Identity) -> bool:
    return False


async def answer(connection: object, data: object) -> None:
    """Do nothing."""


def declare(**methods: Any) -> Sockade:
    app = Sockade()
    app.channel(PATTERN)(type("Room", (), methods))
    return app


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"may_subscribe": slow_right}, "may_subscribe of the channel 'room:{name}' is not awaited"),
        ({"may_subscibe": right}, "has may_subscibe, which nothing calls: did you mean may_subscribe"),
        ({"maySubscribe": right}, "did you mean may_subscribe"),
        ({"may_moderate": right}, "has may_moderate, which nothing asks; there are may_subscribe"),
        ({"may_publish": right_without_the_name}, r"may_publish .* must take \(identity, name\)"),
        ({"on_subscribe": plain_hook}, "is awaited: write it with async def"),
        ({"on_publish": hook}, r"must take \(connection, message, name\)"),
        ({"on_subscribed": hook}, "did you mean on_subscribe"),
        ({"may_subscribe": False}, "may_subscribe of the channel .* is False, which cannot be called"),
        ({"may_subscribe": None}, "has may_subscribe = None: write a function"),
        ({"may_subscribe": property(lambda self: self.nowhere)}, "has may_subscribe, which cannot be had: .*nowhere"),
        ({"may_subscribe": lambda self, identity, name: (yield)}, "may_subscribe .* yields, which nothing takes"),
        ({"on_subscribe": "x"}, "on_subscribe of the channel .* is 'x', which cannot be called"),
        ({"message": None, "__annotations__": {"message": str}}, "annotates message, which says nothing"),
        ({"messages": str}, "has messages, which nothing calls: did you mean message"),
        ({"Message": str}, "did you mean message"),
        ({"messages": []}, None),
        ({"on_timer": hook, "message": None, "helper": 1, "only": 2}, None),
        ({"may_subscribe": right, "may_publish": right, "on_subscribe": hook}, None),
    ],
)
def test_a_channel_is_refused_if_a_right_would_not_be_asked_as_it_was_meant(
    method: dict[str, Any], message: str | None
) -> None:
    if message is None:
        assert declare(**method).channels.declared
        return
    with pytest.raises(UsageError, match=message):
        declare(**method)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"on_open": hook}, "on_open of the endpoint at '/' must take"),
        ({"on_open": lambda self, connection: None}, "on_open .* is awaited: write it with async def"),
        ({"onOpen": endpoint_callback}, "has onOpen, which nothing calls: did you mean on_open"),
        ({"on_message": "x"}, "on_message of .* cannot be called"),
        ({"on_open": staticmethod(functools.partial(hook, None, name="a"))}, None),
        (
            {"on_open": staticmethod(functools.partial(plain_hook, None, name="a"))},
            "on_open .* is awaited: write it with async def",
        ),
        ({"on_open": endpoint_callback, "on_closed": endpoint_callback}, "did you mean on_close"),
        ({"on_open": endpoint_callback, "may_subscribe": right}, "nothing asks; there are on_open, on_message"),
    ],
)
def test_an_endpoint_is_refused_if_a_callback_could_not_be_called(methods: dict[str, Any], message: str | None) -> None:
    if message is None:
        Sockade().endpoint("/")(type("Chat", (), methods))
        return
    with pytest.raises(UsageError, match=message):
        Sockade().endpoint("/")(type("Chat", (), methods))


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def test_what_is_wrapped_is_called_as_what_it_wraps() -> None:
    app = Sockade()
    app.endpoint("/")(type("Chat", (), {"on_open": logged(endpoint_callback), "on_close": None}))
    assert app.endpoints["/"].on_open is not None
    assert app.endpoints["/"].on_close is None


def test_what_does_not_tell_what_it_takes_is_believed() -> None:
    class Room:
        may_publish = dict

    app = Sockade()
    app.channel("room")(Room)
    assert app.channels.declared


def test_functions_that_are_called_are_looked_at_too() -> None:
    app = Sockade()
    with pytest.raises(UsageError, match="what listens to 'news' is not awaited"):
        app.listen("news")(endpoint_callback)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"what takes messages must take \(connection, data\)"):
        app.on_send(slow_right)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the procedure 'add' is awaited"):
        app.rpc("add")(lambda connection, data: None)  # type: ignore[arg-type,return-value]


async def test_a_right_that_turns_out_to_be_asynchronous_permits_nobody() -> None:
    answer = asyncio.get_running_loop().create_future()
    match = declare(may_subscribe=lambda self, identity, name: answer).channels.find("room:a")
    assert match is not None
    with pytest.raises(UsageError, match="cannot be asynchronous"):
        match.may_subscribe(Identity("ada"))


@pytest.mark.parametrize(("answer", "expected"), [(True, True), (False, False), ({"a scope"}, True), ("", False)])
def test_a_right_answers_with_what_counts_as_yes_or_no(answer: object, expected: bool) -> None:
    match = declare(may_publish=lambda self, identity, name: answer).channels.find("room:a")
    assert match is not None
    assert match.may_publish(Identity("ada")) is expected


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        (type("Room", (), {}), {}, "declared with its pattern"),
        ("room:{other}", {}, "declared already"),
        ("news", {"history": 5}, r"is not a History\(size, ttl\)"),
        ("news", {"join_leave": "users"}, "join_leave of the channel 'news' is not"),
        ("news", {"messages_per_second": 0}, "would let nobody publish"),
        ("news", {"messages_per_second": 1, "message_burst": 0}, "would let nobody publish"),
    ],
)
def test_a_channel_that_cannot_be_what_is_said_of_it_is_refused(
    pattern: Any, options: dict[str, Any], message: str
) -> None:
    app = declare()
    with pytest.raises(UsageError, match=message):
        app.channel(pattern, **options)(type("Other", (), {}))


def test_a_type_that_nothing_can_be_read_as_is_refused() -> None:
    with pytest.raises(UsageError, match=r"message of the channel .* is no type"):
        declare(message=5)
    with pytest.raises(UsageError, match="message of the endpoint at '/' is no type"):
        Sockade().endpoint("/", message={})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="declared with its path"):
        Sockade().endpoint(dict)  # type: ignore[arg-type]


class Alien:
    """What no JSON is read as."""


class Nested(Message):
    """It contains itself, what may be anything, and what nothing is read as."""

    aliens: list[Alien]
    inner: Nested | None = None
    anything: object = Alien()


@pytest.mark.parametrize("takes", [Alien, list[Alien], Nested])
def test_a_type_within_which_nothing_can_be_read_is_refused(takes: type) -> None:
    with pytest.raises(UsageError, match=r"message of the channel .*: nothing in JSON is a Alien"):
        declare(message=takes)

    async def answer(connection: Connection, data: Any) -> None:
        """Do nothing."""

    answer.__annotations__["data"] = takes
    with pytest.raises(UsageError, match=r"what the procedure 'add' takes is no type .*: nothing in JSON is a Alien"):
        Sockade().rpc("add")(answer)


def test_a_procedure_takes_what_it_is_annotated_with_however_it_is_written() -> None:
    async def adds(store: object, connection: Connection, data: Annotated[str, Length(1, 9)]) -> None:
        """Do nothing."""

    async def everything(*arguments: Any) -> None:
        """Do nothing."""

    async def unknown(connection: object, data: Connection) -> None:
        """Do nothing."""

    app = Sockade()
    app.rpc("partial")(functools.partial(adds, object()))
    app.rpc("wrapped")(logged(functools.partial(adds, object())))
    app.rpc("everything")(everything)
    with pytest.raises(UsageError, match=r"the type of 'data' must be importable .*'Connection'"):
        app.rpc("unknown")(unknown)
    assert app.procedures["partial"].takes == Annotated[str, Length(1, 9)]
    assert app.procedures["wrapped"].takes == Annotated[str, Length(1, 9)]
    assert app.procedures["everything"].takes is Any
    assert not app.procedures.keys() & {"unknown"}


def test_annotations_that_only_type_checkers_know_are_left_alone() -> None:
    names: dict[str, Any] = {}
    # From 3.14 on they are evaluated when somebody asks for them, and before it is as if they were texts.
    source = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    source += "async def answer(connection: Missing, data: int): ...\ndef heard(data: Missing): ..."
    exec(compile(source, "application.py", "exec", dont_inherit=True), names)
    app = Sockade()
    app.rpc("add")(names["answer"])
    assert app.procedures["add"].takes is int
    with pytest.raises(UsageError, match=r"must take \(data, user\)"):
        app.listen("news")(names["heard"])


def test_one_function_listens_to_a_channel() -> None:
    app = Sockade()
    app.listen("news")(lambda data, user: None)
    with pytest.raises(UsageError, match="listens to 'news' already"):
        app.listen("news")(lambda data, user: None)


def test_who_listens_to_a_channel_that_is_not_there_is_told_at_the_start() -> None:
    app = declare()
    app.listen("room:a")(lambda data, user: None)
    app.listen("news")(lambda data, user: None)
    with pytest.raises(SettingsError, match="listen: no channel 'news' is declared"):
        declare_channels(Settings(), app)
    declare_channels(Settings(channels={"news": ChannelSettings()}), app)


class Nobody(set[str]):
    """A right that is as good as false, for it is empty."""

    def __call__(self, identity: Identity, name: str) -> bool:
        return identity.user in self


def test_a_right_that_looks_false_is_asked_all_the_same() -> None:
    match = declare(may_subscribe=Nobody(), may_publish=Nobody({"ada"})).channels.find("room:a")
    assert match is not None
    assert not match.may_subscribe(Identity("ada"))
    assert match.may_publish(Identity("ada"))


@pytest.mark.parametrize("answer", [NotImplemented, iter("a"), (one for one in "a")])
async def test_a_right_that_answers_with_neither_permits_nobody(answer: object) -> None:
    match = declare(may_subscribe=lambda self, identity, name: answer).channels.find("room:a")
    assert match is not None
    with pytest.raises(UsageError, match="is neither yes nor no"):
        match.may_subscribe(Identity("ada"))


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ("room:{name}", "room:admin", False),
        ("room:{name}", "room:a{name}", False),
        ("{a}:{b}", "room:{name}", False),
        ("room:{name}", "room:{name}:{other}", True),
        ("room:admin", "room:{name}", True),
        ("room:a{name}", "room:{name}", True),
        ("room:{name}", "rooms:{name}", True),
    ],
)
def test_a_channel_that_another_hides_is_refused(first: str, second: str, reached: bool) -> None:
    """Its rights would never be asked, for those of the other are."""
    app = Sockade()
    app.channel(first)(type("First", (), {}))
    if reached:
        app.channel(second)(type("Second", (), {}))
        return
    with pytest.raises(UsageError, match=r"would never be reached: .* fits all its names; declare it first"):
        app.channel(second)(type("Second", (), {}))
    with pytest.raises(SettingsError, match=r"channels\.admin: .* would never be reached"):
        declare_channels(Settings(channels={"admin": ChannelSettings(pattern=second)}), app)


def test_a_personal_channel_is_one_of_users_with_a_colon_too() -> None:
    app = Sockade()
    app.channel("of:{user}", personal=True)(type("Personal", (), {}))
    with pytest.raises(UsageError, match="would never be reached"):
        app.channel("of:{issuer}:{name}")(type("Second", (), {}))


@pytest.mark.parametrize("name", ["cafe\u0301", "a\u200fb", "a\x00b"])
def test_what_no_client_could_name_is_not_declared(name: str) -> None:
    """What clients say is put into NFC: they would be told that there is no such channel, and no such procedure."""
    app = Sockade()
    with pytest.raises(UsageError, match=r"no client could name the channel .* NFC"):
        app.channel(name)(type("Room", (), {}))

    async def answer(connection: Connection, data: object) -> None: ...

    with pytest.raises(UsageError, match=r"no client could call the procedure .* NFC"):
        app.rpc(name)(answer)


def test_a_personal_channel_has_no_right_to_hear_it_that_would_not_be_asked() -> None:
    handler = type("Personal", (), {"may_subscribe": lambda self, identity, user: identity.role == "admin"})
    with pytest.raises(UsageError, match="without asking, so leave may_subscribe out"):
        Sockade().channel("of:{user}", personal=True)(handler)


@pytest.mark.parametrize("name", ["self", "identity", "connection", "message"])
def test_a_variable_is_not_called_like_what_methods_get_anyway(name: str) -> None:
    with pytest.raises(UsageError, match=f"calls a variable {name}"):
        Sockade().channel(f"room:{{{name}}}")(type("Room", (), {}))


def test_a_declaration_that_nothing_would_come_of_is_refused() -> None:
    app = Sockade()
    app.on_send(answer)
    for declared, message in (
        (lambda: app.endpoint("/connection/websocket"), "the channel protocol is spoken at"),
        (lambda: app.channel("room")(right), "is declared by a class, and not by the function right"),
        (lambda: app.channel("room", messages_per_second="5"), "messages_per_second .* is no number"),
        (lambda: app.channel("room", messages_per_second=5, message_burst=1.5), "message_burst .* is no whole number"),
        (lambda: app.rpc(answer), r'write @app\.rpc\("name"\)'),
        (lambda: app.listen(answer), r'write @app\.listen\("news"\)'),
        (lambda: app.listen(PATTERN), "one channel is listened to, and not all that fit a pattern"),
        (lambda: app.on_send(answer), "something that takes messages already"),
        (lambda: app.broadcast("/connection/websocket", "x"), "hear channels"),
    ):
        with pytest.raises(UsageError, match=message):
            declared()


def test_nothing_is_declared_once_the_server_is_put_together() -> None:
    app = declare()
    declare_channels(Settings(), app)
    for declared in (
        lambda: app.endpoint("/"),
        lambda: app.channel("a"),
        lambda: app.rpc("a"),
        lambda: app.listen("a"),
    ):
        with pytest.raises(UsageError, match="must be declared before"):
            declared()
    with pytest.raises(UsageError, match="must be declared before"):
        app.on_send(answer)


def test_a_pattern_that_can_be_made_to_take_for_ever_is_refused() -> None:
    """Those of a JSON Schema are matched in linear time; those of types are not."""
    say = Annotated[str, msgspec.Meta(pattern=r"^([a-z]+)*$")]
    with pytest.raises(UsageError, match=r"the pattern .* may take a stranger's text for ever"):
        Sockade().endpoint("/", message=list[say])  # type: ignore[valid-type,arg-type]
    with pytest.raises(UsageError, match=r"a msgspec\.Raw is not read at all"):
        Sockade().endpoint("/", message=msgspec.Raw)


def test_keys_are_read_as_json_has_them() -> None:
    assert convert({"1": 2}, dict[int, int]) == {1: 2}


@pytest.mark.parametrize(
    "bad", [("text", "400"), ("text", None), ("text", True), ("text", 0), ("text", 2000), (1, 400)]
)
def test_an_error_for_clients_has_a_text_and_a_number(bad: tuple[Any, Any]) -> None:
    assert RejectedError("text", 400).code == 400
    with pytest.raises(UsageError, match="of a RejectedError is a"):
        RejectedError(*bad)
