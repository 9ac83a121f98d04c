"""Decides whether an access token of another issuer is good: RFC 9068 as RFC 8725 asks, for issuers set up by name.

Keys are found by issuer and key id alone; a token can name neither an address nor a key, and whatever extends the
header is refused. Users of an issuer are called `NAME:sub`, so that no issuer can name a user of this server or of
another issuer, and have the session `NAME:…`, made of the claim `sid`, or of what is signed where there is none.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from sockade.guard.handshake import Refuse
from sockade.guard.identity import NO_SCOPES, Grant, Identity, Secret, SessionId
from sockade.identity.fetch import fetch as fetch_over_https
from sockade.identity.jwks import KeySetCache
from sockade.identity.keysets import keys_of_files
from sockade.identity.revocations import Proof
from sockade.identity.tokens import MAX_CHARACTERS, decode_segment
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from joserfc.jwa import JWSAlgModel

    from sockade.clock import Clock
    from sockade.identity.jwks import Fetch
    from sockade.identity.keysets import VerifyingKey
    from sockade.settings import IssuerSettings, Settings

NOT_GOOD = Refuse(Reason.TOKEN_INVALID, "not an access token of a known issuer")
SUBJECT = re.compile(r"[!-~]{1,255}")  # OpenID Connect Core §2: at most 255 ASCII characters.
ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
"""OpenID Connect Core §2, §3.3.2.11: these make it an ID token, which says who signed in and opens nothing."""


class Issued(msgspec.Struct, frozen=True):
    """What is read before anything is verified."""

    iss: str


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header there is: `jwk`, `jku`, `x5u`, `x5c`, `crit` and `b64` are unknown fields here."""

    alg: str
    typ: str
    kid: str | None = None
    x5t: str | None = None
    """Thumbprints of certificates are common, and not looked at."""
    x5t_s256: str | None = msgspec.field(default=None, name="x5t#S256")


class Claims(msgspec.Struct, frozen=True):
    """The registered claims that are required or used (RFC 7519 §4.1, RFC 9068 §2.2)."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: int | float
    iat: int | float
    nbf: int | float = 0
    jti: str | None = None
    sid: str | None = None
    # Those of the channel protocol.
    channel: str | None = None
    """A subscription token's."""
    info: Any = None
    channels: list[str] = []
    subs: dict[str, object] = {}
    """Channels to subscribe to, with options that are not read."""


class OneFamily(jws.JWSRegistry):
    """The algorithms of one issuer, and no other."""

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__()
        self._names = frozenset(algorithms)
        self.max_header_length = MAX_CHARACTERS

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in self._names:
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not supported")
        return self.algorithms[name]


