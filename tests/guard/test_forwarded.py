"""Whose request it is behind trusted proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.addresses import NetworkSet
from sockade.guard.forwarded import MOST_PROXIES, client_address
from sockade.guard.handshake import Head, Refuse
from sockade.protocol.reasons import Reason

PROXIES = NetworkSet([ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")])
PEER = "10.0.0.1"


def client(*headers: tuple[str, str]) -> str | Reason:
    found = client_address(Head("GET", "/", "1.1", headers), PEER, PROXIES)
    return found.reason if isinstance(found, Refuse) else found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9,192.0.2.1 , 10.1.1.1,\t10.2.2.2", "192.0.2.1"),
        ("garbage, , 192.0.2.1", "192.0.2.1"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:DB8::7]:4711", "2001:db8::7"),
        ("192.0.2.1:50000", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("192.0.2.1, 2001:db8:1::5", "192.0.2.1"),
    ],
)
def test_rightmost_address_that_is_no_trusted_proxy_counts(value: str, expected: str) -> None:
    """Case 49."""
    assert client(("x-forwarded-for", value)) == expected


def test_several_headers_are_one_list() -> None:
    """Case 49."""
    assert client(("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.2.2.2")) == "192.0.2.1"
    assert client(("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "203.0.113.9")) == "203.0.113.9"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ('for="192.0.2.1:_port"', "192.0.2.1"),
        ("for=203.0.113.9, for=192.0.2.1;by=10.0.0.2 , for=10.2.2.2", "192.0.2.1"),
        ('for=203.0.113.9;host="a,b;for=6.6.6.6\\"", for=192.0.2.1', "192.0.2.1"),
        ("for=unknown, for=192.0.2.1", "192.0.2.1"),
    ],
)
def test_forwarded_is_read_as_its_standard_says(value: str, expected: str) -> None:
    """Case 49."""
    assert client(("forwarded", value)) == expected


def test_proxy_that_names_nobody_asks_for_itself() -> None:
    assert client() == PEER


@pytest.mark.parametrize(
    "headers",
    [
        [("x-forwarded-for", "")],
        [("x-forwarded-for", "garbage")],
        [("x-forwarded-for", "192.0.2.1, garbage")],
        [("x-forwarded-for", "192.0.2.1,")],
        [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "")],
        [("x-forwarded-for", "192.0.2.256")],
        [("x-forwarded-for", "192.0.2.01")],
        [("x-forwarded-for", "3232235777")],
        [("x-forwarded-for", "fe80::1%eth0")],
        [("x-forwarded-for", "[fe80::1%eth0]")],
        [("x-forwarded-for", "192.0.2.1:123456")],
        [("x-forwarded-for", "[192.0.2.1]")],
        [("x-forwarded-for", "unknown")],
        [("forwarded", "")],
        [("forwarded", "192.0.2.1")],
        [("forwarded", "for=")],
        [("forwarded", "for=unknown")],
        [("forwarded", "for=_hidden")],
        [("forwarded", "by=10.0.0.1")],
        [("forwarded", "for=192.0.2.1;for=203.0.113.9")],
        [("forwarded", "for=192.0.2.1,")],
        [("forwarded", 'for=6.6.6.6;x="'), ("forwarded", "for=192.0.2.1")],
        [("forwarded", 'for=6.6.6.6;x=", for="[2001:db8::7]"')],
        [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "203.0.113.9")],
        [("x-forwarded-for", ", ".join(["10.0.0.2"] * (MOST_PROXIES + 1)))],
    ],
)
def test_conflicting_or_malformed_word_of_a_trusted_proxy_is_400(headers: list[tuple[str, str]]) -> None:
    """Case 50."""
    assert client(*headers) is Reason.BAD_REQUEST


def test_both_headers_may_agree() -> None:
    both = (("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "203.0.113.9, 192.0.2.1"))
    assert client(*both) == "192.0.2.1"


HEADER = st.text('forby=;, \t"\\[]:.0123456789af%_-', max_size=60)


@given(st.lists(st.tuples(st.sampled_from(["forwarded", "x-forwarded-for"]), HEADER), max_size=3))
def test_any_text_is_an_answer_or_a_refusal(headers: list[tuple[str, str]]) -> None:
    found = client(*headers)
    assert isinstance(found, str)


@given(st.lists(HEADER, max_size=3))
def test_what_a_client_claims_changes_nothing(claims: list[str]) -> None:
    """Case 49."""
    claimed = [("x-forwarded-for", claim) for claim in claims]
    assert client(*claimed, ("x-forwarded-for", "192.0.2.1")) == "192.0.2.1"
