from sockade.identity.stores import Store
from tests.contracts.records import NOW, begin, user


async def test_a_user_is_found_by_case_and_width_of_any_kind(store: Store) -> None:
    assert await store.users.add(user())
    assert await store.users.get("ANA") == user()
    assert await store.users.get("ａｎａ") == user()
    assert await store.users.get("bob") is None


async def test_a_name_is_taken_once(store: Store) -> None:
    assert await store.users.add(user())
    assert not await store.users.add(user("ANA", role="admin"))
    assert await store.users.everyone() == [user()]


async def test_a_name_that_looks_like_another_is_taken_too_and_finds_nobody(store: Store) -> None:
    assert await store.users.add(user("bob"))
    for name in ("b0b", "Воb", "ＢＯＢ"):
        assert not await store.users.add(user(name))
    assert await store.users.get("b0b") is None
    assert await store.users.set_role("b0b", "admin", at=NOW) is None
    assert [one.name for one in await store.users.everyone()] == ["bob"]
    assert await store.users.add(user("rob"))


async def test_everyone_comes_in_order(store: Store) -> None:
    for name in ("Zoë", "bob", "Ana"):
        await store.users.add(user(name))
    assert [one.name for one in await store.users.everyone()] == ["Ana", "bob", "Zoë"]


async def test_a_new_password_ends_every_session_of_that_user_alone(store: Store) -> None:
    for name in ("Ana", "bob"):
        await store.users.add(user(name))
    await begin(store, "a1")
    await begin(store, "a2")
    await begin(store, "b1", "bob")
    assert await store.users.set_password("ana", "new", at=NOW + 1) == {"a1", "a2"}
    assert await store.users.set_password("nobody", "new", at=NOW + 1) is None
    found = await store.users.get("ana")
    assert found is not None
    assert found.password_hash == "new"
    assert await store.sessions.by_cookie("cookie-a1") is None
    assert await store.sessions.by_cookie("cookie-b1") is not None


async def test_disabling_ends_every_session(store: Store) -> None:
    await store.users.add(user())
    await begin(store, "a1")
    assert await store.users.disable("ana", at=NOW + 1) == {"a1"}
    assert await store.users.disable("nobody", at=NOW + 1) is None
    found = await store.users.get("ana")
    assert found is not None
    assert found.disabled_at == NOW + 1


async def test_a_hash_is_upgraded_only_from_the_one_that_was_seen(store: Store) -> None:
    await store.users.add(user())
    await begin(store, "a1")
    assert not await store.users.upgrade_password("ana", "other", "new")
    assert await store.users.upgrade_password("ana", "phc", "new")
    assert not await store.users.upgrade_password("ana", "phc", "newer")
    found = await store.users.get("ana")
    assert found is not None
    assert found.password_hash == "new"
    assert await store.sessions.by_cookie("cookie-a1") is not None


async def test_any_password_counts_those_who_may_sign_in(store: Store) -> None:
    await store.users.add(user("linked", None))
    assert not await store.users.any_password()
    await store.users.add(user())
    assert await store.users.any_password()
    await store.users.disable("ana", at=NOW)
    assert not await store.users.any_password()
