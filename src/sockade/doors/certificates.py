"""Makes and reads what TLS needs: the local CA and its leaf, and the context the listener speaks through.

Without a configured certificate, and only on loopback, this machine's own CA signs one. A key is in a file that
nobody else could read at any moment, and a file is either whole or the one from before. Whether a configured pair
may be used is decided in `sockade.exposure`; that there is one off loopback as well.
"""

from __future__ import annotations

import fcntl
import os
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sockade.errors import StartError
from sockade.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sockade.settings import Settings

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(hours=1)  # A browser's clock may be a little behind ours.

CA_NAME = "ca.pem"
CA_KEY_NAME = "ca-key.pem"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

# TLS 1.2: what is left of Mozilla's intermediate list without DHE. TLS 1.3 has no others than these kinds.
CIPHERS = ":".join(
    f"ECDHE-{signature}-{suite}"
    for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain and its key, as PEM files; `authority` is the local CA if that signed it."""

    certificate: Path
    key: Path
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a certificate says, for people."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class _Signed:
    """A certificate and its key, kept in one file so that they change together."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key + self.public_pem()

    def public_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def pair_for(settings: Settings, now: float) -> Pair:
    """Return the configured pair, or the local one, made or renewed where that is due.

    `now` is POSIX time. Raises StartError.
    """
    certificate, key = settings.tls.certificate, settings.tls.key
    if certificate is not None and key is not None:
        return Pair(certificate, key)
    return ensure_local_pair(settings.server.data_dir, names_of(settings), now)


def uses_local_pair(settings: Settings) -> bool:
    """Tell whether a listener has the local certificate: the public one, or that of the server API on loopback."""
    admin = settings.admin
    is_admin = admin.tls and is_loopback(admin.host) and os.path.exists(settings.api_key_path)
    return settings.tls.certificate is None or is_admin


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names the local certificate is for, besides the usual ones of this machine."""
    hosts = filter(_is_address, (settings.server.host, settings.admin.host))
    return (*settings.server.names, *hosts)


def ensure_local_pair(data_dir: Path, names: Iterable[str], now: float, *, renew: bool = False) -> Pair:
    """Return the local pair; make or renew whatever is missing, nearly over, or for other names.

    The CA certificate is `ca.pem` in the data directory, keys are in `tls/`. The CA may sign for this machine and
    the given names alone (RFC 5280 §4.2.1.10), so names it does not know make a new one, to be trusted anew; a key that
    was lost does not. With `renew` the leaf is made anew in any case. `now` is POSIX time. Raises StartError with one
    sentence.
    """
    moment = datetime.fromtimestamp(now, UTC)
    wanted = tuple(dict.fromkeys((*LOCAL_NAMES, *map(_canonical, names))))
    pair = local_pair(data_dir)
    leaf_file, public_file, folder = pair.certificate, data_dir / CA_NAME, pair.certificate.parent
    authority_file = folder / CA_KEY_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with _locked(folder):
            authority = _read_authority(authority_file, public_file)
            if authority is None or _over(authority, moment) or not _covers(authority, wanted):
                authority = _make_authority(wanted, moment)
                _write(authority_file, authority.pem())
            if not public_file.exists() or public_file.read_bytes() != authority.public_pem():
                _write(public_file, authority.public_pem())
            leaf = _read(leaf_file)
            if renew or leaf is None or not _serves(leaf, authority, wanted, moment):
                _write(leaf_file, _make_leaf(authority, wanted, moment).pem())
    except OSError as error:
        raise StartError(
            f"The local certificate cannot be kept in {error.filename or folder} ({error.strerror}): "
            "choose another server.data_dir or mend its permissions."
        ) from error
    return pair


def look_at_local_pair(data_dir: Path) -> None:
    """Read what there is of the local pair and its CA, and change nothing.

    Raises:
        StartError: something is damaged, or the key of the CA is lost.
        OSError: something cannot be read.
    """
    pair = local_pair(data_dir)
    _read_authority(pair.certificate.with_name(CA_KEY_NAME), data_dir / CA_NAME)
    _read(pair.certificate)


def local_pair(data_dir: Path) -> Pair:
    """Return where the local pair is kept, whether or not it is there."""
    leaf = data_dir / "tls" / "server.pem"
    return Pair(leaf, leaf, data_dir / CA_NAME)


def server_context(settings: Settings, pair: Pair) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3 with ECDHE and AEAD suites only; with `tls.client_ca`, for its clients only.

    Raises StartError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Compression leaks secrets by length (CRIME); renegotiation costs the server more than the client.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_NO_TICKET
    # Workarounds for clients of long ago, which have no names of their own in Python: CPython 3.11.2 makes a member of
    # the enumeration anew at each look at the options, and aiofastnet looks with each connection.
    context.options &= ~ssl.OP_ALL
    # A client resumes one connection; each ticket costs as much as a tenth of the handshake.
    context.num_tickets = 1
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
        raise StartError(
            f"The certificate {pair.certificate} with the key {pair.key} cannot be used "
            f"({getattr(error, 'reason', None) or error}): name a matching pair of PEM files."
        ) from error
    if settings.tls.client_ca is not None:
        _ask_clients(context, settings.tls.client_ca)
    return context


def _ask_clients(context: ssl.SSLContext, authority: Path) -> None:
    """Let the handshake fail for clients without a certificate of this CA."""
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would not show its certificate again, which may have expired meanwhile.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise StartError(
            f"tls.client_ca ({authority}) cannot be used ({getattr(error, 'reason', None) or error.strerror}): "
            "name a PEM file with the CA that signs clients."
        ) from error


def describe(path: Path) -> Description:
    """Return what the first certificate of a PEM file says. Raises StartError if it cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise StartError(f"The certificate {path} cannot be read: {_reason(error)}.") from error
    return Description(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_alternative_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def trust_commands(authority: Path) -> tuple[tuple[str, str], ...]:
    """Return (where, command) for each kind of store that can be told to trust a CA."""
    quoted = f'"{authority.absolute()}"'
    return (
        (
            "Debian, Ubuntu",
            f"sudo cp {quoted} /usr/local/share/ca-certificates/sockade.crt && sudo update-ca-certificates",
        ),
        ("Fedora, Arch", f"sudo trust anchor {quoted}"),
        ("macOS", f"security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db {quoted}"),
        ("Windows", f"certutil -addstore -user Root {quoted}"),
        ("Chromium on Linux", f'certutil -d "sql:$HOME/.pki/nssdb" -A -t C,, -n Sockade -i {quoted}'),
    )


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal and the start would hang.
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not a PEM certificate"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Two commands started together must not each make a CA.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    # The mode is there from the first moment; O_EXCL follows no link that someone left in the way.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path) -> _Signed | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        key = serialization.load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificate(data)
    except (ValueError, TypeError) as error:
        raise StartError(f"{path} is damaged: remove it, and it is made anew at the next start.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise StartError(f"{path} holds a key of another certificate: remove it, and it is made anew.")
    return _Signed(certificate, key)


def _read_authority(path: Path, public: Path) -> _Signed | None:
    authority = _read(path)
    if authority is None and public.exists():
        # A new one would have to be trusted anew, by people who do not expect it: that is not ours to begin.
        raise StartError(
            f"{path}, the key of the local CA {public}, is missing: put it back, or remove {public} too, and a new CA "
            "is made, which has to be trusted anew."
        )
    return authority


def _over(signed: _Signed, now: datetime) -> bool:
    # A clock set back makes nothing anew: a new CA would have to be trusted anew.
    return signed.certificate.not_valid_after_utc - now < RENEW_BEFORE


def _serves(leaf: _Signed, authority: _Signed, names: tuple[str, ...], now: datetime) -> bool:
    # One that was made while the clock stood ahead is no client's until then.
    if _over(leaf, now) or leaf.certificate.not_valid_before_utc > now:
        return False
    if set(_alternative_names(leaf.certificate)) != set(names):
        return False
    try:
        leaf.certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # noqa: BLE001 - it raises one of three kinds, each of which means no
        return False
    return True


def _covers(authority: _Signed, names: tuple[str, ...]) -> bool:
    try:
        constraints = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    permitted = constraints.permitted_subtrees or []
    return all(subtree in permitted for subtree in _subtrees(names))


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def _subtrees(names: tuple[str, ...]) -> list[x509.GeneralName]:
    local = [x509.DNSName("localhost"), *(x509.IPAddress(network) for network in LOOPBACK)]
    return local + [
        x509.IPAddress(ip_network(name)) if _is_address(name) else x509.DNSName(name)
        for name in names
        if not is_loopback(name)
    ]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _canonical(name: str) -> str:
    return str(ip_address(name)) if _is_address(name) else name.lower()


def _make_authority(names: tuple[str, ...], now: datetime) -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sockade local CA")])
    builder = _builder(name, name, key, now, AUTHORITY_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(_subtrees(names), None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Signed(certificate, key)


def _make_leaf(authority: _Signed, names: tuple[str, ...], now: datetime) -> _Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    alternatives = [x509.IPAddress(ip_address(name)) if _is_address(name) else x509.DNSName(name) for name in names]
    builder = _builder(subject, authority.certificate.subject, key, now, LEAF_LIFE)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Signed(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
