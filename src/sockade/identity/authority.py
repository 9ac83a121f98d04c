"""The one face of identity: who is this, and is that still true.

Whatever the doors and endpoints ask about credentials, sign-ins and sessions goes through here. It always holds that
a store that cannot be asked leads to a refusal (BUSY), never to admission, and that everyone who asked with `on_end`
hears of every session that ends, whoever ended it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from sockade.errors import StartError, StorageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import NOBODY, Carrier, Identity
from sockade.guard.origin import canonical_origin
from sockade.identity.digests import digest
from sockade.identity.endings import Endings
from sockade.identity.grants import SubscriptionTokens
from sockade.identity.issuers import Issuers, is_external
from sockade.identity.links import Links
from sockade.identity.names import folded
from sockade.identity.proofs import Proofs
from sockade.identity.recognized import Recognized
from sockade.identity.refresh import RefreshTokens
from sockade.identity.revocations import Proof, Revocations
from sockade.identity.sessions import Sessions, identity_of
from sockade.identity.stores import RevocationKind, SessionKind
from sockade.identity.tickets import Ticket, Tickets
from sockade.identity.tokens import AccessTokens
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sockade.clock import Clock
    from sockade.guard.identity import Credential, Grant, Secret, SessionId
    from sockade.identity.keys import ServerKeys
    from sockade.identity.passwords import Passwords
    from sockade.identity.proofs import Proved
    from sockade.identity.stores import Session, Store
    from sockade.settings import Settings

UNKNOWN = Identity(NOBODY, role="")
"""Who is there until a first message says it."""
UNAVAILABLE = Refuse(Reason.BUSY, "the store failed", retry_after=5)
PURGE_SECONDS = 3_600.0
KEEP_SECONDS = 7 * 86_400.0
"""How long what is over is kept for looking back at it."""

logger = logging.getLogger("sockade.identity")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new cookie session; `expires_in` is in seconds."""

    identity: Identity
    cookie: Secret
    expires_in: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a session; `expires_in` is the access token's, in seconds."""

    identity: Identity
    access_token: Secret
    refresh_token: Secret | None
    expires_in: int


