"""Issues access tokens and decides whether one is ours and good: signed JWTs of RFC 9068, verified as RFC 8725 says.

The header may hold `alg`, `typ` and `kid` and nothing else, so nothing in a token can name a key, an address or an
extension. The key comes from the server's own key set, by `kid`. Verification is synchronous. That a signature is good
is remembered, for as long as its key is; times are judged each time, and whether the session has been ended meanwhile
is decided elsewhere (`identity.endings`).
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from sockade.guard.handshake import Refuse
from sockade.guard.identity import NO_SCOPES, Identity, Secret, SessionId
from sockade.identity.revocations import Proof
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from joserfc.jwa import JWSAlgModel
    from joserfc.jwk import OKPKey

    from sockade.clock import Clock
    from sockade.identity.keys import ServerKeys
    from sockade.identity.stores import Session
    from sockade.settings import CredentialSettings

MAX_CHARACTERS = 4_096  # Ours have about 500.
REMEMBERED = 4_096
"""Tokens whose signatures are not verified again: clients that come back show the same one. About 4 MiB."""
NOT_OURS = Refuse(Reason.TOKEN_INVALID, "not an access token of this server")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The only header there is: `jwk`, `jku`, `x5u`, `x5c`, `crit` and `b64` are unknown fields here."""

    alg: Literal["EdDSA"]
    typ: Literal["at+jwt"]
    kid: str


class Claims(msgspec.Struct, frozen=True):
    """The claims of RFC 9068 §2.2 that we write, and the session. Other claims are ignored."""

    iss: str
    aud: str
    sub: str
    exp: int
    iat: int
    jti: str
    sid: str
    role: str
    scope: str
    nbf: int = 0


class OnlyEdDSA(jws.JWSRegistry):
    """Ed25519 under the name that other libraries know (RFC 8037), and no other algorithm."""

    def get_alg(self, name: str) -> JWSAlgModel:
        # RFC 9864 renames EdDSA to Ed25519; few verifiers know that name yet, so joserfc's warning is not ours.
        if name != "EdDSA":
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not supported")
        return self.algorithms["EdDSA"]


REGISTRY = OnlyEdDSA()
HEADERS = msgspec.json.Decoder(Header)
CLAIMS = msgspec.json.Decoder(Claims)


class AccessTokens:
    """Issues and verifies access tokens with the server's own keys."""

    def __init__(self, keys: ServerKeys, settings: CredentialSettings, clock: Clock) -> None:
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._life = int(settings.access_token_seconds) or 1
        self._overlap = settings.access_token_seconds + settings.leeway_seconds
        self._good: dict[bytes, tuple[OKPKey, Claims]] = {}
        """By the digests of whole tokens: the key that verified each, and what it says."""

    def issue(self, session: Session) -> tuple[Secret, int]:
        """Return an access token for a session, and the seconds it lives: never longer than the session."""
        now = int(self._clock.wall())
        expires = min(now + self._life, int(session.expires_at))
        claims = Claims(
            iss=self._settings.issuer,
            aud=self._settings.audience,
            sub=session.user,
            exp=expires,
            iat=now,
            nbf=now,
            jti=self._clock.short_id(),
            sid=session.id,
            role=session.role,
            scope="",
        )
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": self._keys.signing_kid}
        token = jws.serialize_compact(header, msgspec.json.encode(claims), self._keys.signing, registry=REGISTRY)
        return Secret(token), max(0, expires - now)

    def verify(self, token: Secret) -> Identity | Refuse:
        """Return the identity that an access token proves, or TOKEN_INVALID or TOKEN_EXPIRED."""
        proof = self.prove(token)
        return proof if isinstance(proof, Refuse) else proof.identity

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Return the public keys that verify what is issued here."""
        return self._keys.jwks(self._clock.wall(), self._overlap)

    def prove(self, token: Secret) -> Proof | Refuse:
        """Return what an access token proves, with its id, or TOKEN_INVALID or TOKEN_EXPIRED."""
        claims = self._authentic(token.reveal())
        if claims is None or claims.iss != self._settings.issuer or claims.aud != self._settings.audience:
            return NOT_OURS
        identity = self._judge(claims)
        # Its session is ours, and ends in the store with all that was issued for it: `iat`, whole seconds, is too
        # coarse to tell what came before a revocation from what came after.
        return identity if isinstance(identity, Refuse) else Proof(identity, claims.jti, inf)

    def _authentic(self, token: str) -> Claims | None:
        """Return the claims of a token that one of our keys signed."""
        if len(token) > MAX_CHARACTERS or not token.isascii():
            return None
        digest = sha256(token.encode("ascii")).digest()
        if (good := self._good.get(digest)) is not None:
            key, claims = good
            if self._keys.verifies(key, self._clock.wall(), self._overlap):
                return claims
        return self._verify(token, digest)

    def _verify(self, token: str, digest: bytes) -> Claims | None:
        try:
            header = HEADERS.decode(decode_segment(token.partition(".")[0]))
            key = self._keys.verifying(self._clock.wall(), self._overlap).get(header.kid)
            if key is None:
                return None
            claims = CLAIMS.decode(jws.deserialize_compact(token, key, registry=REGISTRY).payload)
        except (JoseError, msgspec.MsgspecError, Base64Error, ValueError):
            return None
        if len(self._good) >= REMEMBERED:
            del self._good[next(iter(self._good))]
        self._good[digest] = (key, claims)
        return claims

    def _judge(self, claims: Claims) -> Identity | Refuse:
        now, leeway = self._clock.wall(), self._settings.leeway_seconds
        if claims.iat > now + leeway or claims.nbf > now + leeway:
            return Refuse(Reason.TOKEN_INVALID, "the token is not valid yet")
        if claims.exp - claims.iat > self._life:
            return Refuse(Reason.TOKEN_INVALID, "the token lives longer than the policy allows")
        if claims.exp + leeway <= now:
            return Refuse(Reason.TOKEN_EXPIRED, "the token has expired")
        return Identity(
            user=claims.sub,
            role=claims.role,
            scopes=frozenset(claims.scope.split()) or NO_SCOPES,
            session=SessionId(claims.sid),
            # Within the leeway after `exp` a connection still opens; one that is open closes at `exp`.
            expires_at=claims.exp if now < claims.exp else claims.exp + leeway,
        )


def decode_segment(segment: str) -> bytes:
    """Decode base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
