"""What is wrong with the files that settings name: certificates, keys, secrets, folders, lists of addresses."""

from __future__ import annotations

import stat
from ipaddress import ip_network
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sockade.settings import Network

HMAC_BYTES = 32  # RFC 7518 §3.2


def certificate(path: Path, now: datetime) -> Iterator[str]:
    """Say what is wrong with the server's certificate."""
    leaf = _leaf(path)
    if isinstance(leaf, str):
        yield leaf
    elif leaf.not_valid_after_utc <= now:
        yield f"tls.certificate ({path}) expired on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it."
    elif leaf.not_valid_before_utc > now:
        yield (
            f"tls.certificate ({path}) is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}: "
            "check this machine's clock or use another."
        )


def _leaf(path: Path) -> x509.Certificate | str:
    found = _certificates("tls.certificate", path, "the certificate and its chain")
    return found if isinstance(found, str) else found[0]  # The server's own comes first (RFC 8446 §4.4.2).


def _certificates(setting: str, path: Path, wanted: str) -> list[x509.Certificate] | str:
    """Return the certificates of a file, one at least; or one sentence on what is wrong."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        return f"{setting} ({path}) cannot be read ({error.strerror}): name a PEM file this user can read."
    except ValueError:
        return f"{setting} ({path}) is not a PEM certificate: name a file with {wanted}."


def key(path: Path, certificate: Path) -> Iterator[str]:
    """Say what is wrong with the key of the server's certificate."""
    try:
        status, data = path.stat(), path.read_bytes()
    except OSError as error:
        yield f"tls.key ({path}) cannot be read ({error.strerror}): name a PEM file this user can read."
        return
    if _open_to_others(status):
        yield f"tls.key ({path}) can be read by others: run `chmod 600 {path}`."
    try:
        public = load_pem_private_key(data, None).public_key()
    except TypeError:
        yield f"tls.key ({path}) is encrypted: name a file with the key in plain PEM, readable by this user alone."
        return
    except (ValueError, UnsupportedAlgorithm):
        yield f"tls.key ({path}) is not a PEM private key."
        return
    leaf = _leaf(certificate)
    if not isinstance(leaf, str) and leaf.public_key() != public:
        yield f"tls.certificate ({certificate}) does not belong to tls.key ({path}): name a matching pair."


def client_ca(path: Path | None, now: datetime) -> Iterator[str]:
    """Say what is wrong with the authority of client certificates, where one is named."""
    if path is None:
        return
    found = _certificates("tls.client_ca", path, "the CA that signs clients")
    if isinstance(found, str):
        yield found
    elif all(certificate.not_valid_after_utc <= now for certificate in found):
        yield f"tls.client_ca ({path}) expired: no client could connect, name the CA that signs them now."


def secret(setting: str, path: Path, *, is_text: bool = False) -> Iterator[str]:
    """Say what is wrong with the file of a secret; white space around one that is text is no part of it."""
    try:
        status, content = path.stat(), path.read_bytes()
    except OSError as error:
        yield f"{setting} ({path}) cannot be read ({error.strerror}): name a file with the secret."
        return
    if _open_to_others(status):
        yield f"{setting} ({path}) can be read by others: run `chmod 600 {path}`."
    if len(content.strip() if is_text else content.rstrip(b"\r\n")) < HMAC_BYTES:
        yield f"{setting} ({path}) is shorter than {8 * HMAC_BYTES} bits: make one with `openssl rand -base64 48`."


def data_dir(path: Path) -> Iterator[str]:
    """Say what is wrong with the folder of all that is kept."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return  # It is made with the right mode.
    except OSError as error:
        yield f"server.data_dir ({path}) cannot be used ({error.strerror}): name a folder this user owns."
        return
    if not stat.S_ISDIR(status.st_mode):
        yield f"server.data_dir ({path}) is not a folder: name another."
    elif stat.S_IMODE(status.st_mode) & 0o077:
        yield f"server.data_dir ({path}) can be read by others: run `chmod 700 {path}`."


def _open_to_others(status: os.stat_result) -> bool:
    # PostgreSQL's rule: a key that root owns may be readable by one group, as Debian's ssl-cert or a mounted
    # secret is; nothing else may be readable by anyone but the owner.
    mode = stat.S_IMODE(status.st_mode)
    return bool(mode & (0o027 if status.st_uid == 0 else 0o077))


def networks_in(path: Path, key: str) -> tuple[Network, ...] | str:
    """Return the networks of an address file, one a line with comments after `#`; or one sentence on what is wrong.

    `key` is `allow_file` or `deny_file`. An allow-list without a network is wrong: it is what is left of a file that
    could not be written, and nobody could connect.
    """
    setting = f"addresses.{key} ({path})"
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        return f"{setting} cannot be read ({error.strerror}): name a file this user can read."
    except UnicodeDecodeError:
        return f"{setting} is not text: write one network a line."
    found = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("#")[0].strip():
            try:
                found.append(ip_network(text))
            except ValueError:
                return f"{setting} line {number} is not a network such as 10.0.0.0/8 or 2001:db8::/32: mend it."
    if not found and key == "allow_file":
        return f"{setting} holds no network: nobody could connect, list those who may."
    return tuple(found)
