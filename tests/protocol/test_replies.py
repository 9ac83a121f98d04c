"""Replies and pushes, as SDKs read them."""

from __future__ import annotations

import json

import msgspec
import pytest

from sockade.protocol.replies import (
    MESSAGES,
    ClientInfo,
    ConnectResult,
    DisconnectCode,
    Empty,
    ErrorCode,
    Pub,
    RpcResult,
    SubscribeResult,
    encode_push,
    encode_reply,
    error,
)

DATA = msgspec.Raw(b'{"text":"hi"}')


def test_empty_fields_are_left_out() -> None:
    assert json.loads(encode_reply(1, "connect", ConnectResult("c", "1", ping=25, pong=True))) == {
        "id": 1,
        "connect": {"client": "c", "version": "1", "ping": 25, "pong": True},
    }
    assert encode_reply(2, "unsubscribe", Empty()) == b'{"id":2,"unsubscribe":{}}'


def test_an_error_takes_the_place_of_the_result() -> None:
    assert json.loads(encode_reply(3, "publish", error(ErrorCode.TOO_MANY_REQUESTS))) == {
        "id": 3,
        "error": {"code": 111, "message": "too many requests", "temporary": True},
    }


def test_every_error_has_its_message() -> None:
    assert set(MESSAGES) == set(ErrorCode)


def test_data_travels_as_it_was_published() -> None:
    assert encode_push("pub", Pub(DATA, offset=7), "room") == (
        b'{"push":{"channel":"room","pub":{"data":{"text":"hi"},"offset":7}}}'
    )
    assert encode_push("join", {"info": ClientInfo("ada", "c1", chan_info=DATA)}, "room") == (
        b'{"push":{"channel":"room","join":{"info":{"user":"ada","client":"c1","chan_info":{"text":"hi"}}}}}'
    )
    assert encode_push("disconnect", {"code": 3001}) == b'{"push":{"disconnect":{"code":3001}}}'


def test_no_line_feed_parts_what_an_application_gives_as_json_already() -> None:
    """SDKs take a message apart at its line feeds: half an object would end the connection."""
    pretty = msgspec.Raw(b'{\n  "text": "hi\\n"\n}')
    assert encode_reply(1, "rpc", RpcResult(pretty)) == b'{"id":1,"rpc":{"data":{"text":"hi\\n"}}}'
    assert encode_push("pub", Pub(pretty), "room") == (b'{"push":{"channel":"room","pub":{"data":{"text":"hi\\n"}}}}')


def test_a_recovered_subscription_carries_what_was_missed() -> None:
    result = SubscribeResult(
        recoverable=True, epoch="e", offset=2, publications=[Pub(DATA, offset=3)], recovered=True, was_recovering=True
    )
    assert json.loads(encode_reply(4, "subscribe", result))["subscribe"] == {
        "recoverable": True,
        "epoch": "e",
        "offset": 2,
        "publications": [{"data": {"text": "hi"}, "offset": 3}],
        "recovered": True,
        "was_recovering": True,
    }


@pytest.mark.parametrize("code", DisconnectCode)
def test_the_range_of_a_code_says_whether_clients_come_back(code: DisconnectCode) -> None:
    assert code.reconnects is (3000 <= code < 3500)
