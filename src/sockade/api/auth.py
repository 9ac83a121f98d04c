"""The endpoints under /auth, and the key set: signing in and out, tokens, tickets, sessions, links.

What a credential is worth is the authority's decision; which page may send it is `api.endpoint`'s. A cookie is set
for pages only, and only with every attribute that keeps it from other pages and from scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from sockade.api.bodies import Strict
from sockade.api.endpoint import Call, Desk, Done, Endpoint
from sockade.errors import StorageError
from sockade.guard.credentials import COOKIE, bearer_values
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Identity, Secret, SessionId
from sockade.guard.origin import canonical_origin
from sockade.guard.policy import Policy
from sockade.identity.attempts import Attempts
from sockade.identity.authority import SignedIn, Tokens
from sockade.protocol.events import Event
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sockade.clock import Clock
    from sockade.identity.authority import Authority
    from sockade.protocol.events import AuditLog
    from sockade.settings import Settings

SIGN_IN_REASONS = (
    Reason.SIGN_IN_FAILED,
    Reason.USERNAME_REQUIRED,
    Reason.USERNAME_TAKEN,
    Reason.USERNAME_INVALID,
)
LOGIN_EVENTS = dict.fromkeys(SIGN_IN_REASONS, Event.LOGIN_FAIL)
REFRESH_EVENTS = {Reason.REVOKED: Event.TOKEN_REUSE}
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
Name = Annotated[str, msgspec.Meta(max_length=256)]


class Login(Strict, frozen=True):
    """`POST /auth/login`: user name and password, or a link and, for an open one, the name chosen."""

    username: Name | None = None
    password: Secret | None = None
    link: Secret | None = None
    grant: Literal["cookie", "token"] = "cookie"


class Refresh(Strict, frozen=True):
    """`POST /auth/refresh`: without a token the session cookie counts."""

    refresh_token: Secret | None = None


class TicketFor(Strict, frozen=True):
    """`POST /auth/ticket`: the Origin of the page that will connect, where the caller is not that page."""

    origin: Name | None = None


class NewLink(Strict, frozen=True):
    """`POST /auth/links`."""

    role: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")] = "user"


def auth_routes(
    authority: Authority,
    settings: Settings,
    audit: AuditLog,
    clock: Clock,
    *,
    own_origins: Collection[str],
    public_origin: str,
) -> Sequence[Route]:
    """Return the routes; `own_origins` are canonical, `public_origin` is the one that links name."""
    own = frozenset(own_origins)
    allowed = {origin for text in settings.origins.allowed if (origin := canonical_origin(text)) is not None}
    policy = Policy(names=frozenset(), origins=own | allowed, paths=frozenset())
    desk = Desk(authority, settings, audit, clock, policy, own, Attempts(settings.limits), public_origin)
    # Instances of a class as endpoints: Starlette leaves the method to them, so a wrong one is logged like the rest.
    return [
        Route("/auth/login", Endpoint(desk, {"POST": login}, LOGIN_EVENTS)),
        Route("/auth/refresh", Endpoint(desk, {"POST": refresh}, REFRESH_EVENTS)),
        Route("/auth/ticket", Endpoint(desk, {"POST": ticket})),
        Route("/auth/logout", Endpoint(desk, {"POST": logout})),
        Route("/auth/sessions", Endpoint(desk, {"GET": list_sessions})),
        Route("/auth/sessions/{id}", Endpoint(desk, {"DELETE": end_session})),
        Route("/auth/links", Endpoint(desk, {"POST": create_link})),
        Route("/.well-known/jwks.json", Endpoint(desk, {"GET": key_set})),
    ]


async def login(call: Call) -> Done | Refuse:
    """Sign in; a session whose cookie came along ends, so that none from before stays good."""
    refusal = call.own_page()
    if refusal is not None:
        return refusal
    body = call.body(Login)
    if isinstance(body, Refuse):
        return body
    signed_in = await attempt(call, body)
    if isinstance(signed_in, Refuse):
        return signed_in
    identity = signed_in.identity
    if isinstance(signed_in, Tokens):
        return Done(tokens_response(signed_in), Event.LOGIN_SUCCESS, identity.user, identity.session or "", "token")
    await end_presented(call)
    content = {"user": identity.user, "role": identity.role, "expires_in": signed_in.expires_in}
    response = json_response(content)
    response.headers["set-cookie"] = (
        f"{COOKIE}={signed_in.cookie.reveal()}; {ATTRIBUTES}; Max-Age={signed_in.expires_in}"
    )
    return Done(response, Event.LOGIN_SUCCESS, identity.user, identity.session or "", "cookie")


async def attempt(call: Call, body: Login) -> SignedIn | Tokens | Refuse:
    """Ask for a sign-in, within the allowances of the address and of the user name."""
    attempts, now = call.desk.attempts, call.desk.clock.monotonic
    by_password = body.username if body.link is None else None
    refusal = attempts.judge_sign_in(call.address, by_password, now())
    if refusal is not None:
        return refusal
    try:
        answer = await prove(call, body)
    except StorageError:
        # A wrong password is told before anything is written: this was no guess, and the user will try again.
        attempts.give_back(call.address, by_password, now())
        raise
    if not isinstance(answer, Refuse):
        attempts.succeeded(call.address, by_password, now())
    elif answer.reason is not Reason.SIGN_IN_FAILED:
        attempts.give_back(call.address, by_password, now())
    return answer


async def prove(call: Call, body: Login) -> SignedIn | Tokens | Refuse:
    """Ask the authority, by link or by password, for a cookie or for tokens."""
    authority, address, agent = call.desk.authority, call.address, call.user_agent
    token = body.grant == "token"
    if body.link is not None and body.password is None:
        by_link = authority.tokens_by_link if token else authority.sign_in_by_link
        return await by_link(body.link, body.username, address=address, user_agent=agent)
    if body.link is None and body.username is not None and body.password is not None:
        by_password = authority.tokens if token else authority.sign_in
        return await by_password(body.username, body.password, address=address, user_agent=agent)
    return Refuse(Reason.BAD_REQUEST, "either a user name and password or a link")


async def end_presented(call: Call) -> None:
    """End the session whose cookie came with a sign-in."""
    if call.cookie is None:
        return
    before = await call.desk.authority.verify(Credential(Carrier.COOKIE, call.cookie), origin=call.origin)
    if isinstance(before, Identity) and before.session is not None:
        await call.desk.authority.sign_out(before.session, "signed_in_again")


async def refresh(call: Call) -> Done | Refuse:
    """Exchange a refresh token, give the page an access token for its session, or take another issuer's newer one.

    Connections of the session that are open go on with it, and with the rights of now.
    """
    # A browser adds the cookie by itself; only where there is none can the bearer token be what is meant.
    bearer = call.cookie is None and bool(bearer_values(call.head))
    refusal = call.bearer_page() if bearer else call.own_page()
    if refusal is not None:
        return refusal
    body = call.body(Refresh)
    if isinstance(body, Refuse):
        return body
    token = body.refresh_token
    if token is not None:
        authority = call.desk.authority
        tokens = await call.guessing(lambda: authority.refresh(token), known=authority.recognizes(token))
    elif bearer:
        return await renew_external(call)
    else:
        tokens = await tokens_of_page(call)
    if isinstance(tokens, Refuse):
        return tokens
    return Done(tokens_response(tokens), Event.TOKEN_CREATED, tokens.identity.user, tokens.identity.session or "")


async def tokens_of_page(call: Call) -> Tokens | Refuse:
    """Return an access token for the session cookie.

    Not for a bearer token: an access token that could be exchanged for the next would never expire.
    """
    if call.cookie is None:
        return Refuse(Reason.CREDENTIAL_MISSING, "neither a refresh token nor a session cookie")
    proof = await call.prove(Credential(Carrier.COOKIE, call.cookie))
    return proof if isinstance(proof, Refuse) else await call.desk.authority.access_token(proof.identity)


async def renew_external(call: Call) -> Done | Refuse:
    """Let connections go on with a newer access token of another issuer."""
    proof = await call.proof()
    if isinstance(proof, Refuse):
        return proof
    refusal = call.desk.authority.renew(proof)
    if refusal is not None:
        return refusal
    identity = proof.identity
    content = {"expires_in": max(0, int(identity.expires_at - call.desk.clock.wall()))}
    return Done(json_response(content), Event.TOKEN_CREATED, identity.user, identity.session or "", "renewed")


async def ticket(call: Call) -> Done | Refuse:
    """Issue a ticket for the page that asks, or for the one that a bearer client names."""
    proof = await call.proof()
    if isinstance(proof, Refuse):
        return proof
    body = call.body(TicketFor)
    if isinstance(body, Refuse):
        return body
    origin = body.origin if body.origin is not None else call.origin
    if origin is None and not call.head.all("origin"):
        return Refuse(Reason.ORIGIN_REQUIRED, "neither an Origin header nor an origin in the body")
    if origin is None or (call.head.all("origin") and call.origin != origin):
        return Refuse(Reason.BAD_REQUEST, "a ticket is for one Origin")
    issued = call.desk.authority.issue_ticket(proof, origin)
    if isinstance(issued, Refuse):
        return issued
    identity = proof.identity
    content = {"ticket": issued.value.reveal(), "expires_in": issued.expires_in}
    return Done(json_response(content), Event.TOKEN_CREATED, identity.user, identity.session or "", "ticket")


async def logout(call: Call) -> Done | Refuse:
    """End the caller's session; the page's cookies and storage go with it."""
    identity = await call.caller()
    if isinstance(identity, Refuse):
        return identity
    if identity.session is not None:
        await call.desk.authority.sign_out(identity.session)
    response = Response(status_code=204)
    response.headers["set-cookie"] = f"{COOKIE}=; {ATTRIBUTES}; Max-Age=0"
    response.headers["clear-site-data"] = '"cookies", "storage"'
    return Done(response, Event.SESSION_ENDED, identity.user, identity.session or "", "signed_out")


async def list_sessions(call: Call) -> Done | Refuse:
    """List the caller's sessions."""
    identity = await call.caller()
    if isinstance(identity, Refuse):
        return identity
    sessions = [
        {
            "id": session.id,
            "current": session.id == identity.session,
            "kind": session.kind.value,
            "created_at": session.created_at,
            "last_seen_at": session.last_seen_at,
            "address": session.address,
            "user_agent": session.user_agent,
        }
        for session in await call.desk.authority.list_sessions(identity.user)
    ]
    return Done(json_response({"user": identity.user, "role": identity.role, "sessions": sessions}))


