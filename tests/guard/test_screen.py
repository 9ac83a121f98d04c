"""The ordered checks of a handshake: each one spoils a good handshake in one way and sees the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.handshake import Handshake, Head, Refuse
from sockade.guard.identity import Carrier, ConnectionId, Credential
from sockade.guard.origin import canonical_origin
from sockade.guard.policy import LOOPBACK_NAMES, Policy, own_origins, served_names
from sockade.guard.screen import screen
from sockade.protocol.reasons import Reason
from tests.endless import ends

if TYPE_CHECKING:
    from .conftest import MakeHandshake

TICKET = "t" * 43


def reason(answer: Credential | Refuse) -> Reason | None:
    return answer.reason if isinstance(answer, Refuse) else None


def test_good_handshake_yields_its_credential(handshake: MakeHandshake, policy: Policy) -> None:
    answer = screen(handshake(), policy)
    assert isinstance(answer, Credential)
    assert (answer.carrier, answer.value.reveal()) == (Carrier.BEARER, "token")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8443", "127.0.0.1:1", "[::1]:8443", "app.example.com"])
def test_our_own_names_are_served(host: str, handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake({"host": host}), policy)) is None


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "localhost.evil.example", "localhost:8443:1", "a b", "localhost/", "[::1", "::1"]
)
def test_another_host_is_refused(host: str | None, handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake({"host": host}), policy)) is Reason.HOST


def test_two_hosts_are_refused(handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake(more=[("host", "localhost")]), policy)) is Reason.HOST


@pytest.mark.parametrize(
    "origin",
    ["https://localhost:8443", "HTTPS://LOCALHOST:8443", "https://[::1]:8443", "https://app.example.com:443"],
)
def test_own_origin_is_accepted_in_any_case_and_with_the_default_port(
    origin: str, handshake: MakeHandshake, policy: Policy
) -> None:
    assert reason(screen(handshake({"origin": origin}), policy)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "https://app.example.com.evil",
        "https://evil-app.example.com",
        "https://sub.app.example.com",
        "https://app.example.com@evil.example",
        "https://user@app.example.com",
        "https://app.example.com:444",
        "http://app.example.com",
        "https://app.example.com/",
        "https://app.example.com.",
        "https://app.example.com\\.evil.example",
        "https://localhost:08443",
        "wss://localhost:8443",
        "file://",
        "https://app.example.com, https://app.example.com",
    ],
)
def test_foreign_origin_is_refused_before_the_credential_is_read(
    origin: str, handshake: MakeHandshake, policy: Policy
) -> None:
    spoilt = handshake({"origin": origin, "authorization": None})
    assert reason(screen(spoilt, policy)) is Reason.ORIGIN


def test_two_origins_are_refused(handshake: MakeHandshake, policy: Policy) -> None:
    own = "https://localhost:8443"
    assert reason(screen(handshake({"origin": own}, [("origin", own)]), policy)) is Reason.ORIGIN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"connection": "keep-alive, Upgrade"}, None),  # Firefox
        ({"connection": "UPGRADE"}, None),
        ({"upgrade": "WebSocket"}, None),
        ({"connection": "keep-alive"}, Reason.UPGRADE),
        ({"connection": None}, Reason.UPGRADE),
        ({"connection": "upgrade, @"}, Reason.BAD_REQUEST),
        ({"connection": "upgrade, keep alive"}, Reason.BAD_REQUEST),
        ({"upgrade": "h2c"}, Reason.UPGRADE),
        ({"upgrade": "websocket, h2c"}, Reason.UPGRADE),
        ({"upgrade": None}, Reason.UPGRADE),
        ({"sec-websocket-version": "8"}, Reason.WEBSOCKET_VERSION),
        ({"sec-websocket-version": None}, Reason.WEBSOCKET_VERSION),
        ({"sec-websocket-key": None}, Reason.WEBSOCKET_KEY),
        ({"sec-websocket-key": "short"}, Reason.WEBSOCKET_KEY),
        ({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ"}, Reason.WEBSOCKET_KEY),
        ({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZSEhIQ=="}, Reason.WEBSOCKET_KEY),
        ({"sec-websocket-key": "\xff" * 24}, Reason.WEBSOCKET_KEY),
        ({"content-length": "0"}, None),
        ({"content-length": "5"}, Reason.BODY_UNEXPECTED),
        ({"transfer-encoding": "chunked"}, Reason.BODY_UNEXPECTED),
    ],
)
def test_upgrade_must_be_a_websocket_handshake(
    change: dict[str, str | None], expected: Reason | None, handshake: MakeHandshake, policy: Policy
) -> None:
    assert reason(screen(handshake(change), policy)) is expected


def test_version_refusal_names_the_version_we_speak(handshake: MakeHandshake, policy: Policy) -> None:
    answer = screen(handshake({"sec-websocket-version": "12"}), policy)
    assert isinstance(answer, Refuse)
    assert ("Sec-WebSocket-Version", "13") in answer.headers


def test_method_version_and_path_are_checked(handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake(method="POST"), policy)) is Reason.METHOD
    assert reason(screen(handshake(version="1.0"), policy)) is Reason.HTTP_VERSION
    assert reason(screen(handshake(target="/other"), policy)) is Reason.NOT_FOUND
    assert reason(screen(handshake(target="/?room=1"), policy)) is None


@pytest.mark.parametrize(
    "target",
    ["/?token=x", "/?a=1&ACCESS_TOKEN=x", "/?ticket=x", "/?q=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "/?jwt"],
)
def test_credential_in_the_url_is_refused(target: str, handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake(target=target), policy)) is Reason.CREDENTIAL_IN_URL


@pytest.mark.parametrize("query", ["eyJ" * 500_000, "eyJ" * 500_000 + "." + "a" * 1_000])
def test_looking_for_a_token_in_a_url_made_of_its_beginnings_comes_to_an_end(
    handshake: MakeHandshake, policy: Policy, query: str
) -> None:
    """In steps that grow with the square of the length it would not, while a test waits."""
    with ends():
        assert isinstance(screen(handshake(target=f"/?{query}"), policy), Credential)


def test_no_credential_is_refused(handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake({"authorization": None}), policy)) is Reason.CREDENTIAL_MISSING


OWN = {"authorization": None, "origin": "https://localhost:8443"}


def test_cookie_and_ticket_are_found(handshake: MakeHandshake, policy: Policy) -> None:
    cookie = screen(handshake({**OWN, "cookie": "a=b; __Host-sockade=xyz; c=d"}), policy)
    assert isinstance(cookie, Credential)
    assert (cookie.carrier, cookie.value.reveal()) == (Carrier.COOKIE, "xyz")
    ticket = screen(handshake({**OWN, "sec-websocket-protocol": f"sockade, ticket.{TICKET}"}), policy)
    assert isinstance(ticket, Credential)
    assert (ticket.carrier, ticket.value.reveal()) == (Carrier.TICKET, TICKET)


def test_ticket_wins_over_the_cookie_that_browsers_add(handshake: MakeHandshake, policy: Policy) -> None:
    both = {**OWN, "cookie": "__Host-sockade=xyz", "sec-websocket-protocol": f"ticket.{TICKET}"}
    answer = screen(handshake(both), policy)
    assert isinstance(answer, Credential)
    assert answer.carrier is Carrier.TICKET


@pytest.mark.parametrize(
    "more",
    [
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("authorization", "Bearer a"), ("sec-websocket-protocol", f"ticket.{TICKET}")],
        [("sec-websocket-protocol", f"ticket.{TICKET}, ticket.{TICKET}")],
        [("cookie", "__Host-sockade=a; __Host-sockade=b")],
        [("cookie", "__Host-sockade=a"), ("cookie", "__Host-sockade=b")],
    ],
)
def test_two_credentials_are_refused(more: list[tuple[str, str]], handshake: MakeHandshake, policy: Policy) -> None:
    assert reason(screen(handshake(OWN, more), policy)) is Reason.CREDENTIAL_AMBIGUOUS


@pytest.mark.parametrize("carrier", [{"cookie": "__Host-sockade=x"}, {"sec-websocket-protocol": f"ticket.{TICKET}"}])
def test_browser_credential_without_origin_is_refused(
    carrier: dict[str, str | None], handshake: MakeHandshake, policy: Policy
) -> None:
    assert reason(screen(handshake({"authorization": None, **carrier}), policy)) is Reason.ORIGIN_MISSING


def test_carrier_that_is_off_is_refused(handshake: MakeHandshake) -> None:
    policy = Policy(
        frozenset(LOOPBACK_NAMES), own_origins(LOOPBACK_NAMES, 8443), frozenset({"/"}), frozenset({Carrier.COOKIE})
    )
    assert reason(screen(handshake(), policy)) is Reason.CREDENTIAL_KIND


@pytest.mark.parametrize("value", ["Basic dXNlcjpwYXNz", "token", ""])
def test_another_scheme_is_an_empty_bearer_token(value: str, handshake: MakeHandshake, policy: Policy) -> None:
    answer = screen(handshake({"authorization": value}), policy)
    assert isinstance(answer, Credential)
    assert answer.value.reveal() == ""


def test_no_refusal_quotes_what_was_sent(handshake: MakeHandshake, policy: Policy) -> None:
    answer = screen(handshake(target="/?token=hunter2"), policy)
    assert "hunter2" not in repr(answer)


NAMES = st.sampled_from(
    [
        *("host", "origin", "cookie", "authorization", "upgrade", "connection", "content-length", "transfer-encoding"),
        *("sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions"),
    ]
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60) | st.sampled_from(
    ["localhost", "websocket", "Upgrade", "13", "https://localhost:8443", f"ticket.{TICKET}", "__Host-sockade=a"]
)


@pytest.mark.parametrize("written", ["2001:DB8:0:0::1", "2001:db8::0001", "2001:db8::1"])
def test_an_ipv6_address_is_one_name_however_it_is_written(handshake: MakeHandshake, written: str) -> None:
    names = served_names("::", [written])
    policy = Policy(names, own_origins(names, 8443) | {canonical_origin(f"https://[{written}]") or ""}, frozenset("/"))
    for host, origin in (
        ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        (f"[{written}]", "https://[2001:db8::1]"),
        ("[2001:db8::1]", f"https://[{written}]:8443"),
    ):
        assert isinstance(screen(handshake({"host": host, "origin": origin}), policy), Credential)
    for host in ("[2001:db8::2]", "[1::2::3]"):
        assert reason(screen(handshake({"host": host}), policy)) is Reason.HOST
    for origin in ("https://[2001:db8::2]", "https://[1::2::3]"):
        assert reason(screen(handshake({"host": "[2001:db8::1]", "origin": origin}), policy)) is Reason.ORIGIN


@given(
    st.sampled_from(["GET", "POST"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60).map(lambda text: "/" + text),
    st.lists(st.tuples(NAMES, VALUES), max_size=12),
)
def test_any_head_is_decided(method: str, target: str, headers: list[tuple[str, str]]) -> None:
    policy = Policy(frozenset(LOOPBACK_NAMES), own_origins(LOOPBACK_NAMES, 8443), frozenset({"/"}))
    head = Head(method, target, "1.1", tuple(headers))
    assert isinstance(screen(Handshake(ConnectionId("c"), head, "127.0.0.1"), policy), Credential | Refuse)
