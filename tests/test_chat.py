"""The built-in chat from outside: its rooms, and the plain endpoint that stands with one foot in the lobby."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sockade.chat import HISTORY, ROOM, TEXT_CHARACTERS
from tests.member import LOBBY, member
from tests.running import ROOMY

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tests.running import RunningServer, Start

DENIED = {"code": 103, "message": "permission denied"}


@pytest.fixture
def server(start: Start) -> RunningServer:
    """The built-in chat, for those who ask much in little time."""
    return start(f"[limits]\n{ROOMY}")


@pytest.fixture
async def tokens(server: RunningServer) -> tuple[str, str]:
    return await asyncio.to_thread(server.token, "ada"), await asyncio.to_thread(server.token, "bob")


async def is_silent(client: ClientConnection) -> bool:
    try:
        await asyncio.wait_for(client.recv(), 0.3)
    except TimeoutError:
        return True
    return False


async def test_a_room_says_who_speaks_who_is_here_and_what_was_said(
    server: RunningServer, tokens: tuple[str, str]
) -> None:
    async with member(server, tokens[0], LOBBY) as ada:
        async with member(server, tokens[1], LOBBY) as bob:
            assert (await ada.hear("join"))["info"]["user"] == "bob"
            present = (await ada.ask("presence", channel=LOBBY))["presence"]
            assert sorted(info["user"] for info in present.values()) == ["ada", "bob"]
            assert await bob.say("hi") == {}
            heard = await ada.hear("pub")
            assert (heard["data"], heard["info"]["user"], heard["offset"]) == ({"text": "hi"}, "bob", 1)
        assert (await ada.hear("leave"))["info"]["user"] == "bob"
        kept = await ada.ask("history", channel=LOBBY, limit=HISTORY.size)
        assert [pub["data"]["text"] for pub in kept["publications"]] == ["hi"]


async def test_what_is_said_in_plain_text_is_said_in_the_lobby_by_whoever_said_it(
    server: RunningServer, tokens: tuple[str, str]
) -> None:
    async with (
        member(server, tokens[0], LOBBY, "room:other") as ada,
        server.connect(token=tokens[1]) as bob,
        server.connect(token=tokens[0]) as plain,
    ):
        await bob.send("from outside")
        heard = await ada.hear("pub")
        assert heard["data"] == {"text": "from outside", "from": "bob"}
        assert "info" not in heard
        # Relayed once, and not by way of the lobby a second time.
        assert await plain.recv() == "from outside"
        assert await is_silent(plain)
        assert await is_silent(bob)


async def test_what_is_said_in_the_lobby_is_heard_in_plain_text_and_other_rooms_are_not(
    server: RunningServer, tokens: tuple[str, str]
) -> None:
    async with member(server, tokens[0], LOBBY, "room:other") as ada, server.connect(token=tokens[1]) as bob:
        await ada.say("elsewhere", "room:other")
        await ada.say("from the lobby")
        assert await bob.recv() == "from the lobby"
        assert await is_silent(bob)


async def test_plain_texts_of_any_length_and_of_nothing_are_relayed_and_the_lobby_gets_what_it_takes(
    server: RunningServer, tokens: tuple[str, str]
) -> None:
    async with (
        member(server, tokens[0], LOBBY) as ada,
        server.connect(token=tokens[1]) as bob,
        server.connect(token=tokens[0]) as plain,
    ):
        for text in (" ", "x" * (TEXT_CHARACTERS + 1)):
            await bob.send(text)
            assert await plain.recv() == text
        assert (await ada.hear("pub"))["data"]["text"] == "x" * TEXT_CHARACTERS


async def test_nobody_can_speak_for_another_in_the_lobby(server: RunningServer, tokens: tuple[str, str]) -> None:
    async with member(server, tokens[0], LOBBY) as ada, member(server, tokens[1], LOBBY) as bob:
        assert (await bob.ask("publish", channel=LOBBY, data={"text": "a lie", "from": "ada"}))["error"]["code"] == 107
        assert await bob.say("true") == {}
        assert (await ada.hear("pub"))["data"] == {"text": "true"}


NO_ROOMS = ["Lobby", "-", "a-", "x" * 33, "a b", "lobby.", "l\u00f6bby", "l\u043ebby", "a:b", "../lobby", "<b>"]


async def test_only_names_of_which_no_two_look_alike_are_rooms(server: RunningServer, tokens: tuple[str, str]) -> None:
    for name in NO_ROOMS:
        assert ROOM.fullmatch(name) is None
        channel = f"room:{name}"
        async with member(server, tokens[0]) as ada:
            for answer in (
                await ada.ask("subscribe", channel=channel),
                await ada.say("hi", channel),
                await ada.ask("history", channel=channel),
                await ada.ask("presence", channel=channel),
            ):
                assert answer["error"] == DENIED, name


TEXTS = [
    ({"text": "x" * TEXT_CHARACTERS}, True),
    # Counted in characters, not in the units of UTF-16.
    ({"text": "\U0001f98a" * TEXT_CHARACTERS}, True),
    ({"text": "hi", "ref": "x" * 36}, True),
    ({"text": "x" * (TEXT_CHARACTERS + 1)}, False),
    ({"text": ""}, False),
    ({"text": 1}, False),
    ({"text": "hi", "ref": "x" * 37}, False),
    ("hi", False),
    (None, False),
]


async def test_a_room_takes_texts_and_nothing_else(server: RunningServer, tokens: tuple[str, str]) -> None:
    async with member(server, tokens[0], LOBBY) as ada:
        for data, fits in TEXTS:
            answer = await ada.ask("publish", channel=LOBBY, data=data)
            assert answer == {} if fits else answer["error"]["code"] == 107, data
