import asyncio
import threading
from collections.abc import Iterator

import argon2
import pytest

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.identity.passwords import Passwords, argon2id, password_problem
from tests.identity.world import PASSWORD, cheap, reason


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(cheap())
    yield made
    made.close()


async def test_a_password_matches_its_own_hash_only(passwords: Passwords) -> None:
    stored = await passwords.hash(PASSWORD)
    assert isinstance(stored, str)
    assert await passwords.verify(PASSWORD, stored) is True
    assert await passwords.verify(Secret("correct horse batterz"), stored) is False
    assert await passwords.verify(PASSWORD, "not a hash") is False


async def test_the_same_password_typed_composed_or_not_matches(passwords: Passwords) -> None:
    stored = await passwords.hash(Secret("Zoë's long password"))
    assert isinstance(stored, str)
    assert await passwords.verify(Secret("Zoe\u0308's long password"), stored) is True


def test_parameters_are_those_that_owasp_names() -> None:
    assert argon2id().hash("a password").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("value", ["", "a" * 11, "a" * 129, "a" * 12 + "\ud800", "e\u0301" * 11])
async def test_length_counts_characters_and_nothing_is_hashed_outside_it(passwords: Passwords, value: str) -> None:
    assert password_problem(Secret(value)) is not None
    assert await passwords.verify(Secret(value), "whatever") is False


async def test_what_is_far_too_long_is_not_even_normalized(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Marks that are out of order took seconds, for which nobody else was heard.
    monkeypatch.setattr("sockade.identity.passwords.normal_form", None)
    value = Secret("a" + "\u0300" * 16_000 + "\u0316" * 16_000)
    assert password_problem(value) is not None
    assert await passwords.verify(value, None) is False


@pytest.mark.parametrize("value", ["a" * 12, "a" * 128, "ä" * 128, "α\u0313\u0300\u0345" * 128])
def test_twelve_to_128_characters_are_a_password(value: str) -> None:
    assert password_problem(Secret(value)) is None


class Counting(argon2.PasswordHasher):
    """Counts verifications, and holds each until it is let go."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.hashes: list[str] = []
        self.made = 0
        self.running = threading.Semaphore(0)
        self.go = threading.Event()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.made += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002
        self.hashes.append(str(hash))
        self.running.release()
        self.go.wait(10)
        return super().verify(hash, password)


async def started(hasher: Counting, count: int) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(hasher.running.acquire, timeout=10)


async def test_an_unknown_user_costs_a_verification_with_the_same_parameters() -> None:
    hasher = Counting()
    hasher.go.set()
    passwords = Passwords(hasher)
    assert await passwords.verify(Secret("nobody has this password"), None) is False
    [used] = hasher.hashes
    assert hasher.made == 1, "made once at the start, not while somebody waits"
    assert argon2.extract_parameters(used) == argon2.extract_parameters(hasher.hash("x"))
    passwords.close()


async def test_two_run_and_the_rest_are_refused_as_busy() -> None:
    hasher = Counting()
    passwords = Passwords(hasher, patience_seconds=0)
    stored = hasher.hash(PASSWORD.reveal())
    two = [asyncio.create_task(passwords.verify(PASSWORD, stored)) for _ in range(2)]
    await started(hasher, 2)
    rest = await asyncio.gather(*(passwords.verify(PASSWORD, stored) for _ in range(20)))
    assert {reason(answer) for answer in rest} == {"busy"}
    assert len(hasher.hashes) == 2
    hasher.go.set()
    assert await asyncio.gather(*two) == [True, True]
    assert await passwords.verify(PASSWORD, stored) is True
    passwords.close()


async def test_a_client_that_leaves_gives_its_place_back_when_the_hash_is_done() -> None:
    hasher = Counting()
    passwords = Passwords(hasher, at_once=1, patience_seconds=0)
    stored = hasher.hash(PASSWORD.reveal())
    leaving = asyncio.create_task(passwords.verify(PASSWORD, stored))
    await started(hasher, 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    # The thread still computes: the place is not free yet.
    assert isinstance(await passwords.verify(PASSWORD, stored), Refuse)
    hasher.go.set()
    async with asyncio.timeout(10):
        while isinstance(answer := await passwords.verify(PASSWORD, stored), Refuse):
            await asyncio.sleep(0.001)
    assert answer is True
    passwords.close()


def test_other_parameters_ask_for_a_new_hash(passwords: Passwords) -> None:
    assert passwords.needs_rehash(argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("x"))
    assert not passwords.needs_rehash(cheap().hash("x"))
