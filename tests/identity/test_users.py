import pytest

from sockade.errors import UsageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Secret
from sockade.identity.passwords import BUSY
from tests.identity.world import PASSWORD, World, session_of


async def test_users_are_listed_by_name(here: World) -> None:
    await here.users.add("Bob", role="admin")
    assert [(user.name, user.role, user.password_hash is None) for user in await here.users.list()] == [
        ("ana", "user", False),
        ("Bob", "admin", True),
    ]
    assert "argon2" not in repr(await here.users.list())


@pytest.mark.parametrize(
    ("name", "role", "password", "sentence"),
    [
        ("a b", "user", PASSWORD, "A user name has"),
        ("ANA", "user", PASSWORD, "There is a user"),
        ("bob", "Super User", PASSWORD, "A role has"),
        ("bob", "user", Secret("short"), "12 to 128"),
    ],
)
async def test_what_cannot_be_added_is_one_sentence(
    here: World, name: str, role: str, password: Secret, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        await here.users.add(name, role=role, password=password)
    assert len(await here.users.list()) == 1


@pytest.mark.parametrize("name", ["bob", "no name"])
async def test_an_unknown_user_is_one_sentence(here: World, name: str) -> None:
    with pytest.raises(UsageError, match="There is no user"):
        await here.users.disable(name)
    with pytest.raises(UsageError, match="There is no user"):
        await here.users.set_password(name, PASSWORD)


async def test_a_new_password_ends_the_sessions_and_replaces_the_old_one(here: World) -> None:
    session = session_of((await here.cookie()).identity)
    new = Secret("another long password")
    assert await here.users.set_password("Ana", new) == {session}
    old = await here.authority.sign_in("ana", PASSWORD, address="", user_agent="")
    assert isinstance(old, Refuse)
    assert not isinstance(await here.authority.sign_in("ana", new, address="", user_agent=""), Refuse)


async def test_disabling_ends_the_sessions(here: World) -> None:
    session = session_of((await here.cookie()).identity)
    assert await here.users.disable("ANA") == {session}
    assert (await here.users.list())[0].disabled_at == here.clock.now


async def test_a_busy_machine_is_one_sentence(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(password: Secret) -> Refuse:
        return BUSY

    monkeypatch.setattr(here.passwords, "hash", busy)
    with pytest.raises(UsageError, match="busy"):
        await here.users.set_password("ana", PASSWORD)