class Issuer:
    """One issuer."""

    def __init__(self, name: str, settings: IssuerSettings, clock: Clock, fetch: Fetch, leeway: float) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._leeway = leeway
        self._registry = OneFamily(settings.accepted)
        self._keys = keys_of_files(name, settings)
        url = settings.jwks_url
        self.cache = KeySetCache(url, settings.accepted, fetch, clock) if url is not None else None

    async def prove(self, token: str) -> Proof | Refuse:
        """Return what an access token proves, TOKEN_INVALID, TOKEN_EXPIRED, or BUSY where no key can be had."""
        read = await self._read(token, self._settings.token_type)
        if isinstance(read, Refuse):
            return read
        claims, more = read
        refusal = self._judge(claims, more)
        return refusal if refusal is not None else self._proof(token, claims, more)

    async def grant(self, token: str) -> tuple[Grant, Proof] | Refuse:
        """Return what a subscription token grants, and how it could be revoked; refusals are those of `prove`."""
        read = await self._read(token, self._settings.subscription_token_type)
        if isinstance(read, Refuse):
            return read
        claims, more = read
        refusal = self._judge(claims, more)
        if refusal is not None:
            return refusal
        if claims.exp <= self._clock.wall():
            return Refuse(Reason.TOKEN_EXPIRED, "the subscription token has expired")
        if claims.channel is None:
            return Refuse(Reason.TOKEN_INVALID, "a subscription token names a channel")
        proof = self._proof(token, claims, more)
        return Grant(proof.identity.user, claims.channel, claims.exp, proof.identity.info), proof

    async def _read(self, token: str, typ: str) -> tuple[Claims, Mapping[str, object]] | Refuse:
        """Return the claims of a token of a type that one of the issuer's keys signed."""
        try:
            header = msgspec.json.decode(decode_segment(token.partition(".")[0]), type=Header)
        except (msgspec.MsgspecError, ValueError):
            return Refuse(Reason.TOKEN_INVALID, "the header holds what no token of this kind needs")
        if header.alg not in self._settings.accepted or not is_typed(header.typ, typ):
            return Refuse(Reason.TOKEN_INVALID, "another algorithm or type of token")
        key = await self._find(header.kid)
        if isinstance(key, Refuse):
            return key
        if key is None or header.alg not in key.algorithms:
            return Refuse(Reason.TOKEN_INVALID, "the issuer has no such key")
        try:
            payload = jws.deserialize_compact(token, key.key, registry=self._registry).payload
            claims = msgspec.json.decode(payload, type=Claims)
            return claims, msgspec.json.decode(payload, type=dict[str, object])
        except (JoseError, msgspec.MsgspecError, ValueError, RecursionError):
            return NOT_GOOD

    async def _find(self, kid: str | None) -> VerifyingKey | Refuse | None:
        return await self.cache.find(kid) if self.cache is not None else self._keys.get(kid)

    def _judge(self, claims: Claims, more: Mapping[str, object]) -> Refuse | None:
        """Refuse what was issued for something else, not yet, for too long, or too long ago."""
        settings, now, leeway = self._settings, self._clock.wall(), self._leeway
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if claims.iss != settings.issuer or settings.audience not in audiences:
            return Refuse(Reason.TOKEN_INVALID, "issued by or for somebody else")
        if ID_TOKEN_CLAIMS & more.keys() or SUBJECT.fullmatch(claims.sub) is None:
            return Refuse(Reason.TOKEN_INVALID, "an ID token, or a subject that is none")
        if claims.iat > now + leeway or claims.nbf > now + leeway:
            return Refuse(Reason.TOKEN_INVALID, "the token is not valid yet")
        if claims.exp - claims.iat > settings.token_seconds:
            return Refuse(Reason.TOKEN_INVALID, "the token lives longer than issuers.NAME.token_seconds allows")
        if claims.exp + leeway <= now:
            return Refuse(Reason.TOKEN_EXPIRED, "the token has expired")
        return None

    def _proof(self, token: str, claims: Claims, more: Mapping[str, object]) -> Proof:
        now = self._clock.wall()
        identity = Identity(
            user=f"{self._name}:{claims.sub}",
            role=self._role(more),
            scopes=self._scopes(more),
            session=self._session(claims, token),
            expires_at=claims.exp if now < claims.exp else claims.exp + self._leeway,
            info=msgspec.json.encode(claims.info) if claims.info is not None else None,
            channels=tuple(dict.fromkeys([*claims.channels, *claims.subs])),
        )
        return Proof(identity, claims.jti or sha256(signed_part(token).encode("ascii")).hexdigest(), claims.iat)

    def _session(self, claims: Claims, token: str) -> SessionId:
        # The subject is part of it: a `sid` that two users share is not one session.
        own = f"{claims.sub}\n{claims.sid}" if claims.sid is not None else signed_part(token)
        return SessionId(f"{self._name}:{sha256(own.encode()).hexdigest()[:32]}")

    def _role(self, more: Mapping[str, object]) -> str:
        value = more.get(self._settings.role_claim) if self._settings.role_claim else None
        return value if isinstance(value, str) and ROLE.fullmatch(value) else "user"

    def _scopes(self, more: Mapping[str, object]) -> frozenset[str]:
        value = more.get(self._settings.scope_claim) if self._settings.scope_claim else None
        found = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        return frozenset(scope for scope in found if isinstance(scope, str)) or NO_SCOPES


def signed_part(token: str) -> str:
    """Return a token without its signature: whoever has one signature of ECDSA can make another one of the same."""
    return token.rpartition(".")[0]


def is_typed(typ: str, wanted: str) -> bool:
    """Tell whether a token's `typ` is a media type: in any case, `application/` left out or not (RFC 7515 §4.1.9)."""
    return typ.lower() in (wanted.lower(), f"application/{wanted.lower()}")


class Issuers:
    """All issuers that are set up, by the value of their `iss`."""

    def __init__(self, settings: Settings, clock: Clock, fetch: Fetch = fetch_over_https) -> None:
        """Read the key files. Raises StartError."""
        leeway = settings.credentials.leeway_seconds
        self._by_iss = {one.issuer: Issuer(name, one, clock, fetch, leeway) for name, one in settings.issuers.items()}

    def of(self, token: Secret) -> Issuer | None:
        """Return the issuer that a token says it is from, if it is one of these."""
        value = token.reveal()
        if not self._by_iss or len(value) > MAX_CHARACTERS or not value.isascii():
            return None
        try:
            return self._by_iss.get(msgspec.json.decode(decode_segment(value.split(".")[1]), type=Issued).iss)
        except (msgspec.MsgspecError, ValueError, IndexError, RecursionError):
            return None

    def refresh(self) -> None:
        """Start the fetches that are due, and do not wait for them."""
        for issuer in self._by_iss.values():
            if issuer.cache is not None:
                issuer.cache.refresh()


def is_external(session: SessionId | None) -> bool:
    """Tell whether a session is another issuer's."""
    return session is not None and ":" in session