class Authority:
    """Verifies credentials, signs in and out, and issues what this server issues."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        store: Store,
        keys: ServerKeys,
        passwords: Passwords,
        issuers: Issuers | None = None,
    ) -> None:
        """`issuers` are the others whose tokens are accepted; by default those of the settings."""
        self._clock = clock
        self._store = store
        self._keys = keys
        # Twice: by a clock that was set back a token may be of a moment that is yet to come.
        remember = settings.credentials.access_token_seconds + 2 * settings.credentials.leeway_seconds
        self._revocations = Revocations(store.revocations, clock)
        self._endings = Endings(
            store.sessions, clock, remember_seconds=remember, also=self._revocations.learn, version=store.version
        )
        self._issuers = issuers or Issuers(settings, clock)
        self._renewals: list[Callable[[Identity], None]] = []
        self._recognized = Recognized()
        self._sessions = Sessions(store.sessions, self._endings, settings.sessions, clock, self._recognized)
        self._tokens = AccessTokens(keys, settings.credentials, clock)
        self._subscription_tokens = SubscriptionTokens(keys, settings.credentials, clock)
        self._tickets = Tickets(clock, seconds=settings.credentials.ticket_seconds)
        self._links = Links(store.links, store.users, clock, seconds=settings.credentials.link_seconds)
        self._proofs = Proofs(store.users, passwords, self._links)
        self._refresh = RefreshTokens(
            store.sessions,
            self._sessions,
            keys.refresh,
            clock,
            self._recognized,
            grace_seconds=settings.sessions.refresh_grace_seconds,
        )
        self._purge_at = clock.monotonic() + PURGE_SECONDS
        self._wrong_keys = ""
        self._endings.on_end(self._tickets.drop)

    # What a client shows.

    async def verify(self, credential: Credential, *, origin: str | None) -> Identity | Refuse:
        """Return whom a credential that opens something proves, or the refusal; `origin` is the request's header.

        A ticket is used up before anything is awaited. A token is noted, so that a revocation finds what it opened.
        """
        proof = await self.prove(credential, origin=origin)
        if isinstance(proof, Refuse):
            return proof
        self._revocations.note(proof)
        return proof.identity

    async def prove(self, credential: Credential, *, origin: str | None) -> Proof | Refuse:
        """Return what a credential proves, and how that could be revoked: what `verify` says the identity of."""
        try:
            match credential.carrier:
                case Carrier.COOKIE:
                    session = await self._sessions.by_cookie(credential.value)
                    return session if isinstance(session, Refuse) else Proof(identity_of(session))
                case Carrier.BEARER:
                    issuer, token = self._issuers.of(credential.value), credential.value
                    found = self._tokens.prove(token) if issuer is None else await issuer.prove(token.reveal())
                    return await self._unless_taken_back(found)
                case Carrier.TICKET:
                    canonical = canonical_origin(origin) if origin is not None else None
                    return await self._unless_taken_back(self._tickets.redeem(credential.value, canonical))
                case Carrier.FIRST_MESSAGE:
                    return Proof(UNKNOWN)
                case _:
                    assert_never(credential.carrier)
        except StorageError:
            return UNAVAILABLE

    def recognizes(self, secret: Secret) -> bool:
        """Tell whether a cookie or refresh token was issued or found here lately, so that it is no guess. Never waits.

        It may have been used up or taken back since.
        """
        return digest(secret) in self._recognized

    async def grant(self, token: Secret, user: str, channel: str) -> Grant | Refuse:
        """Return what a subscription token grants, if it names this user and this channel."""
        issuer = self._issuers.of(token)
        found = self._subscription_tokens.prove(token) if issuer is None else await issuer.grant(token.reveal())
        if isinstance(found, Refuse):
            return found
        grant, proof = found
        if grant.user != user or grant.channel != channel:
            return Refuse(Reason.TOKEN_INVALID, "a subscription token for another user or channel")
        if self._revocations.covers(proof):
            return Refuse(Reason.REVOKED, "the subscription token was revoked")
        return replace(grant, holds=lambda: not self._revocations.covers(proof))

    def subscription_token(
        self, user: str, channel: str, seconds: float | None = None, info: bytes | None = None
    ) -> str:
        """Return a subscription token; `info` is JSON that others are shown."""
        return self._subscription_tokens.issue(user, channel, seconds, info).reveal()

    def is_ended(self, session: SessionId) -> bool:
        """Tell whether a session is known to have ended while this process runs. Never waits."""
        return self._endings.is_ended(session)

    def on_end(self, callback: Callable[[frozenset[SessionId]], None]) -> None:
        """Have `callback` called when sessions end, so that their connections are closed. It must not raise."""
        self._endings.on_end(callback)

    def on_revoke(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when tokens were revoked, so that what they granted is ended. It must not raise."""
        self._revocations.on_revoke(callback)

    def on_renew(self, callback: Callable[[Identity], None]) -> None:
        """Have `callback` called with the identity of each renewed session: its rights of now, and its new end.

        Connections of the session go on under it. It must not raise.
        """
        self._renewals.append(callback)

    def seen(self, session: SessionId) -> None:
        """Note that an open connection was used: that counts against the idle limit. Cheap; `poll` writes it."""
        self._sessions.seen(session)

    async def _unless_taken_back(self, proof: Proof | Refuse) -> Proof | Refuse:
        """Refuse what rests on an ended session or a revoked token, as far as the store said lately."""
        if isinstance(proof, Refuse):
            return proof
        await self._endings.ensure_fresh()
        # Asked when nothing is awaited any more: what was revoked meanwhile is known.
        if self._revocations.covers(proof):
            return Refuse(Reason.REVOKED, "the token was revoked")
        session = proof.identity.session
        if session is None or self._endings.is_ended(session):
            return Refuse(Reason.REVOKED, "the session was ended")
        return proof

    # Signing in.

    async def sign_in(self, username: str, password: Secret, *, address: str, user_agent: str) -> SignedIn | Refuse:
        """Start a cookie session for a user name and password; SIGN_IN_FAILED says no more than that."""
        proved = await self._proofs.by_password(username, password)
        return proved if isinstance(proved, Refuse) else await self._with_cookie(proved, address, user_agent)

    async def sign_in_by_link(
        self, link: Secret, username: str | None, *, address: str, user_agent: str
    ) -> SignedIn | Refuse:
        """Start a cookie session for a sign-in link; USERNAME_… refusals leave the link unused."""
        proved = await self._proofs.by_link(link, username)
        return proved if isinstance(proved, Refuse) else await self._with_cookie(proved, address, user_agent)

    async def tokens(self, username: str, password: Secret, *, address: str, user_agent: str) -> Tokens | Refuse:
        """Start a token session for a user name and password."""
        proved = await self._proofs.by_password(username, password)
        return proved if isinstance(proved, Refuse) else await self._with_tokens(proved, address, user_agent)

    async def tokens_by_link(
        self, link: Secret, username: str | None, *, address: str, user_agent: str
    ) -> Tokens | Refuse:
        """Start a token session for a sign-in link."""
        proved = await self._proofs.by_link(link, username)
        return proved if isinstance(proved, Refuse) else await self._with_tokens(proved, address, user_agent)

    async def tokens_for(self, username: str, *, user_agent: str = "") -> Tokens | Refuse:
        """Start a token session for a user without a proof: for whoever administers the server."""
        proved = await self._proofs.by_administrator(username)
        return proved if isinstance(proved, Refuse) else await self._with_tokens(proved, "", user_agent)

    async def _with_cookie(self, proved: Proved, address: str, user_agent: str) -> SignedIn | Refuse:
        started = await self._sessions.start(
            proved.user, SessionKind.COOKIE, address=address, user_agent=user_agent, proved_by=proved.password_hash
        )
        if isinstance(started, Refuse):
            return started
        session, cookie = started
        return SignedIn(identity_of(session), cookie, int(session.expires_at - session.created_at))

    async def _with_tokens(self, proved: Proved, address: str, user_agent: str) -> Tokens | Refuse:
        started = await self._sessions.start(
            proved.user, SessionKind.TOKEN, address=address, user_agent=user_agent, proved_by=proved.password_hash
        )
        return started if isinstance(started, Refuse) else self._issue(*started)

    def _issue(self, session: Session, refresh_token: Secret | None) -> Tokens:
        token, expires_in = self._tokens.issue(session)
        return Tokens(identity_of(session), token, refresh_token, expires_in)

    # What a session can be turned into.

    async def refresh(self, refresh_token: Secret) -> Tokens | Refuse:
        """Return new tokens for a refresh token; one that was used before ends the session (REVOKED)."""
        rotated = await self._refresh.rotate(refresh_token)
        return rotated if isinstance(rotated, Refuse) else self._renew(*rotated)

    async def access_token(self, identity: Identity) -> Tokens | Refuse:
        """Return an access token, without a refresh token, for a verified identity's session."""
        if identity.session is None:
            return Refuse(Reason.FORBIDDEN, "an access token needs a session")
        session = await self._sessions.live(identity.session)
        return session if isinstance(session, Refuse) else self._renew(session, None)

    def renew(self, proof: Proof) -> Refuse | None:
        """Let the connections of another issuer's session go on with the newer token that was just verified.

        A session of ours goes on by its refresh token or cookie: an access token that could prolong itself would
        never expire (FORBIDDEN).
        """
        if not is_external(proof.identity.session):
            return Refuse(Reason.FORBIDDEN, "an access token of this server renews nothing")
        self._revocations.note(proof)
        self._renewed(proof.identity)
        return None

    def _renew(self, session: Session, refresh_token: Secret | None) -> Tokens:
        tokens = self._issue(session, refresh_token)
        identity = tokens.identity
        if session.kind is SessionKind.TOKEN:
            identity = replace(identity, expires_at=self._clock.wall() + tokens.expires_in)
        self._renewed(identity)
        return tokens

    def _renewed(self, identity: Identity) -> None:
        for callback in self._renewals:
            callback(identity)

    def issue_ticket(self, proof: Proof, origin: str) -> Ticket | Refuse:
        """Issue a ticket bound to what was proved, its session and the Origin of the page that will show it."""
        canonical = canonical_origin(origin)
        if canonical is None:
            return Refuse(Reason.BAD_REQUEST, "not an Origin")
        return self._tickets.issue(proof, canonical)

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Return the public key set that access tokens are verified with."""
        return self._tokens.jwks()

    # Sessions and links.

    async def sign_out(self, session: SessionId, reason: str = "signed_out") -> bool:
        """End a session, ours or another issuer's; tell whether it was live."""
        if is_external(session):
            await self._revoke(RevocationKind.SESSION, session, self._clock.wall(), reason)
            return True
        return bool(await self._sessions.end([session], reason))

    async def list_sessions(self, user: str) -> list[Session]:
        """Return a user's live sessions, the newest first."""
        return await self._sessions.of_user(user)

    async def end_session(self, user: str, session: SessionId, reason: str = "ended_by_user") -> bool:
        """End one of a user's own sessions; False where they have no such live session."""
        mine = {one.id for one in await self._sessions.of_user(user)}
        return session in mine and bool(await self._sessions.end([session], reason))

    async def end_user(self, user: str, reason: str) -> frozenset[SessionId]:
        """End every session of a user; return those that were live."""
        return await self._sessions.end_user(user, reason)

    async def revoke_token(self, token: str, reason: str = "revoked") -> None:
        """Revoke one access token by its `jti`, and close the connections opened with it. Its session goes on."""
        await self._revoke(RevocationKind.TOKEN, token, self._clock.wall(), reason)

    async def revoke_before(self, before: float, user: str | None = None, reason: str = "revoked") -> None:
        """Revoke what was issued before a time that is not in the future, of one user or of all.

        Sessions of ours that began before then end; tokens of other issuers count by their `iat`.
        """
        kind, subject = (RevocationKind.ALL, "") if user is None else (RevocationKind.USER, folded(user))
        await self._revoke(kind, subject, before, reason)

    async def _revoke(self, kind: RevocationKind, subject: str, before: float, reason: str) -> None:
        ended, closing = await self._revocations.revoke(kind, subject, before=before, reason=reason)
        self._endings.add(ended)
        self._endings.close(closing - ended)

    async def create_link(self, user: str | None = None, role: str = "user") -> tuple[Secret, int]:
        """Make a sign-in link for a user, or for whoever picks a free name; return it and its seconds."""
        return await self._links.create(user, role)

    async def needs_first_link(self) -> bool:
        """Tell whether no user could sign in by password, so that a link has to be handed out."""
        return not await self._store.users.any_password()

    async def poll(self) -> None:
        """Do what is due: to be called every second. Raises `StorageError` when the store cannot be asked.

        Picks up keys that were rotated, and what other processes ended or revoked, writes the activity noted by
        `seen`, and now and then forgets what is long over. Costs a look at some files when nothing changed, or two
        indexed queries where the database is not one of this machine.
        """
        # First: a store that fails must not keep a key that somebody else has got hold of.
        self._reload_keys()
        await self._endings.learn()
        await self._sessions.flush()
        self._issuers.refresh()
        if self._clock.monotonic() >= self._purge_at:
            self._purge_at = self._clock.monotonic() + PURGE_SECONDS
            await self._store.sessions.purge(self._clock.wall() - KEEP_SECONDS)
            await self._revocations.purge()

    def _reload_keys(self) -> None:
        """Take in what changed of the signing keys. What is wrong is tried again each time, and told of once."""
        wrong = ""
        try:
            self._keys.reload()
        except (StartError, OSError) as error:
            wrong = str(error)
        if wrong and wrong != self._wrong_keys:
            logger.error("not all signing keys could be read, the others are used: %s", wrong)
        self._wrong_keys = wrong
