"""Decides which keys of another issuer may verify which algorithms, and reads them from JWKS, PEM or a secret file.

A key is bound to the algorithms of its own kind when it is read, so nothing a token says can have a public key used
as an HMAC secret (RFC 8725 §3.1). Keys have an id or none; a token is verified with the key of exactly its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from sockade.errors import StartError
from sockade.settings import HMAC_ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sockade.settings import IssuerSettings

MIN_RSA_BITS = 2_048  # NIST SP 800-131A
MAX_KEYS = 100
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: at least the size of the hash.
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key and the algorithms it verifies."""

    key: ECKey | OKPKey | RSAKey | OctKey
    algorithms: frozenset[str]

    def __repr__(self) -> str:
        return f"VerifyingKey({', '.join(sorted(self.algorithms))})"


Keys = dict[str | None, VerifyingKey]


class Jwk(msgspec.Struct, frozen=True):
    """What is read of a key in a set (RFC 7517 §4)."""

    kty: str
    kid: str | None = None
    use: str = "sig"
    alg: str | None = None
    key_ops: tuple[str, ...] = ("verify",)


class Jwks(msgspec.Struct, frozen=True):
    """A key set (RFC 7517 §5)."""

    keys: list[msgspec.Raw]


def keys_of_set(content: bytes, allowed: Collection[str]) -> Keys:
    """Return the keys of a JWKS that may verify signatures; others are passed over (RFC 7517 §5).

    Raises ValueError for what is not a key set. Of two keys with one id the first counts.
    """
    try:
        listed = msgspec.json.decode(content, type=Jwks).keys[:MAX_KEYS]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a JSON Web Key Set") from error
    found: Keys = {}
    for raw in listed:
        try:
            told, members = msgspec.json.decode(raw, type=Jwk), msgspec.json.decode(raw, type=dict[str, Any])
            key = public_key({name: members[name] for name in PUBLIC_MEMBERS if name in members})
        except (msgspec.MsgspecError, JoseError, ValueError, TypeError, KeyError):
            continue
        algorithms = fitting(key, allowed) & ({told.alg} if told.alg is not None else set(allowed))
        if algorithms and told.use == "sig" and "verify" in told.key_ops:
            found.setdefault(told.kid, VerifyingKey(key, frozenset(algorithms)))
    return found


def public_key(members: Mapping[str, Any]) -> ECKey | OKPKey | RSAKey:
    """Return a public key from the public members of a JWK alone. Symmetric keys are never read from a set."""
    match members["kty"]:
        case "EC":
            return ECKey.import_key(dict(members))
        case "OKP":
            return OKPKey.import_key(dict(members))
        case "RSA":
            return RSAKey.import_key(dict(members))
        case _:
            raise ValueError("not a public key")


def fitting(key: ECKey | OKPKey | RSAKey, allowed: Collection[str]) -> set[str]:
    """Return which of the allowed algorithms a public key can verify."""
    if isinstance(key, OKPKey):
        return {"EdDSA"} & set(allowed) if key.curve_name == "Ed25519" else set()
    if isinstance(key, ECKey):
        return {name for name, curve in CURVES.items() if curve == key.curve_name} & set(allowed)
    if key.raw_value.key_size < MIN_RSA_BITS:
        return set()
    return {name for name in allowed if name.startswith(("RS", "PS"))}


def keys_of_files(name: str, issuer: IssuerSettings) -> Keys:
    """Return the keys that an issuer's `keys_file` or `secret_file` holds. Raises StartError."""
    path = issuer.keys_file or issuer.secret_file
    if path is None:
        return {}
    setting = f"issuers.{name}.{'keys_file' if issuer.keys_file else 'secret_file'} ({path})"
    try:
        content = path.read_bytes()
        if issuer.secret_file:
            return {issuer.kid: secret_key(setting, content, issuer.accepted)}
        keys = keys_of_pem(content, issuer) if b"-----BEGIN" in content else keys_of_set(content, issuer.accepted)
    except OSError as error:
        raise StartError(f"{setting} cannot be read: {error.strerror}.") from error
    except (ValueError, JoseError, TypeError) as error:
        raise StartError(f"{setting} is neither a JSON Web Key Set nor a public key in PEM.") from error
    if not keys:
        raise StartError(f"{setting} holds no public key for {', '.join(issuer.accepted)}.")
    return keys


def keys_of_pem(content: bytes, issuer: IssuerSettings) -> Keys:
    """Return the one public key of a PEM file, under the configured id."""
    if b"PRIVATE KEY" in content:
        raise ValueError("a private key")
    for kind in (OKPKey, ECKey, RSAKey):
        try:
            key = kind.import_key(content)
        except (JoseError, ValueError, TypeError):
            continue
        algorithms = fitting(key, issuer.accepted)
        return {issuer.kid: VerifyingKey(key, frozenset(algorithms))} if algorithms else {}
    raise ValueError("no public key")


def secret_key(setting: str, content: bytes, algorithms: Collection[str]) -> VerifyingKey:
    """Return an HMAC secret. Raises StartError where it is too short, or is no secret at all."""
    secret = content.rstrip(b"\r\n")
    least = max(SECRET_BYTES[name] for name in algorithms if name in HMAC_ALGORITHMS)
    if len(secret) < least:
        raise StartError(f"{setting} has {8 * len(secret)} bits: an HMAC secret needs at least {8 * least}.")
    if secret.lstrip().startswith((b"-----BEGIN", b"ssh-", b"{")):
        raise StartError(f"{setting} is a key in PEM, SSH or JWK form, not an HMAC secret.")
    return VerifyingKey(OctKey.import_key(secret), frozenset(algorithms))
