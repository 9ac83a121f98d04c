import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from sockade.clock import SteppedClock
from sockade.errors import FetchError
from sockade.guard.handshake import Refuse
from sockade.identity.fetch import fetch
from sockade.identity.jwks import KeySetCache
from sockade.identity.keysets import keys_of_set
from tests.security.issuer import KeyServer, Signer, key_set


class Source:
    """Stands for the issuer's server."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = signers
        self.fails = False
        self.asked = 0

    async def __call__(self, url: str) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise FetchError("down")
        return key_set(*self.signers)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def cache_of(source: Source, clock: SteppedClock) -> KeySetCache:
    return KeySetCache("https://corp.example/jwks", ["EdDSA"], source, clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_who_ask_at_once_share_one_fetch(clock: SteppedClock) -> None:
    """Case 24."""
    source = Source(Signer("one"))
    cache = cache_of(source, clock)
    found = await asyncio.gather(*(cache.find("one") for _ in range(50)))
    assert None not in found
    assert source.asked == 1


async def test_unknown_ids_start_one_fetch_in_thirty_seconds(clock: SteppedClock) -> None:
    """Case 24."""
    source = Source(Signer("one"))
    cache = cache_of(source, clock)
    for number in range(1_000):
        assert await cache.find(f"k{number}") is None
        clock.step(0.02)
    assert source.asked == 1
    clock.step(10.1)
    assert await cache.find("k") is None
    assert source.asked == 2


async def test_a_failing_server_without_known_keys_is_busy(clock: SteppedClock) -> None:
    """Case 25."""
    source = Source(Signer("one"))
    source.fails = True
    cache = cache_of(source, clock)
    for _ in range(5):
        answer = await cache.find("one")
        assert isinstance(answer, Refuse)
        assert (answer.reason, answer.retry_after) == ("busy", 30)
    assert source.asked == 1


async def test_known_keys_stay_for_an_hour_while_fetches_fail(clock: SteppedClock) -> None:
    """Case 25."""
    source = Source(Signer("one"))
    cache = cache_of(source, clock)
    assert await cache.find("one") is not None
    source.fails = True
    for _ in range(100):
        clock.step(35.9)
        assert not isinstance(await cache.find("one"), Refuse)
        await settle()
    # Whether another key is good cannot be told now.
    assert isinstance(await cache.find("two"), Refuse)
    clock.step(35.9)
    assert isinstance(await cache.find("one"), Refuse)


async def test_a_new_key_is_found_and_the_old_one_goes_with_the_set(clock: SteppedClock) -> None:
    """Case 28."""
    old, new = Signer("old"), Signer("new")
    source = Source(old)
    cache = cache_of(source, clock)
    assert await cache.find("old") is not None
    source.signers = (old, new)
    clock.step(31)
    assert await cache.find("new") is not None
    assert await cache.find("old") is not None
    source.signers = (new,)
    clock.step(301)
    await cache.find("new")
    await settle()
    assert await cache.find("old") is None


async def test_a_client_that_leaves_does_not_end_the_fetch_of_others(clock: SteppedClock) -> None:
    source = Source(Signer("one"))
    cache = cache_of(source, clock)
    leaving, staying = asyncio.create_task(cache.find("one")), asyncio.create_task(cache.find("one"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is not None
    assert source.asked == 1


async def test_a_fetch_that_breaks_in_another_way_is_busy_too(clock: SteppedClock) -> None:
    async def broken(url: str) -> bytes:
        raise RuntimeError("a bug")

    cache = KeySetCache("https://corp.example", ["EdDSA"], broken, clock)
    assert isinstance(await cache.find("one"), Refuse)


# What a set may hold.


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 1}', b"\xff", b'{"keys":' + b"[" * 5_000])
def test_what_is_no_key_set_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="Key Set"):
        keys_of_set(content, ["EdDSA"])


OTHERS: list[dict[str, object]] = [
    {"use": "enc"},
    {"key_ops": ["sign"]},
    {"alg": "ES256"},
    {"kty": "oct", "k": "AAAA"},
    {"crv": "X25519"},
    {"crv": "P-256"},
    {"x": "AA"},
    {"kty": 1},
]


@pytest.mark.parametrize("change", OTHERS)
def test_a_key_for_anything_else_is_passed_over(change: dict[str, object]) -> None:
    good = Signer("one").jwk
    content = json.dumps({"keys": [good | {"kid": "bad"} | change, "no key", good]}).encode()
    assert set(keys_of_set(content, ["EdDSA", "ES256"])) == {"one"}


def test_a_key_verifies_only_what_is_allowed() -> None:
    content = key_set(Signer("one"))
    assert set(keys_of_set(content, ["EdDSA"])) == {"one"}
    assert set(keys_of_set(content, ["ES384", "RS256"])) == {"other0", "other1"}
    assert keys_of_set(content, ["HS256"]) == {}


# Fetching.


@pytest.fixture
async def keys() -> AsyncIterator[KeyServer]:
    server = KeyServer(key_set(Signer("one")))
    yield server
    server.close()


async def test_a_document_is_fetched(keys: KeyServer) -> None:
    assert await fetch(keys.url) == keys.content


@pytest.mark.parametrize("mode", ["error", "huge", "redirect", "slow"])
async def test_a_server_that_misbehaves_is_an_error(
    keys: KeyServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 25."""
    monkeypatch.setattr("sockade.identity.fetch.SECONDS", 0.5)
    keys.mode = mode
    with pytest.raises(FetchError):
        await fetch(keys.url)
    assert keys.asked == ["/jwks"]


@pytest.mark.parametrize("url", ["http://192.0.2.1/jwks", "http://127.0.0.1:1/jwks", "https://127.0.0.1:1/"])
async def test_what_cannot_be_fetched_is_an_error(url: str) -> None:
    with pytest.raises(FetchError):
        await fetch(url)


async def test_plain_http_is_for_loopback_alone() -> None:
    with pytest.raises(FetchError, match="not an https address"):
        await fetch("http://192.0.2.1/jwks")
