import asyncio
from dataclasses import replace

import pytest

from sockade.guard.identity import SessionId
from sockade.identity.stores import Rotation, Store
from tests.contracts.records import NOW, begin, session, user


@pytest.fixture
async def filled(store: Store) -> Store:
    await store.users.add(user())
    await store.users.add(user("bob"))
    return store


async def test_a_session_is_found_by_cookie_and_by_id(filled: Store) -> None:
    assert await begin(filled, "a1") == frozenset()
    assert await filled.sessions.by_cookie("cookie-a1") == session("a1")
    assert await filled.sessions.get(SessionId("a1")) == session("a1")
    assert await filled.sessions.by_cookie("cookie-a2") is None
    assert await filled.sessions.get(SessionId("a2")) is None


async def test_no_session_starts_for_someone_unknown_disabled_or_changed(filled: Store) -> None:
    await filled.users.disable("bob", at=NOW)
    assert await begin(filled, "n1", "nobody") is None
    assert await begin(filled, "b1", "bob") is None
    assert await begin(filled, "a1", password_hash="older") is None
    assert await filled.sessions.of_user("ana", now=NOW) == []
    assert await begin(filled, "a1", password_hash="phc") == frozenset()


async def test_no_session_starts_with_a_role_that_was_changed(filled: Store) -> None:
    await filled.users.set_role("ana", "guest", at=NOW)
    assert await begin(filled, "a1") is None
    assert await filled.sessions.of_user("ana", now=NOW) == []


async def test_the_oldest_live_sessions_give_way(filled: Store) -> None:
    for number in range(4):
        await begin(filled, f"a{number}", at=NOW + number)
    await begin(filled, "b0", "bob")
    assert await begin(filled, "a4", at=NOW + 5, per_user=3) == {"a0", "a1"}
    assert [one.id for one in await filled.sessions.of_user("ana", now=NOW + 5)] == ["a4", "a3", "a2"]
    assert await begin(filled, "a5", at=NOW + 150, per_user=3) == frozenset()


async def test_sessions_started_at_once_stay_within_the_number(filled: Store) -> None:
    await asyncio.gather(*(begin(filled, f"a{number}", at=NOW + number, per_user=3) for number in range(10)))
    assert len(await filled.sessions.of_user("ana", now=NOW + 10)) == 3


async def test_a_session_ends_once(filled: Store) -> None:
    await begin(filled, "a1")
    both = [SessionId("a1"), SessionId("none")]
    answers = await asyncio.gather(*(filled.sessions.end(both, at=NOW + 1, reason="x") for _ in range(5)))
    assert sorted(map(len, answers)) == [0, 0, 0, 0, 1]
    assert await filled.sessions.by_cookie("cookie-a1") is None
    assert await filled.sessions.get(SessionId("a1")) is None
    assert await filled.sessions.of_user("ana", now=NOW) == []
    assert await filled.sessions.end([], at=NOW, reason="x") == frozenset()


async def test_ending_a_user_leaves_others(filled: Store) -> None:
    await begin(filled, "a1")
    await begin(filled, "b1", "bob")
    assert await filled.sessions.end_user("ANA", at=NOW + 1, reason="x") == {"a1"}
    assert await filled.sessions.end_user("ANA", at=NOW + 2, reason="x") == frozenset()
    assert await filled.sessions.by_cookie("cookie-b1") is not None


async def test_endings_are_told_from_a_time_on(filled: Store) -> None:
    for number in range(3):
        await begin(filled, f"a{number}")
        await filled.sessions.end([SessionId(f"a{number}")], at=NOW + number, reason=f"r{number}")
    await begin(filled, "a3")
    assert await filled.sessions.ended_since(NOW + 1) == {"a1": "r1", "a2": "r2"}


async def test_activity_moves_forward_only_and_not_after_the_end(filled: Store) -> None:
    for id_ in ("a1", "a2"):
        await begin(filled, id_)
    await filled.sessions.end([SessionId("a2")], at=NOW, reason="x")
    ids = {SessionId("a1"), SessionId("a2"), *(SessionId(f"none{n}") for n in range(2_000))}
    await filled.sessions.seen(ids, at=NOW + 5)
    await filled.sessions.seen(ids, at=NOW + 3)
    await filled.sessions.seen([], at=NOW + 9)
    assert await filled.sessions.get(SessionId("a1")) == replace(session("a1"), last_seen_at=NOW + 5)


