"""Address lists, and which addresses share an allowance."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.guard.addresses import AddressRules, NetworkSet, allowance_key, plain_address

PRIVATE = NetworkSet([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
MANY = 100_000
FEW_MICROSECONDS = 50e-6
"""A decision takes about five; a walk through the whole list would take some 10,000."""


def test_everyone_is_permitted_where_no_list_is_set() -> None:
    assert AddressRules().permits("203.0.113.7")
    assert AddressRules().permits("2001:db8::1")


def test_deny_list_wins_over_allow_list() -> None:
    rules = AddressRules(allow=PRIVATE, deny=NetworkSet([ip_network("10.1.0.0/16")]))
    assert rules.permits("10.2.0.1")
    assert not rules.permits("10.1.0.1")
    assert not rules.permits("192.0.2.1")
    assert rules.permits("2001:db8::9")


def test_mapped_ipv4_address_is_the_ipv4_address() -> None:
    assert not AddressRules(deny=PRIVATE).permits("::ffff:10.0.0.1")


def test_mapped_network_in_a_list_is_the_ipv4_network() -> None:
    rules = AddressRules(deny=NetworkSet([ip_network("::ffff:10.0.0.0/104")]))
    assert not rules.permits("10.200.0.1")
    assert not rules.permits("::ffff:10.200.0.1")
    assert rules.permits("11.0.0.1")


def test_allow_list_that_holds_nothing_lets_nobody_in() -> None:
    assert not AddressRules(allow=NetworkSet()).permits("127.0.0.1")


def test_what_is_not_an_address_is_not_permitted() -> None:
    assert not AddressRules().permits("localhost")
    assert not AddressRules(proxies=PRIVATE).trusts("localhost")


def test_trusted_proxies_are_their_networks() -> None:
    rules = AddressRules(proxies=PRIVATE)
    assert rules.trusts("10.0.0.1")
    assert rules.trusts("::ffff:10.0.0.1")
    assert not rules.trusts("192.0.2.1")


SMALL = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda pair: IPv4Network((IPv4Address(0xC0000200 + pair[0]), pair[1]), strict=False)
)


@given(st.lists(SMALL, max_size=8), st.integers(0xC0000200 - 2, 0xC0000300 + 2))
def test_a_set_holds_exactly_what_its_networks_hold(networks: list[IPv4Network], number: int) -> None:
    address = IPv4Address(number)
    assert (address in NetworkSet(networks)) is any(address in network for network in networks)


def test_decision_among_100_000_networks_takes_microseconds() -> None:
    random = Random(7)
    deny = NetworkSet(
        [IPv4Network((random.getrandbits(24) << 8, 24)) for _ in range(MANY // 2)]
        + [IPv6Network((random.getrandbits(48) << 80, 48)) for _ in range(MANY // 2)]
    )
    rules = AddressRules(deny=deny)
    addresses = [str(ip_address(random.getrandbits(32))) for _ in range(2_000)]
    began = time.process_time()
    for address in addresses:
        rules.permits(address)
    each = (time.process_time() - began) / len(addresses)
    print(f"{each * 1e6:.1f} µs a decision among {len(deny)} networks")
    assert each < FEW_MICROSECONDS


@given(st.ip_addresses())
def test_every_address_is_found_in_its_own_network(address: IPv4Address) -> None:
    plain = plain_address(str(address))
    assert plain in NetworkSet([ip_network(str(address))])


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("nonsense", "nonsense", True),
    ],
)
def test_allowance_is_shared_by_an_ipv4_address_and_an_ipv6_site(one: str, other: str, *, shared: bool) -> None:
    assert (allowance_key(one) == allowance_key(other)) is shared
