"""The server's half of the handshake, compared with what `websockets` itself would have answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request
from websockets.server import ServerProtocol

from sockade.doors.admission import Admission
from sockade.doors.deflate import InflateFactory
from sockade.doors.negotiation import Negotiator, select_subprotocol
from sockade.guard.handshake import Handshake, Head, Refuse
from sockade.guard.identity import ConnectionId
from sockade.guard.policy import Policy
from sockade.guard.upgrade import check_request, check_websocket
from sockade.protocol.reasons import Reason

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
POLICY = Policy(names=frozenset(), origins=frozenset(), paths=frozenset())
GOOD = (
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", KEY),
)
DEFLATE = "permessage-deflate; client_max_window_bits"
TICKET = "sockade, ticket." + "t" * 43

VALUES = {
    "connection": ["Upgrade", "keep-alive, Upgrade", "close", "upgrade, ", ", upgrade", "upgrade;x", "@, upgrade", ""],
    "upgrade": ["websocket", "WebSocket", "h2c", "websocket, h2c", "websocket/13", ",websocket", "web socket", ""],
    "sec-websocket-version": ["13", " 13", "8", "13, 8", ""],
    "sec-websocket-key": [KEY, KEY[:-1], KEY + " ", "AAAA", "\xff" * 24, "", KEY[:-3] + "!=="],
    "sec-websocket-protocol": ["sockade", TICKET, "centrifuge-json,sockade", "other", "a b", "x;y", ",", ""],
    "sec-websocket-extensions": [DEFLATE, f"{DEFLATE}, {DEFLATE}", "x-other", "permessage-deflate; no=such", "=", ""],
}


def heads() -> st.SearchStrategy[Head]:
    """Return heads that are nearly what they should be."""
    value = st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.tuples(
            st.just(name), st.one_of(st.sampled_from(VALUES[name]), st.text('uw,;=" -@é13', max_size=9))
        )
    )
    changed = st.dictionaries(st.sampled_from(sorted(VALUES)), st.booleans(), max_size=2)

    def made(more: list[tuple[str, str]], without: dict[str, bool]) -> Head:
        kept = [pair for pair in GOOD if not without.get(pair[0])]
        # As llhttp gives them: without white space around.
        return Head("GET", "/", "1.1", (*kept, *((name, text.strip(" \t")) for name, text in more)))

    return st.builds(made, st.lists(value, max_size=3), changed)


def guarded(head: Head) -> bool:
    """Tell whether the guard lets a head pass, as far as it is about RFC 6455."""
    handshake = Handshake(ConnectionId("c"), head, "127.0.0.1")
    return not any(isinstance(check(handshake, POLICY), Refuse) for check in (check_request, check_websocket))


def answered(head: Head, *, compression: bool) -> tuple[int, dict[str, str]]:
    """Return what `websockets` answers by itself: the status, and the headers without the date."""
    protocol = ServerProtocol(
        select_subprotocol=select_subprotocol, extensions=[InflateFactory()] if compression else None
    )
    response = protocol.accept(Request(head.target, Headers(head.headers), head.method, "HTTP/1.1"))
    return response.status_code, {name: value for name, value in response.headers.raw_items() if name != "Date"}


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(head=heads(), compression=st.booleans())
@example(head=Head("GET", "/", "1.1", GOOD), compression=False)
@example(head=Head("GET", "/", "1.1", (*GOOD, ("sec-websocket-protocol", TICKET))), compression=True)
@example(head=Head("GET", "/", "1.1", (*GOOD, ("sec-websocket-extensions", DEFLATE))), compression=True)
@example(head=Head("GET", "/", "1.1", (*GOOD, ("sec-websocket-extensions", DEFLATE))), compression=False)
def test_who_passes_the_guard_is_answered_as_the_library_answers(head: Head, compression: bool) -> None:
    # The library refuses an empty list, which RFC 9110 §5.6.1.2 has recipients accept.
    assume(all(value.strip(" ,") for name, value in head.headers if name in ("connection", "upgrade")))
    assume(guarded(head))
    status, headers = answered(head, compression=compression)
    try:
        agreement = Negotiator(compression=compression).agree(head)
    except InvalidHandshake:
        assert status == 400
        return
    assert status == 101
    first, *lines, empty, end = agreement.response.decode("ascii").split("\r\n")
    assert (first, empty, end) == ("HTTP/1.1 101 Switching Protocols", "", "")
    assert dict(line.split(": ", 1) for line in lines) == headers
    assert len(lines) == len(headers)
    assert agreement.subprotocol == headers.get("Sec-WebSocket-Protocol")
    assert len(agreement.extensions) == ("Sec-WebSocket-Extensions" in headers)


@pytest.mark.parametrize("offers", ["a b", "x;y", "sockade,=,"])
def test_a_malformed_offer_is_refused(offers: str) -> None:
    head = Head("GET", "/", "1.1", (*GOOD, ("sec-websocket-protocol", offers)))
    with pytest.raises(InvalidHandshake):
        Negotiator(compression=False).agree(head)


def test_nothing_is_kept_of_a_handshake() -> None:
    negotiator = Negotiator(compression=True)
    offering = Head(
        "GET", "/", "1.1", (*GOOD, ("sec-websocket-extensions", DEFLATE), ("sec-websocket-protocol", "sockade"))
    )
    first, second = negotiator.agree(offering), negotiator.agree(offering)
    plain = negotiator.agree(Head("GET", "/", "1.1", GOOD))
    assert first.extensions[0] is not second.extensions[0]
    assert (plain.subprotocol, plain.extensions) == (None, ())


def test_what_breaks_in_negotiation_refuses() -> None:
    class Broken:
        def agree(self, head: Head) -> None:
            raise RuntimeError("broken")

    admission: Any = SimpleNamespace(_negotiator=Broken())
    handshake: Any = Handshake(ConnectionId("c"), Head("GET", "/", "1.1", GOOD), "127.0.0.1")
    nothing: Any = None
    answer = Admission.open(admission, nothing, handshake, nothing, nothing, nothing)
    assert isinstance(answer, Refuse)
    assert answer.reason is Reason.INTERNAL
