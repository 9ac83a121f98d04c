"""Commands of the channel protocol: what SDKs send is understood, all else is an error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.commands import read_commands
from sockade.protocol.codec import DecodeError
from sockade.protocol.commands import (
    COMMANDS_A_MESSAGE,
    Command,
    Connect,
    History,
    Publish,
    Send,
    StreamPosition,
    Subscribe,
)


def test_several_commands_travel_in_one_message() -> None:
    connect, subscribe, pong = read_commands(
        '{"id":1,"connect":{"token":"t","name":"js"}}\n{"id":2,"subscribe":{"channel":"a","recover":true}}\n{}'
    )
    assert connect.body == Connect(token="t", name="js")
    assert subscribe.body == Subscribe("a", recover=True)
    assert pong == Command()
    assert pong.body is None


def test_a_trailing_line_feed_is_no_command() -> None:
    assert read_commands('{"send":{"data":1}}\n') == [Command(send=Send(1))]


def test_fields_of_features_that_are_not_offered_are_ignored() -> None:
    text = '{"id":1,"subscribe":{"channel":"a","delta":"fossil","flag":1,"tf":{},"type":0}}'
    assert isinstance(read_commands(text)[0].body, Subscribe)


def test_history_asks_for_a_position() -> None:
    text = '{"id":3,"history":{"channel":"a","limit":10,"since":{"offset":5,"epoch":"e"},"reverse":true}}'
    assert read_commands(text)[0].body == History("a", 10, StreamPosition(5, "e"), reverse=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "[]",
        "null",
        "1",
        '{"id":1,"unknown":{}}',
        '{"id":1,"publish":{"channel":"a"}}',
        '{"id":1,"publish":{"channel":"a","data":1,"user":"eve"}}',
        '{"id":1,"publish":{"channel":"","data":1}}',
        '{"id":1,"subscribe":{"channel":"%s"}}' % ("a" * 256),
        '{"id":1,"subscribe":{"channel":"a"},"publish":{"channel":"a","data":1}}',
        '{"subscribe":{"channel":"a"}}',
        '{"id":-1,"ping":{}}',
        '{"id":"1","ping":{}}',
        '{"id":1,"id":2,"ping":{}}',
        '{"id":1,"publish":{"channel":"a","data":{"x":1,"x":2}}}',
        '{"id":1,"publish":{"channel":"a","data":NaN}}',
        '{"id":1,"history":{"channel":"a","since":{"offset":-1}}}',
        "{}\n" * (COMMANDS_A_MESSAGE + 1),
    ],
)
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(DecodeError):
        read_commands(text)


def test_every_body_is_found_under_its_name() -> None:
    assert read_commands('{"id":1,"publish":{"channel":"a","data":{"x":[1]}}}')[0].body == Publish("a", {"x": [1]})


@given(st.text(max_size=100))
def test_decoding_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(DecodeError):
        read_commands(text)
