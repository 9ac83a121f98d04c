"""Subscription tokens: signed JWTs that let one user hear one channel. Issued here, or by another issuer.

They are no access tokens and open no connection: their `typ` differs, and they name a channel. A token of this server
is verified with its own keys, as `identity.tokens` does it.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Grant, Identity, Secret
from sockade.identity.revocations import Proof
from sockade.identity.tokens import MAX_CHARACTERS, REGISTRY, decode_segment
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from sockade.clock import Clock
    from sockade.identity.keys import ServerKeys
    from sockade.settings import CredentialSettings

TYPE = "subscription+jwt"
NOT_GOOD = Refuse(Reason.TOKEN_INVALID, "not a subscription token of a known issuer")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header there is."""

    alg: Literal["EdDSA"]
    typ: Literal["subscription+jwt"]
    kid: str


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a subscription token of this server says."""

    iss: str
    aud: str
    sub: str
    channel: str
    exp: int
    iat: int
    jti: str
    info: Any = None


HEADERS = msgspec.json.Decoder(Header)
CLAIMS = msgspec.json.Decoder(Claims)


class SubscriptionTokens:
    """Issues and verifies subscription tokens with the server's own keys."""

    def __init__(self, keys: ServerKeys, settings: CredentialSettings, clock: Clock) -> None:
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._life = int(settings.access_token_seconds) or 1
        self._overlap = settings.access_token_seconds + settings.leeway_seconds

    def issue(self, user: str, channel: str, seconds: float | None = None, info: bytes | None = None) -> Secret:
        """Return a token for a user and channel that lasts `seconds`, at most as long as access tokens do."""
        now = int(self._clock.wall())
        claims = Claims(
            iss=self._settings.issuer,
            aud=self._settings.audience,
            sub=user,
            channel=channel,
            exp=now + (self._life if seconds is None else max(1, min(int(seconds), self._life))),
            iat=now,
            jti=self._clock.short_id(),
            info=msgspec.Raw(info) if info is not None else None,
        )
        header = {"alg": "EdDSA", "typ": TYPE, "kid": self._keys.signing_kid}
        return Secret(jws.serialize_compact(header, msgspec.json.encode(claims), self._keys.signing, registry=REGISTRY))

    def prove(self, token: Secret) -> tuple[Grant, Proof] | Refuse:
        """Return what a token grants and how it could be revoked, or TOKEN_INVALID or TOKEN_EXPIRED."""
        claims = self._authentic(token.reveal())
        settings, now = self._settings, self._clock.wall()
        if claims is None or claims.iss != settings.issuer or claims.aud != settings.audience:
            return NOT_GOOD
        if claims.iat > now + settings.leeway_seconds or claims.exp - claims.iat > self._life:
            return Refuse(Reason.TOKEN_INVALID, "not valid yet, or for longer than the policy allows")
        if claims.exp <= now:
            return Refuse(Reason.TOKEN_EXPIRED, "the subscription token has expired")
        info = msgspec.json.encode(claims.info) if claims.info is not None else None
        grant = Grant(claims.sub, claims.channel, claims.exp, info)
        return grant, Proof(Identity(claims.sub, expires_at=claims.exp), claims.jti, claims.iat)

    def _authentic(self, token: str) -> Claims | None:
        """Return the claims of a token that one of our keys signed."""
        if len(token) > MAX_CHARACTERS or not token.isascii():
            return None
        try:
            header = HEADERS.decode(decode_segment(token.partition(".")[0]))
            key = self._keys.verifying(self._clock.wall(), self._overlap).get(header.kid)
            if key is None:
                return None
            return CLAIMS.decode(jws.deserialize_compact(token, key, registry=REGISTRY).payload)
        except (JoseError, msgspec.MsgspecError, Base64Error, ValueError):
            return None
