"""Frames every answer of an endpoint: one audit line, one id, `no-store`, refusals from the one table.

A handler returns what happened as a value; here it becomes a response and a line in the audit log. A store that
fails is BUSY. Who may call is decided with `Call.caller` and `Call.own_page`. The body is there before a handler is
asked, so that no client can draw out the time between the look at a credential and what is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request

from sockade.api import bodies
from sockade.api.head import head_of
from sockade.api.problems import problem
from sockade.errors import StorageError
from sockade.guard.credentials import bearer_values, cookie_values
from sockade.guard.handshake import Head, Refuse
from sockade.guard.identity import Carrier, Credential, Identity, Secret
from sockade.guard.origin import canonical_origin
from sockade.identity.attempts import GUESSES
from sockade.protocol.problems import event_of
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from sockade.api.bodies import Body
    from sockade.clock import Clock
    from sockade.guard.policy import Policy
    from sockade.identity.attempts import Attempts
    from sockade.identity.authority import Authority
    from sockade.identity.revocations import Proof
    from sockade.protocol.events import AuditLog, Event
    from sockade.settings import Settings


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Desk:
    """What all endpoints share."""

    authority: Authority
    settings: Settings
    audit: AuditLog
    clock: Clock
    policy: Policy
    own_origins: frozenset[str]
    """Canonical origins of the pages this server delivers."""
    attempts: Attempts
    public_origin: str
    """The one of them that links name when the request names none."""


@dataclass(frozen=True, slots=True)
class Done:
    """What succeeded; without an event nothing is written, for what is public or merely read."""

    response: Response
    event: Event | None = None
    user: str = ""
    session: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    id: str
    request: Request
    desk: Desk
    head: Head
    content: bytes = b""
    """The whole body."""

    @property
    def address(self) -> str:
        """The client's address, as text without a port."""
        return self.request.client.host if self.request.client is not None else ""

    @property
    def user_agent(self) -> str:
        """What the client calls itself; only ever shown to the user whose session it is."""
        return self.head.one("user-agent") or ""

    @property
    def origin(self) -> str | None:
        """The page's origin in canonical form; None where there is no Origin, or it is not one."""
        value = self.head.one("origin")
        return canonical_origin(value) if value is not None else None

    @property
    def cookie(self) -> Secret | None:
        """The session cookie, if it came exactly once and cookies are on."""
        values = cookie_values(self.head)
        return Secret(values[0]) if len(values) == 1 and self.desk.settings.credentials.cookie else None

    def own_page(self) -> Refuse | None:
        """Refuse a request that a page of another origin may have sent.

        Without Origin and without cookie it is no browser's: browsers send Origin with every POST and DELETE.
        """
        if self.head.all("origin"):
            return None if self.origin in self.desk.own_origins else Refuse(Reason.ORIGIN, "not the server's own page")
        if cookie_values(self.head):
            return Refuse(Reason.ORIGIN_MISSING, "cookie without Origin")
        return None

    def bearer_page(self) -> Refuse | None:
        """Refuse a bearer request of a page whose origin may not connect."""
        if self.head.all("origin") and self.origin not in self.desk.policy.origins:
            return Refuse(Reason.ORIGIN, "Origin not allowed")
        return None

    def credential(self) -> Credential | Refuse:
        """Return the one credential shown: a bearer token before the cookie, which browsers add by themselves."""
        bearers, cookies = bearer_values(self.head), cookie_values(self.head)
        if len(bearers) > 1 or (not bearers and len(cookies) > 1):
            return Refuse(Reason.CREDENTIAL_AMBIGUOUS, "more than one credential")
        if not bearers and not cookies:
            return Refuse(Reason.CREDENTIAL_MISSING, "no credential")
        carrier = Carrier.BEARER if bearers else Carrier.COOKIE
        on = self.desk.settings.credentials
        if not (on.bearer if bearers else on.cookie):
            return Refuse(Reason.CREDENTIAL_KIND, f"{carrier} credentials are switched off")
        return Credential(carrier, Secret((bearers or cookies)[0]))

    async def caller(self) -> Identity | Refuse:
        """Return who calls."""
        proof = await self.proof()
        return proof if isinstance(proof, Refuse) else proof.identity

    async def proof(self) -> Proof | Refuse:
        """Return what the caller proves. A cookie counts only from own pages, except where nothing is changed."""
        credential = self.credential()
        if isinstance(credential, Refuse):
            return credential
        if credential.carrier is Carrier.BEARER:
            refusal = self.bearer_page()
        elif self.head.method == "GET" and not self.head.all("origin"):
            refusal = None  # A GET of the page's own origin carries no Origin; another page cannot read the answer.
        else:
            refusal = self.own_page()
        return refusal or await self.prove(credential)

    async def prove(self, credential: Credential) -> Proof | Refuse:
        """Return what a credential proves; an address that shows many that are none has to wait."""
        authority = self.desk.authority
        # A token says by its signature whether it is one.
        known = credential.carrier is Carrier.BEARER or authority.recognizes(credential.value)
        return await self.guessing(lambda: authority.prove(credential, origin=self.origin), known=known)

    async def guessing(self, look: Callable[[], Awaitable[Answer | Refuse]], *, known: bool) -> Answer | Refuse:
        """Look at a secret that was shown, unless the address has shown too many that were none.

        What is `known`, or known for none, without asking the store is looked at all the same: whoever shares the
        address and guesses must not keep others out. Only who is wrong is then no longer told so.
        """
        attempts, now = self.desk.attempts, self.desk.clock.monotonic()
        refusal = attempts.judge_guess(self.address, now)
        if refusal is not None and not known:
            return refusal
        answer = await look()
        if isinstance(answer, Refuse) and answer.reason in GUESSES:
            attempts.failed(self.address, now)
            return refusal or answer
        return answer

    def body(self, type_: type[Body]) -> Body | Refuse:
        """Return the request's body as a value."""
        return bodies.decode(self.content, self.head.all("content-type"), type_)

    def json(self) -> Any | Refuse:
        """Return the request's body as `json` reads it."""
        return bodies.parse(self.content, self.head.all("content-type"))


