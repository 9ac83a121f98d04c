import asyncio
from pathlib import Path

import argon2
import pytest

from sockade.clock import SteppedClock
from sockade.errors import StorageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Identity, Secret, SessionId
from sockade.identity import revocations
from sockade.identity.authority import SignedIn, Tokens
from sockade.identity.keys import ServerKeys
from sockade.identity.passwords import BUSY, Passwords
from sockade.identity.refresh import A_MINUTE
from sockade.identity.revocations import Proof
from sockade.identity.tickets import Ticket
from sockade.settings import SessionSettings, Settings
from tests.identity.world import ORIGIN, PASSWORD, World, bearer, by_cookie, cheap, reason, session_of, world

WHERE = {"address": "192.0.2.1", "user_agent": "test"}


async def verified(here: World, credential: Credential, origin: str | None = ORIGIN) -> str:
    """Return the user, or the reason of the refusal."""
    answer = await here.authority.verify(credential, origin=origin)
    return answer.reason.value if isinstance(answer, Refuse) else answer.user


# Signing in.


async def test_a_password_starts_a_cookie_session(here: World) -> None:
    answer = await here.cookie("ANA")
    assert answer.expires_in == 28_800
    identity = await here.authority.verify(by_cookie(answer), origin=ORIGIN)
    assert identity == answer.identity
    assert identity == Identity(
        "ana", "user", frozenset(), session_of(answer.identity), expires_at=here.clock.now + 28_800
    )


@pytest.mark.parametrize("user", ["ana", "nobody", "off", "linked", "not a name"])
async def test_every_sign_in_that_fails_looks_the_same(here: World, user: str) -> None:
    """Case 35."""
    await here.users.add("off", password=PASSWORD)
    await here.users.disable("off")
    await here.users.add("linked")
    password = Secret("wrong horse battery") if user == "ana" else PASSWORD
    answer = await here.authority.sign_in(user, password, **WHERE)
    assert answer == Refuse(answer.reason, "unknown user or wrong password")  # type: ignore[union-attr]
    assert reason(answer) == "sign_in_failed"


async def test_a_hash_of_other_parameters_is_renewed_at_sign_in(here: World) -> None:
    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD.reveal())
    await here.database.users.set_password("ana", old, at=here.clock.now)
    answer = await here.cookie()
    user = await here.database.users.get("ana")
    assert user is not None
    assert user.password_hash is not None
    assert "m=8,t=1" in user.password_hash
    assert await verified(here, by_cookie(answer)) == "ana"
    await here.cookie()


async def test_a_hash_that_is_renewed_meanwhile_keeps_no_other_sign_in_out(here: World) -> None:
    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD.reveal())
    await here.database.users.set_password("ana", old, at=here.clock.now)
    answers = await asyncio.gather(*(here.authority.sign_in("ana", PASSWORD, **WHERE) for _ in range(6)))
    assert [reason(answer) for answer in answers if isinstance(answer, Refuse)] == []
    assert len(await here.authority.list_sessions("ana")) == 6


async def test_a_password_that_changes_while_its_hash_is_renewed_voids_the_sign_in(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD.reveal())
    await here.database.users.set_password("ana", old, at=here.clock.now)
    make = Passwords.hash

    async def slow(self: Passwords, password: Secret) -> str | Refuse:
        monkeypatch.setattr(Passwords, "hash", make)
        await here.users.set_password("ana", Secret("another long password"))
        return await make(self, password)

    monkeypatch.setattr(Passwords, "hash", slow)
    assert reason(await here.authority.sign_in("ana", PASSWORD, **WHERE)) == "sign_in_failed"
    assert await here.authority.list_sessions("ana") == []