async def end_session(call: Call) -> Done | Refuse:
    """End one of the caller's sessions; somebody else's is as unknown as none at all."""
    identity = await call.caller()
    if isinstance(identity, Refuse):
        return identity
    session = SessionId(call.request.path_params["id"])
    if not await call.desk.authority.end_session(identity.user, session):
        return Refuse(Reason.NOT_FOUND, "no such session of the caller")
    return Done(Response(status_code=204), Event.SESSION_ENDED, identity.user, session, "ended_by_user")


async def create_link(call: Call) -> Done | Refuse:
    """Make an open sign-in link, for administrators; the secret is in the fragment, which no server sees."""
    identity = await call.caller()
    if isinstance(identity, Refuse):
        return identity
    if identity.role != "admin":
        return Refuse(Reason.FORBIDDEN, "only administrators make links")
    body = call.body(NewLink)
    if isinstance(body, Refuse):
        return body
    link, expires_in = await call.desk.authority.create_link(None, body.role)
    origin = call.origin if call.origin in call.desk.own_origins else call.desk.public_origin
    content = {"link": f"{origin}/#link={link.reveal()}", "expires_in": expires_in}
    detail = f"link for a new {body.role}"
    return Done(json_response(content), Event.TOKEN_CREATED, identity.user, identity.session or "", detail)


async def key_set(call: Call) -> Done | Refuse:
    """Show the public keys."""
    response = json_response(call.desk.authority.jwks(), "application/jwk-set+json")
    response.headers["cache-control"] = "public, max-age=300"
    return Done(response)


def tokens_response(tokens: Tokens) -> Response:
    """Return tokens as OAuth's token response (RFC 6749 §5.1); a refresh token only where there is one."""
    content: dict[str, object] = {
        "access_token": tokens.access_token.reveal(),
        "token_type": "Bearer",
        "expires_in": tokens.expires_in,
    }
    if tokens.refresh_token is not None:
        content["refresh_token"] = tokens.refresh_token.reveal()
    return json_response(content)


def json_response(content: object, media_type: str = "application/json") -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(content), media_type=media_type)
