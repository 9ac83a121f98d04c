from sockade.guard.identity import SessionId
from sockade.identity.stores import Revocation, RevocationKind, Store
from tests.contracts.records import NOW, begin, user


def revocation(kind: RevocationKind, subject: str = "", *, before: float = NOW, at: float = NOW) -> Revocation:
    return Revocation(kind, subject, before, at, at + 100)


async def test_a_revocation_is_found_by_when_it_was_made(store: Store) -> None:
    one = revocation(RevocationKind.TOKEN, "jti")
    assert await store.revocations.add(one, reason="test") == frozenset()
    assert await store.revocations.since(NOW) == [one]
    assert await store.revocations.since(NOW + 1) == []


async def test_of_two_alike_the_wider_counts(store: Store) -> None:
    await store.revocations.add(revocation(RevocationKind.USER, "ana", before=NOW), reason="test")
    await store.revocations.add(revocation(RevocationKind.USER, "ana", before=NOW - 50, at=NOW + 1), reason="test")
    [found] = await store.revocations.since(0)
    assert (found.before, found.at, found.until) == (NOW, NOW + 1, NOW + 101)


async def test_revoking_a_user_ends_the_sessions_begun_before_then(store: Store) -> None:
    for name in ("Ana", "bob"):
        await store.users.add(user(name))
    for id_, name, at in (("a1", "Ana", NOW), ("a2", "Ana", NOW + 10), ("b1", "bob", NOW)):
        await begin(store, id_, name, at=at)
    ended = await store.revocations.add(revocation(RevocationKind.USER, "ana", before=NOW + 5), reason="test")
    assert ended == {SessionId("a1")}
    assert await store.sessions.get(SessionId("a2")) is not None
    ended = await store.revocations.add(revocation(RevocationKind.ALL, before=NOW + 5), reason="test")
    assert ended == {SessionId("b1")}


async def test_what_is_pointless_is_forgotten(store: Store) -> None:
    await store.revocations.add(revocation(RevocationKind.TOKEN, "jti"), reason="test")
    await store.revocations.purge(NOW + 99)
    assert len(await store.revocations.since(0)) == 1
    await store.revocations.purge(NOW + 101)
    assert await store.revocations.since(0) == []


async def test_a_new_role_ends_every_session(store: Store) -> None:
    await store.users.add(user())
    await begin(store, "a1")
    assert await store.users.set_role("ANA", "admin", at=NOW) == {SessionId("a1")}
    found = await store.users.get("ana")
    assert found is not None
    assert found.role == "admin"
    assert await store.users.set_role("nobody", "admin", at=NOW) is None
