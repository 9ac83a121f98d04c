"""Keeps the keys that this server signs with, and shows their public halves.

`<data_dir>/keys/` holds one file a signing key, `signing.<made at>.<kid>.pem` (Ed25519, PKCS #8). The newest signs;
an older one verifies until the last token it signed has expired. Adding a file rotates, and deleting one retires its
key at once: a running server looks at the folder every second. `refresh.key` holds 32 bytes that refresh tokens are
derived with. The directory is 0700 and each file 0600, or nothing is read from them. Who starts or rotates holds the
folder; a running server waits for nobody.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from sockade.errors import StartError
from sockade.files import FileState, states_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    SigningFile = tuple[int, str, Path]
    """When its key was made, the key's id, and where it is."""

FILE = re.compile(r"signing\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})\.pem")
REFRESH_FILE = "refresh.key"
REFRESH_BYTES = 32
HAND_OVER_SECONDS = 5.0
"""How long a running server may go on to sign with the old key before it sees the new one, and rounding."""
RETIRED_SECONDS = 3_600.0
"""Longer than any token of ours lives."""

State = tuple[tuple[str, ...], tuple[FileState | None, ...]]
"""The names of the keys' files, and the states of the folder and of each."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; `kid` is its RFC 7638 thumbprint, `made_at` in POSIX seconds."""

    made_at: int
    kid: str
    key: OKPKey

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


class ServerKeys:
    """The keys of a folder."""

    def __init__(self, folder: Path, found: Sequence[SigningKey], refresh: bytes) -> None:
        self._folder = folder
        self._used: State | None = None
        self.found = tuple(found)
        """The keys, the oldest first."""
        self.refresh = refresh

    def __repr__(self) -> str:
        return f"ServerKeys({', '.join(one.kid for one in self.found)})"

    @property
    def signing(self) -> OKPKey:
        """The key that signs."""
        return self.found[-1].key

    @property
    def signing_kid(self) -> str:
        """Its id."""
        return self.found[-1].kid

    def verifying(self, now: float, overlap: float) -> dict[str, OKPKey]:
        """Return the keys that verify at a time, by id: the newest, and those replaced at most `overlap` s ago."""
        followers = [*(one.made_at for one in self.found[1:]), inf]
        return {
            one.kid: one.key
            for one, replaced_at in zip(self.found, followers, strict=True)
            if now < replaced_at + overlap + HAND_OVER_SECONDS
        }

    def verifies(self, key: OKPKey, now: float, overlap: float) -> bool:
        """Tell whether a key is one of those: nearly always the newest."""
        return key is self.signing or any(key is one for one in self.verifying(now, overlap).values())

    @classmethod
    def open(cls, data_dir: Path, *, now: float) -> ServerKeys:
        """Read the keys, and make what is missing; `now` (POSIX seconds) goes into a new key's name.

        Raises `StartError` when a key cannot be read, or could be read by others.
        """
        folder = data_dir / "keys"
        with locked(folder):
            return cls._read(folder) or cls._make(folder, now)

    @classmethod
    def rotate(cls, data_dir: Path, *, now: float) -> ServerKeys:
        """Make a new key that signs from now on, and delete those that have verified nothing for long."""
        folder = data_dir / "keys"
        with locked(folder):
            before = cls._read(folder)
            made = cls._make(folder, max(now, before.found[-1].made_at + 1) if before else now)
            for one, follower in pairwise(made.found):
                if follower.made_at + RETIRED_SECONDS < now:
                    key_path(folder, one.made_at, one.kid).unlink()
            return made

    def reload(self) -> bool:
        """Read the folder again if it has changed; tell whether the keys did. It waits for nobody who holds the folder.

        A key whose file is gone is retired, whatever is wrong with the others. A key that was known and cannot be read
        any more stays; the last one does too, as nothing could be signed without it.

        Raises:
            StartError: something cannot be read; what can be is in use. It is tried again the next time.
            OSError: the folder itself cannot be looked at.
        """
        files = signing_files(self._folder)
        state = (tuple(path.name for *_, path in files), states_of(self._folder, *(path for *_, path in files)))
        if state == self._used:
            return False
        before = self.found
        wrong = self._take_in(files)
        if wrong:
            raise StartError(" ".join(wrong))
        self._used = state
        return self.found != before

    def _take_in(self, files: Sequence[SigningFile]) -> list[str]:
        """Use the keys of files, with those known before where they are the same; return what is wrong."""
        known = {(one.made_at, one.kid): one for one in self.found}
        found, wrong = [], []
        for made_at, kid, path in files:
            one = known.get((made_at, kid))
            try:
                check_private(self._folder)
                key = read_key(path, kid)
                found.append(one or SigningKey(made_at, kid, key))
            except FileNotFoundError:
                continue  # It was deleted after the folder was looked at.
            except (StartError, OSError) as error:
                wrong.append(str(error))
                found += [one] if one is not None else []
        if found:
            self.found = tuple(found)
        else:
            wrong.append(f"There is no signing key in {self._folder} any more.")
        return wrong

    def jwks(self, now: float, overlap: float) -> dict[str, list[dict[str, Any]]]:
        """Return the public key set (RFC 7517 §5) of the keys that verify at a time."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "alg": "EdDSA", "use": "sig"}
                for kid, key in self.verifying(now, overlap).items()
            ]
        }

    @classmethod
    def _read(cls, folder: Path) -> ServerKeys | None:
        files = signing_files(folder)
        if not files:
            return None
        keys = [SigningKey(made_at, kid, read_key(path, kid)) for made_at, kid, path in files]
        return cls(folder, keys, read_refresh(folder))

    @classmethod
    def _make(cls, folder: Path, now: float) -> ServerKeys:
        key = OKPKey.generate_key("Ed25519")
        kid = key.thumbprint()
        read_refresh(folder)
        write_private(key_path(folder, int(now), kid), key.as_pem(private=True))
        keys = cls._read(folder)
        if keys is None:
            raise StartError(f"The key just made in {folder} is not there.")
        return keys


def signing_files(folder: Path) -> list[SigningFile]:
    """Return the files of signing keys, the oldest key first."""
    matches = ((FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), match[2], path) for match, path in matches if match)


def key_path(folder: Path, made_at: int, kid: str) -> Path:
    """Return the name of a signing key's file."""
    return folder / f"signing.{made_at}.{kid}.pem"