async def test_of_rotations_at_once_one_wins_and_the_others_repeat(filled: Store) -> None:
    await begin(filled, "a1")
    answers = await asyncio.gather(
        *(filled.sessions.rotate("refresh-a1", "second", at=NOW + 1, grace=10, a_minute=20) for _ in range(10))
    )
    outcomes = [outcome for outcome, _ in answers]
    assert outcomes.count(Rotation.ROTATED) == 1
    assert outcomes.count(Rotation.REPEATED) == 9
    assert {found.id for _, found in answers if found is not None} == {"a1"}
    found = await filled.sessions.get(SessionId("a1"))
    assert found is not None
    assert found.last_seen_at == NOW + 1


async def test_a_predecessor_repeats_within_the_grace_and_while_its_successor_is_unused(filled: Store) -> None:
    await begin(filled, "a1")
    rotate = filled.sessions.rotate
    assert (await rotate("refresh-a1", "second", at=NOW, grace=10, a_minute=20))[0] is Rotation.ROTATED
    assert (await rotate("refresh-a1", "second", at=NOW + 10, grace=10, a_minute=20))[0] is Rotation.REPEATED
    assert (await rotate("refresh-a1", "second", at=NOW + 10.1, grace=10, a_minute=20))[0] is Rotation.REUSED
    assert (await rotate("refresh-a1", "forged", at=NOW + 1, grace=10, a_minute=20))[0] is Rotation.REUSED
    assert (await rotate("second", "third", at=NOW + 1, grace=10, a_minute=20))[0] is Rotation.ROTATED
    assert (await rotate("refresh-a1", "second", at=NOW + 1, grace=10, a_minute=20))[0] is Rotation.REUSED


async def test_a_session_gets_so_many_tokens_a_minute(filled: Store) -> None:
    await begin(filled, "a1")
    await begin(filled, "a2")
    rotate = filled.sessions.rotate
    assert (await rotate("refresh-a1", "second", at=NOW + 1, grace=10, a_minute=3))[0] is Rotation.ROTATED
    assert (await rotate("second", "third", at=NOW + 2, grace=10, a_minute=3))[0] is Rotation.ROTATED
    outcome, found = await rotate("third", "fourth", at=NOW + 3, grace=10, a_minute=3)
    assert outcome is Rotation.TOO_MANY
    assert found is not None
    # Nobody else is held up, whoever has a copy is found all the same, and a clock that was set back refuses nobody.
    assert (await rotate("refresh-a2", "another", at=NOW + 3, grace=10, a_minute=3))[0] is Rotation.ROTATED
    assert (await rotate("second", "third", at=NOW + 3, grace=10, a_minute=3))[0] is Rotation.REPEATED
    assert (await rotate("refresh-a1", "second", at=NOW + 3, grace=10, a_minute=3))[0] is Rotation.REUSED
    assert (await rotate("third", "fourth", at=NOW - 30, grace=10, a_minute=3))[0] is Rotation.ROTATED
    assert (await rotate("fourth", "fifth", at=NOW + 61.5, grace=10, a_minute=3))[0] is Rotation.ROTATED


async def test_a_token_of_no_live_session_is_unknown(filled: Store) -> None:
    for id_ in ("a1", "a2"):
        await begin(filled, id_)
    await begin(filled, "b1", "bob")
    await filled.sessions.end([SessionId("a2")], at=NOW, reason="x")
    await filled.users.disable("bob", at=NOW)
    unknown = (Rotation.UNKNOWN, None)
    assert await filled.sessions.rotate("refresh-a1", "new", at=NOW + 100, grace=10, a_minute=20) == unknown
    assert await filled.sessions.rotate("refresh-a2", "new", at=NOW, grace=10, a_minute=20) == unknown
    assert await filled.sessions.rotate("refresh-b1", "new", at=NOW, grace=10, a_minute=20) == unknown
    assert await filled.sessions.rotate("nothing", "new", at=NOW, grace=10, a_minute=20) == unknown
    assert (await filled.sessions.rotate("refresh-a1", "new", at=NOW, grace=10, a_minute=20))[0] is Rotation.ROTATED


async def test_purging_forgets_only_what_was_over(filled: Store) -> None:
    await begin(filled, "a1")
    await begin(filled, "a2", at=NOW + 50)
    await begin(filled, "a3", at=NOW + 50)
    await filled.sessions.end([SessionId("a3")], at=NOW + 60, reason="x")
    await filled.sessions.purge(NOW + 120)
    assert [one.id for one in await filled.sessions.of_user("ana", now=0)] == ["a2"]
    assert await filled.sessions.ended_since(0) == {}
