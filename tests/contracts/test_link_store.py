import asyncio

from sockade.identity.stores import Link, Redeemed, Store
from tests.contracts.records import NOW, user

OPEN = Link(None, "admin", NOW + 60)


async def test_a_link_is_seen_until_it_expires(store: Store) -> None:
    await store.links.put("d", OPEN)
    assert await store.links.peek("d", now=NOW) == OPEN
    assert await store.links.peek("d", now=NOW + 60) is None
    assert await store.links.peek("other", now=NOW) is None


async def test_a_link_of_a_user_names_them_as_they_do(store: Store) -> None:
    await store.users.add(user())
    await store.links.put("d", Link("ANA", "user", NOW + 60))
    assert await store.links.peek("d", now=NOW) == Link("Ana", "user", NOW + 60)


async def test_of_redemptions_at_once_one_wins(store: Store) -> None:
    await store.links.put("d", OPEN)
    answers = await asyncio.gather(*(store.links.redeem("d", at=NOW) for _ in range(10)))
    assert answers.count(True) == 1
    assert await store.links.peek("d", now=NOW) is None


async def test_an_expired_link_is_not_redeemed(store: Store) -> None:
    await store.links.put("d", OPEN)
    assert not await store.links.redeem("d", at=NOW + 60)
    assert await store.links.redeem_for("d", user(), at=NOW + 60) is Redeemed.GONE
    assert await store.users.get("ana") is None


async def test_of_new_users_at_once_one_is_added(store: Store) -> None:
    await store.links.put("d", OPEN)
    answers = await asyncio.gather(*(store.links.redeem_for("d", user(f"u{n}"), at=NOW) for n in range(10)))
    assert answers.count(Redeemed.DONE) == 1
    assert answers.count(Redeemed.GONE) == 9
    assert len(await store.users.everyone()) == 1


async def test_a_taken_name_leaves_the_link_unused(store: Store) -> None:
    await store.users.add(user())
    await store.links.put("d", OPEN)
    for name in ("ANA", "аnа"):
        assert await store.links.redeem_for("d", user(name), at=NOW) is Redeemed.TAKEN
    assert await store.links.redeem_for("d", user("bob"), at=NOW) is Redeemed.DONE