async def test_who_finds_no_place_to_compare_with_a_renewed_hash_is_busy(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, hasher = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD.reveal()), cheap()
    await here.database.users.set_password("ana", old, at=here.clock.now)
    verify = Passwords.verify

    async def busy(self: Passwords, password: Secret, stored: str | None) -> bool | Refuse:
        return await verify(self, password, stored) if stored == old else BUSY

    async def slow(self: Passwords, password: Secret) -> str | Refuse:
        await here.database.users.upgrade_password("ana", old, hasher.hash(password.reveal()))
        return BUSY

    monkeypatch.setattr(Passwords, "verify", busy)
    monkeypatch.setattr(Passwords, "hash", slow)
    assert reason(await here.authority.sign_in("ana", PASSWORD, **WHERE)) == "busy"


async def test_a_password_that_changes_during_the_sign_in_voids_it(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Passwords.verify

    async def slow(self: Passwords, password: Secret, stored: str | None) -> bool | Refuse:
        right = await verify(self, password, stored)
        await here.users.set_password("ana", Secret("another long password"))
        return right

    monkeypatch.setattr(Passwords, "verify", slow)
    assert reason(await here.authority.sign_in("ana", PASSWORD, **WHERE)) == "sign_in_failed"
    assert await here.authority.list_sessions("ana") == []


async def test_a_role_that_changes_during_the_sign_in_voids_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await here.users.set_role("ana", "admin")
    verify = Passwords.verify

    async def slow(self: Passwords, password: Secret, stored: str | None) -> bool | Refuse:
        right = await verify(self, password, stored)
        await here.users.set_role("ana", "user")
        return right

    monkeypatch.setattr(Passwords, "verify", slow)
    assert reason(await here.authority.tokens("ana", PASSWORD, **WHERE)) == "sign_in_failed"
    monkeypatch.setattr(Passwords, "verify", verify)
    assert (await here.tokens()).identity.role == "user"


async def test_a_sign_in_that_finds_no_place_is_busy(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 36."""

    async def busy(password: Secret, stored: str | None = None) -> Refuse:
        return BUSY

    old = argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD.reveal())
    await here.database.users.set_password("ana", old, at=here.clock.now)
    monkeypatch.setattr(here.passwords, "hash", busy)
    await here.cookie()
    user = await here.database.users.get("ana")
    assert user is not None
    assert user.password_hash == old
    monkeypatch.setattr(here.passwords, "verify", busy)
    assert reason(await here.authority.sign_in("ana", PASSWORD, **WHERE)) == "busy"


# Cookie sessions.


@pytest.mark.parametrize("value", ["", "x" * 43, "x" * 42, "ü" * 43, "x" * 10_000])
async def test_a_guessed_cookie_is_refused(here: World, value: str) -> None:
    assert await verified(here, Credential(Carrier.COOKIE, Secret(value))) == "session_invalid"


async def test_an_idle_session_is_over(here: World) -> None:
    cookie = by_cookie(await here.cookie())
    here.clock.step(1_799)
    assert await verified(here, cookie) == "ana"
    here.clock.step(1_799)
    assert await verified(here, cookie) == "ana"
    here.clock.step(1_800)
    assert await verified(here, cookie) == "session_invalid"
    assert await here.authority.list_sessions("ana") == []


async def test_activity_extends_a_session_to_its_absolute_limit_and_no_further(here: World) -> None:
    cookie = by_cookie(await here.cookie())
    for _ in range(28_800 // 1_200 - 1):
        here.clock.step(1_200)
        assert await verified(here, cookie) == "ana"
    here.clock.step(1_199)
    assert await verified(here, cookie) == "ana"
    here.clock.step(1)
    assert await verified(here, cookie) == "session_invalid"


async def test_activity_is_written_at_most_once_a_minute(here: World) -> None:
    answer = await here.cookie()
    start = here.clock.now
    for _ in range(59):
        here.clock.step(1)
        await verified(here, by_cookie(answer))
    [session] = await here.authority.list_sessions("ana")
    assert session.last_seen_at == start
    here.clock.step(1)
    await verified(here, by_cookie(answer))
    [session] = await here.authority.list_sessions("ana")
    assert session.last_seen_at == start + 60


async def test_an_open_connection_in_use_keeps_its_session_from_idling(here: World) -> None:
    answer = await here.cookie()
    for _ in range(40):
        here.clock.step(60)
        here.authority.seen(session_of(answer.identity))
        await here.authority.poll()
    assert await verified(here, by_cookie(answer)) == "ana"


async def test_the_oldest_session_gives_way_to_the_eleventh(here: World) -> None:
    answers = []
    for _ in range(11):
        here.clock.step(1)
        answers.append(await here.cookie())
    assert await verified(here, by_cookie(answers[0])) == "session_invalid"
    assert {await verified(here, by_cookie(answer)) for answer in answers[1:]} == {"ana"}
    assert here.ended == [frozenset({session_of(answers[0].identity)})]


# Tokens.


async def test_an_access_token_opens_until_its_session_ends(here: World) -> None:
    tokens = await here.tokens()
    assert tokens.expires_in == 300
    assert await verified(here, bearer(tokens), None) == "ana"
    assert await here.authority.sign_out(session_of(tokens.identity))
    assert await verified(here, bearer(tokens), None) == "revoked"


async def test_a_page_gets_access_tokens_for_its_session(here: World) -> None:
    answer = await here.cookie()
    tokens = await here.authority.access_token(answer.identity)
    assert isinstance(tokens, Tokens)
    assert tokens.refresh_token is None
    identity = await here.authority.verify(bearer(tokens), origin=None)
    assert isinstance(identity, Identity)
    assert identity.session == answer.identity.session
    await here.authority.sign_out(session_of(answer.identity))
    assert reason(await here.authority.access_token(answer.identity)) == "session_invalid"
    assert reason(await here.authority.access_token(Identity("ana"))) == "forbidden"


async def test_the_role_of_now_goes_into_new_tokens(here: World) -> None:
    await here.users.add("eve", role="admin", password=PASSWORD)
    assert (await here.tokens("eve")).identity.role == "admin"
    assert (await here.tokens("ana")).identity.role == "user"


async def refreshed(here: World, token: Secret | None) -> Tokens:
    assert token is not None
    answer = await here.authority.refresh(token)
    assert isinstance(answer, Tokens), answer
    return answer


async def test_a_refresh_token_rotates(here: World) -> None:
    first = await here.tokens()
    second = await refreshed(here, first.refresh_token)
    third = await refreshed(here, second.refresh_token)
    values = {t.refresh_token.reveal() for t in (first, second, third) if t.refresh_token is not None}
    assert len(values) == 3
    assert third.identity.session == first.identity.session
    assert await verified(here, bearer(third), None) == "ana"


async def test_two_tabs_that_refresh_at_once_get_the_same_token(here: World) -> None:
    """Case 44."""
    first = await here.tokens()
    answers = await asyncio.gather(*(refreshed(here, first.refresh_token) for _ in range(8)))
    here.clock.step(10)
    answers.append(await refreshed(here, first.refresh_token))
    assert len({a.refresh_token.reveal() for a in answers if a.refresh_token is not None}) == 1
    assert here.ended == []


async def test_the_predecessor_after_its_grace_ends_the_session(here: World) -> None:
    """Case 44."""
    first = await here.tokens()
    second = await refreshed(here, first.refresh_token)
    here.clock.step(10.1)
    assert first.refresh_token is not None
    assert second.refresh_token is not None
    assert reason(await here.authority.refresh(first.refresh_token)) == "revoked"
    assert here.ended == [frozenset({session_of(first.identity)})]
    assert reason(await here.authority.refresh(second.refresh_token)) == "token_invalid"
    assert await verified(here, bearer(second), None) == "revoked"


async def test_an_older_token_ends_the_session_even_at_once(here: World) -> None:
    first = await here.tokens()
    second = await refreshed(here, first.refresh_token)
    await refreshed(here, second.refresh_token)
    assert first.refresh_token is not None
    assert reason(await here.authority.refresh(first.refresh_token)) == "revoked"
    assert await here.authority.list_sessions("ana") == []


async def test_who_refreshes_in_a_loop_has_to_wait_and_stays_signed_in(here: World) -> None:
    tokens = await here.tokens()
    count = 0
    while True:
        assert tokens.refresh_token is not None
        answer = await here.authority.refresh(tokens.refresh_token)
        if isinstance(answer, Refuse):
            break
        tokens, count = answer, count + 1
    assert (reason(answer), count) == ("rate_limited", A_MINUTE - 1)  # the first one came with the sign-in
    assert answer.retry_after is not None
    here.clock.step(answer.retry_after)
    assert isinstance(await here.authority.refresh(tokens.refresh_token), Tokens)


async def test_refreshing_does_not_extend_the_absolute_limit(here: World) -> None:
    await assert_last_for(here, 28_800)


async def test_a_family_of_refresh_tokens_may_end_before_the_absolute_limit(tmp_path: Path) -> None:
    async with world(tmp_path / "data", Settings(sessions=SessionSettings(refresh_seconds=600))) as here:
        await assert_last_for(here, 600)


async def assert_last_for(here: World, seconds: int) -> None:
    tokens = await here.tokens()
    here.clock.step(seconds - 1)
    tokens = await refreshed(here, tokens.refresh_token)
    assert tokens.expires_in == 1
    here.clock.step(1)
    assert tokens.refresh_token is not None
    assert reason(await here.authority.refresh(tokens.refresh_token)) == "token_invalid"


async def test_another_refresh_key_signs_nobody_out(here: World) -> None:
    """What the sentence about a damaged one offers."""
    tokens = await here.tokens()
    assert tokens.refresh_token is not None
    (here.data_dir / "keys" / "refresh.key").unlink()
    here.keys = ServerKeys.open(here.data_dir, now=here.clock.now)
    assert isinstance(await here.again().refresh(tokens.refresh_token), Tokens)


@pytest.mark.parametrize("value", ["", "x" * 43, "eyJ.x.y"])
async def test_a_guessed_refresh_token_is_refused(here: World, value: str) -> None:
    assert reason(await here.authority.refresh(Secret(value))) == "token_invalid"


async def test_no_secret_stands_for_another(here: World) -> None:
    """Case 27."""
    cookie, tokens = await here.cookie(), await here.tokens()
    ticket = here.authority.issue_ticket(Proof(cookie.identity), ORIGIN)
    assert isinstance(ticket, Ticket)
    assert tokens.refresh_token is not None
    for secret in (cookie.cookie, tokens.refresh_token, ticket.value):
        assert await verified(here, Credential(Carrier.BEARER, secret)) == "token_invalid"
    for secret in (tokens.access_token, tokens.refresh_token, ticket.value):
        assert await verified(here, Credential(Carrier.COOKIE, secret)) == "session_invalid"
        assert reason(await here.authority.sign_in_by_link(secret, "bob", **WHERE)) == "sign_in_failed"
    for secret in (cookie.cookie, tokens.access_token, ticket.value):
        assert reason(await here.authority.refresh(secret)) == "token_invalid"
    for secret in (cookie.cookie, tokens.access_token, tokens.refresh_token):
        assert await verified(here, Credential(Carrier.TICKET, secret)) == "ticket_invalid"


async def test_the_administrator_gets_tokens_for_a_user(here: World) -> None:
    tokens = await here.authority.tokens_for("ana", user_agent="cli")
    assert isinstance(tokens, Tokens)
    assert await verified(here, bearer(tokens), None) == "ana"
    await here.users.disable("ana")
    assert reason(await here.authority.tokens_for("ana")) == "sign_in_failed"


# Tickets.


async def ticket(here: World, answer: SignedIn, origin: str = ORIGIN) -> Credential:
    issued = here.authority.issue_ticket(Proof(answer.identity), origin)
    assert isinstance(issued, Ticket)
    return Credential(Carrier.TICKET, issued.value)


async def test_of_200_handshakes_with_one_ticket_one_wins(here: World) -> None:
    """Case 30."""
    shown = await ticket(here, await here.cookie())
    answers = await asyncio.gather(*(verified(here, shown) for _ in range(200)))
    assert sorted(answers) == ["ana"] + ["ticket_invalid"] * 199


async def test_a_ticket_is_for_its_origin_in_whatever_case(here: World) -> None:
    answer = await here.cookie()
    assert await verified(here, await ticket(here, answer, "HTTPS://LOCALHOST:8443")) == "ana"
    for origin in (None, "null", "https://localhost", "https://evil.example:8443", ORIGIN + "/"):
        assert await verified(here, await ticket(here, answer), origin) == "ticket_invalid"


async def test_a_ticket_of_an_ended_session_is_refused(here: World) -> None:
    """Case 31."""
    answer, other = await here.cookie(), await here.cookie()
    shown, of_other = await ticket(here, answer), await ticket(here, other)
    await here.authority.sign_out(session_of(answer.identity))
    assert await verified(here, shown) == "ticket_invalid"
    assert await verified(here, await ticket(here, answer)) == "revoked"
    assert await verified(here, of_other) == "ana"


async def proved(here: World, credential: Credential) -> Proof:
    proof = await here.authority.prove(credential, origin=None)
    assert isinstance(proof, Proof)
    assert proof.token is not None
    return proof


async def test_a_ticket_of_a_token_that_was_revoked_meanwhile_is_refused(here: World) -> None:
    """Case 31."""
    proof = await proved(here, bearer(await here.tokens()))
    await here.authority.revoke_token(proof.token or "")
    issued = here.authority.issue_ticket(proof, ORIGIN)
    assert isinstance(issued, Ticket)
    assert await verified(here, Credential(Carrier.TICKET, issued.value)) == "revoked"


async def test_what_a_ticket_opened_closes_when_its_token_is_revoked(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 42: though so many others were shown meanwhile that the token itself is forgotten."""
    monkeypatch.setattr(revocations, "MAX_REMEMBERED", 1)
    proof = await proved(here, bearer(await here.tokens()))
    issued = here.authority.issue_ticket(proof, ORIGIN)
    assert isinstance(issued, Ticket)
    assert await verified(here, bearer(await here.tokens()), None) == "ana"
    assert await verified(here, Credential(Carrier.TICKET, issued.value)) == "ana"
    await here.authority.revoke_token(proof.token or "")
    assert here.ended == [frozenset({session_of(proof.identity)})]


async def test_tokens_that_open_nothing_make_no_other_forgotten(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 42."""
    monkeypatch.setattr(revocations, "MAX_REMEMBERED", 3)
    opened = await here.tokens()
    token = (await proved(here, bearer(opened))).token
    assert await verified(here, bearer(opened), None) == "ana"
    for _ in range(4):
        await proved(here, bearer(await here.tokens()))
    await here.authority.revoke_token(token or "")
    assert here.ended == [frozenset({session_of(opened.identity)})]


async def test_a_ticket_needs_an_origin(here: World) -> None:
    answer = await here.cookie()
    assert reason(here.authority.issue_ticket(Proof(answer.identity), "null")) == "bad_request"


# Links.


async def test_an_open_link_makes_one_user(here: World) -> None:
    link, seconds = await here.authority.create_link(role="admin")
    assert seconds == 3_600
    answer = await here.authority.sign_in_by_link(link, "Zoe\u0308", **WHERE)
    assert isinstance(answer, SignedIn)
    assert (answer.identity.user, answer.identity.role) == ("Zoë", "admin")
    assert reason(await here.authority.sign_in_by_link(link, "bob", **WHERE)) == "sign_in_failed"


async def test_of_two_who_redeem_a_link_at_once_one_wins(here: World) -> None:
    link, _ = await here.authority.create_link()
    answers = await asyncio.gather(
        *(here.authority.sign_in_by_link(link, f"user{number}", **WHERE) for number in range(10))
    )
    assert [type(answer) for answer in answers].count(SignedIn) == 1
    assert len(await here.users.list()) == 2


@pytest.mark.parametrize(
    ("username", "expected"),
    [(None, "username_required"), ("ANA", "username_taken"), ("a b", "username_invalid"), ("", "username_invalid")],
)
async def test_a_name_that_will_not_do_leaves_the_link_unused(here: World, username: str | None, expected: str) -> None:
    link, _ = await here.authority.create_link()
    assert reason(await here.authority.sign_in_by_link(link, username, **WHERE)) == expected
    assert isinstance(await here.authority.sign_in_by_link(link, "bob", **WHERE), SignedIn)


async def test_a_link_lives_an_hour(here: World) -> None:
    link, _ = await here.authority.create_link()
    here.clock.step(3_600)
    assert reason(await here.authority.sign_in_by_link(link, "ana", **WHERE)) == "sign_in_failed"


async def test_a_link_of_a_user_signs_that_user_in_once(here: World) -> None:
    link, _ = await here.authority.create_link("ana")
    answers = await asyncio.gather(*(here.authority.tokens_by_link(link, None, **WHERE) for _ in range(5)))
    [tokens] = [answer for answer in answers if isinstance(answer, Tokens)]
    assert tokens.identity.user == "ana"
    assert await verified(here, bearer(tokens), None) == "ana"


async def test_a_link_of_a_disabled_user_is_refused(here: World) -> None:
    link, _ = await here.authority.create_link("ana")
    await here.users.disable("ana")
    assert reason(await here.authority.sign_in_by_link(link, None, **WHERE)) == "sign_in_failed"


async def test_a_first_link_is_needed_until_someone_has_a_password(here: World) -> None:
    assert not await here.authority.needs_first_link()
    await here.users.disable("ana")
    await here.users.add("bob")
    assert await here.authority.needs_first_link()


# Endings.


async def test_ending_a_session_is_heard_of_once(here: World) -> None:
    """Case 42."""
    answer, other = await here.cookie(), await here.cookie()
    session = session_of(answer.identity)
    assert not here.authority.is_ended(session)
    assert await here.authority.sign_out(session)
    assert not await here.authority.sign_out(session)
    assert here.authority.is_ended(session)
    assert here.ended == [frozenset({session})]
    await here.authority.poll()
    assert here.ended == [frozenset({session})]
    assert await verified(here, by_cookie(answer)) == "session_invalid"
    assert await verified(here, by_cookie(other)) == "ana"


async def test_users_end_their_own_sessions_only(here: World) -> None:
    await here.users.add("bob", password=PASSWORD)
    mine, theirs = session_of((await here.cookie()).identity), session_of((await here.cookie("bob")).identity)
    assert not await here.authority.end_session("ana", theirs)
    assert not await here.authority.end_session("ana", SessionId("none"))
    assert await here.authority.end_session("ana", mine)
    assert here.ended == [frozenset({mine})]


async def test_ending_a_user_ends_every_session(here: World) -> None:
    sessions = {session_of((await here.cookie()).identity), session_of((await here.tokens()).identity)}
    assert await here.authority.end_user("ANA", "admin") == sessions
    assert here.ended == [sessions]


@pytest.mark.parametrize("what", ["disable", "password", "end"])
async def test_what_another_process_ended_is_picked_up_by_the_next_poll(here: World, what: str) -> None:
    """Case 42."""
    answer, tokens = await here.cookie(), await here.tokens()
    await here.authority.poll()
    here.clock.step(1)
    if what == "disable":
        await here.users.disable("ana")
    elif what == "password":
        await here.users.set_password("ana", Secret("another long password"))
    else:
        await here.again().end_user("ana", "admin")
    assert await verified(here, by_cookie(answer)) == "session_invalid"
    here.clock.step(1)
    await here.authority.poll()
    assert here.ended == [frozenset({session_of(answer.identity), session_of(tokens.identity)})]
    assert await verified(here, bearer(tokens), None) == "revoked"


async def test_the_store_is_asked_when_its_version_changed_and_now_and_then(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 42."""
    sessions = [session_of((await here.cookie()).identity) for _ in range(2)]
    version: object = 1
    monkeypatch.setattr(here.database, "version", lambda: version)
    authority = here.again()
    await authority.poll()
    other = here.again()
    await other.end_session("ana", sessions[0])
    here.clock.step(1)
    await authority.poll()
    assert not authority.is_ended(sessions[0])
    version = 2
    here.clock.step(1)
    await authority.poll()
    assert authority.is_ended(sessions[0])
    # A version that tells nothing new is not believed for long.
    await other.end_session("ana", sessions[1])
    here.clock.step(4)
    await authority.poll()
    assert not authority.is_ended(sessions[1])
    here.clock.step(1)
    await authority.poll()
    assert authority.is_ended(sessions[1])


async def test_a_version_that_is_unknown_has_the_store_asked_each_time(here: World) -> None:
    """Case 42."""
    session = session_of((await here.cookie()).identity)
    assert here.database.version() is None  # just written
    for _ in range(2):
        await here.authority.poll()
    await here.again().end_session("ana", session)
    await here.authority.poll()
    assert here.authority.is_ended(session)


async def test_who_is_signed_in_stays_known_while_nothing_is_committed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here.database, "version", lambda: 1)
    authority = here.again()
    tokens = await here.tokens()
    await authority.poll()

    async def asked(since: float) -> dict[SessionId, str]:
        raise AssertionError

    monkeypatch.setattr(here.database.sessions, "ended_since", asked)
    here.clock.step(4.9)
    await authority.poll()
    here.clock.step(9)
    answer = await authority.verify(bearer(tokens), origin=None)
    assert isinstance(answer, Identity)


@pytest.mark.parametrize("jump", [-3_600, 3_600])
async def test_a_jump_of_the_wall_clock_loses_no_ending(
    here: World, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Case 46."""
    tokens = await here.tokens()
    await here.authority.poll()
    await here.again().end_user("ana", "admin")
    monkeypatch.setattr(SteppedClock, "wall", lambda self: self.now + jump)
    await here.authority.poll()
    assert here.authority.is_ended(session_of(tokens.identity))


@pytest.mark.parametrize("back", [100, 310, 425])
async def test_a_clock_that_is_set_back_brings_no_session_back(
    here: World, monkeypatch: pytest.MonkeyPatch, back: float
) -> None:
    """Case 46."""
    monkeypatch.setattr(here.database, "version", lambda: 1)
    authority = here.again()
    tokens = await here.tokens()
    await authority.sign_out(session_of(tokens.identity))
    for _ in range(40):
        here.clock.step(10)
        await authority.poll()
    assert not authority.is_ended(session_of(tokens.identity))
    monkeypatch.setattr(SteppedClock, "wall", lambda self: self.now - back)
    for _ in range(80):
        await authority.poll()
        refused = await authority.verify(bearer(tokens), origin=None)
        assert reason(refused) in ("revoked", "token_expired", "token_invalid")
        here.clock.step(5)


async def test_endings_are_forgotten_when_no_token_can_be_left(here: World) -> None:
    tokens = await here.tokens()
    await here.authority.sign_out(session_of(tokens.identity))
    here.clock.step(300 + 30)
    await here.authority.poll()
    assert here.authority.is_ended(session_of(tokens.identity))
    here.clock.step(60)
    await here.authority.poll()
    assert not here.authority.is_ended(session_of(tokens.identity))
    assert await verified(here, bearer(tokens), None) == "token_expired"


async def test_a_restart_keeps_sessions_and_endings(tmp_path: Path) -> None:
    """Case 45."""
    clock = SteppedClock()
    async with world(tmp_path, clock=clock) as before:
        kept, ended = await before.cookie(), await before.cookie()
        tokens, refreshable = await before.tokens(), await before.tokens()
        await before.authority.sign_out(session_of(ended.identity))
        await before.authority.sign_out(session_of(tokens.identity))
        rotated = await refreshed(before, refreshable.refresh_token)
    clock.step(5)
    async with world(tmp_path, clock=clock) as after:
        assert await verified(after, by_cookie(kept)) == "ana"
        assert await verified(after, by_cookie(ended)) == "session_invalid"
        assert await verified(after, bearer(tokens), None) == "revoked"
        again = await refreshed(after, refreshable.refresh_token)
        assert again.refresh_token is not None
        assert rotated.refresh_token is not None
        assert again.refresh_token.reveal() == rotated.refresh_token.reveal()


# A store that fails.


async def test_without_the_store_nobody_is_admitted(here: World) -> None:
    answer, tokens = await here.cookie(), await here.tokens()
    shown = await ticket(here, answer)
    assert await verified(here, bearer(tokens), None) == "ana"
    await here.database.close()
    here.clock.step(10)
    assert await verified(here, by_cookie(answer)) == "busy"
    assert await verified(here, bearer(tokens), None) == "busy"
    assert await verified(here, shown) == "busy"
    with pytest.raises(StorageError):
        await here.authority.poll()
    with pytest.raises(StorageError):
        await here.authority.sign_in("ana", PASSWORD, **WHERE)


async def test_a_key_is_retired_though_the_store_fails(here: World) -> None:
    """Case 28."""
    first = here.keys.signing_kid
    ServerKeys.rotate(here.data_dir, now=here.clock.now + 1)
    next(here.data_dir.glob(f"keys/*{first}*")).unlink()
    await here.database.close()
    here.clock.step(10)
    with pytest.raises(StorageError):
        await here.authority.poll()
    assert first not in here.keys.verifying(here.clock.now, 330)


async def test_what_is_wrong_with_keys_is_told_once_until_it_is_mended(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = here.data_dir / "keys" / f"signing.5.{'x' * 43}.pem"
    for content in (b"nonsense", None, b"nonsense"):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
            path.chmod(0o600)
        for _ in range(3):
            await here.authority.poll()
    assert [path.name in line for line in caplog.messages] == [True, True]


async def test_activity_that_could_not_be_written_is_written_later(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await here.cookie()
    seen = here.database.sessions.seen

    async def fails(*args: object, **kwargs: object) -> None:
        raise StorageError("disk full")

    here.clock.step(60)
    here.authority.seen(session_of(answer.identity))
    monkeypatch.setattr(here.database.sessions, "seen", fails)
    with pytest.raises(StorageError):
        await here.authority.poll()
    monkeypatch.setattr(here.database.sessions, "seen", seen)
    here.clock.step(60)
    await here.authority.poll()
    [session] = await here.authority.list_sessions("ana")
    assert session.last_seen_at == here.clock.now


async def test_what_is_long_over_is_purged(here: World) -> None:
    await here.tokens()
    await here.authority.create_link()
    here.clock.step(9 * 86_400)
    await here.authority.poll()
    assert await here.database.sessions.of_user("ana", now=0) == []


async def test_a_short_idle_limit_does_not_end_sessions_in_use(tmp_path: Path) -> None:
    settings = Settings(sessions=SessionSettings(idle_seconds=20))
    async with world(tmp_path, settings) as here:
        cookie = by_cookie(await here.cookie())
        for _ in range(30):
            here.clock.step(15)
            assert await verified(here, cookie) == "ana"


async def test_a_cookie_is_recognized_from_memory_only_while_endings_are_known(here: World) -> None:
    """Case 42."""
    cookie = by_cookie(await here.cookie())
    await here.authority.poll()
    assert await verified(here, cookie) == "ana"
    # Ended by another process, which tells nobody.
    await here.database.users.disable("ana", at=here.clock.now)
    assert await verified(here, cookie) == "ana"
    here.clock.step(1.5)
    assert await verified(here, cookie) == "session_invalid"


async def test_a_cookie_in_memory_keeps_to_the_absolute_limit(tmp_path: Path) -> None:
    """Case 41."""
    async with world(tmp_path / "data", Settings(sessions=SessionSettings(absolute_seconds=20))) as here:
        cookie = by_cookie(await here.cookie())
        await here.authority.poll()
        assert await verified(here, cookie) == "ana"
        here.clock.step(20)
        await here.authority.poll()
        assert await verified(here, cookie) == "session_invalid"


async def test_a_store_that_fails_refuses_cookies_that_were_recognized(here: World) -> None:
    cookie = by_cookie(await here.cookie())
    await here.authority.poll()
    assert await verified(here, cookie) == "ana"
    await here.database.close()
    here.clock.step(1.5)
    assert await verified(here, cookie) == "busy"