def read_key(path: Path, kid: str) -> OKPKey:
    """Return the private key of a file whose name carries its thumbprint."""
    check_private(path)
    try:
        key = OKPKey.import_key(path.read_bytes())
    except (JoseError, ValueError, TypeError) as error:
        raise StartError(f"{path} is not a private key.") from error
    if not key.is_private or key.curve_name != "Ed25519" or key.thumbprint() != kid:
        raise StartError(f"{path} is not the Ed25519 private key that its name says.")
    return key


def read_refresh(folder: Path) -> bytes:
    """Return the secret that refresh tokens are derived with; make it where there is none.

    Another one signs nobody out: tokens are known by their digests, and only their successors are derived with it.
    """
    path = folder / REFRESH_FILE
    if not path.exists():
        write_private(path, secrets.token_bytes(REFRESH_BYTES))
    check_private(path)
    value = path.read_bytes()
    if len(value) != REFRESH_BYTES:
        raise StartError(
            f"{path} must hold {REFRESH_BYTES} bytes: restore it, or delete it and start again, which makes another."
        )
    return value


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and wait for the disk."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def check_private(path: Path) -> None:
    """Raise `StartError` for a file or directory that others than its owner can read or change."""
    if path.stat().st_mode & 0o077:
        raise StartError(f"{path} can be read by others: chmod {'700' if path.is_dir() else '600'} {path}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and hold it; what the system refuses is a `StartError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(folder)
        with only_one(folder):
            yield
    except OSError as error:
        raise StartError(f"The keys in {folder} cannot be used: {error.strerror}.") from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two processes that start at once must not make two keys."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