class Endpoint:
    """One path, as an ASGI application."""

    def __init__(
        self,
        desk: Desk,
        handlers: Mapping[str, Callable[[Call], Awaitable[Done | Refuse]]],
        events: Mapping[Reason, Event] | None = None,
        screen: Callable[[Call], Refuse | None] = lambda call: None,
    ) -> None:
        """Serve `handlers` by method.

        Args:
            events: names refusals otherwise than usual.
            screen: judges a request by its head, before the body is read, where the answer cannot change meanwhile.
        """
        self._desk = desk
        self._handlers = handlers
        self._events = events or {}
        self._judge = screen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = Call(self._desk.clock.short_id(), request, self._desk, head_of(scope))
        try:
            answer = self._screen(call) or await self._answer(call)
        except StorageError as error:
            answer = Refuse(Reason.BUSY, f"the store failed: {error}", retry_after=5)
        response = self._refused(call, answer) if isinstance(answer, Refuse) else self._done(call, answer)
        await response(scope, receive, send)

    def _screen(self, call: Call) -> Refuse | None:
        if call.head.method not in self._handlers:
            allow = ", ".join(sorted(self._handlers))
            return Refuse(Reason.METHOD, "method not allowed", headers=(("allow", allow),))
        return self._judge(call)

    async def _answer(self, call: Call) -> Done | Refuse:
        # Before any credential is looked at: the body may take as long as its sender likes.
        content = await bodies.read_body(call.request, self._desk.settings.limits)
        if isinstance(content, Refuse):
            return content
        return await self._handlers[call.head.method](replace(call, content=content))

    def _done(self, call: Call, done: Done) -> Response:
        done.response.headers.setdefault("cache-control", "no-store")
        if done.event is not None:
            self._desk.audit.record(
                done.event,
                connection=call.id,
                address=call.address,
                origin=call.origin or "",
                user=done.user,
                session=done.session,
                detail=done.detail,
            )
        return done.response

    def _refused(self, call: Call, refusal: Refuse) -> Response:
        reason = refusal.reason
        self._desk.audit.record(
            self._events.get(reason, event_of(reason)),
            reason=reason,
            connection=call.id,
            address=call.address,
            origin=call.head.one("origin") or "",
            detail=refusal.detail,
        )
        return problem(refusal, call.id)
