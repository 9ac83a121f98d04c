"""`sockade doctor`: does this machine have what the server needs?"""

import importlib.util
import os
import platform
import resource
import ssl
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer

from sockade.cli.options import ConfigOption, DataDirOption, settings_from
from sockade.cli.streams import printable
from sockade.doors.certificates import RENEW_BEFORE, describe, local_pair, look_at_local_pair, uses_local_pair
from sockade.doors.descriptors import OWN, shortage
from sockade.doors.ports import bind
from sockade.errors import StartError
from sockade.exposure import problems
from sockade.settings import LimitSettings, Settings

OLDEST_OPENSSL = (3, 0, 0)
DATABASES = ("sockade.db", "channels.db")
MAGIC = b"SQLite format 3\0"
"""What a file of SQLite begins with (https://sqlite.org/fileformat.html, 1.3.1)."""
FUTURE_SECONDS = 300
# No certificate of ours or of anybody else's is valid on a clock that stands before this program was written.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found: `note` slows or limits the server, `problem` keeps it from working."""

    state: Literal["ok", "note", "problem"]
    what: str
    text: str


def doctor(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Look at this machine; exit status 1 if something keeps the server from working."""
    found = list(examine(settings_from(config, data_dir), time.time()))
    for finding in found:
        typer.echo(f"{finding.state:<8} {finding.what:<12} {printable(finding.text)}")
    raise typer.Exit(1 if any(finding.state == "problem" for finding in found) else 0)


def examine(settings: Settings, now: float) -> Iterator[Finding]:
    """Yield what is found; `now` is POSIX time."""
    yield Finding("ok", "python", f"{platform.python_version()} ({platform.machine()})")
    yield from refused(settings)
    yield openssl(ssl.OPENSSL_VERSION_INFO, ssl.OPENSSL_VERSION, tls_1_3=ssl.HAS_TLSv1_3)
    yield installed("uvloop", "pip install uvloop makes the event loop faster")
    yield installed("aiofastnet", "pip install 'sockade[fast]' makes fan-out cheaper")
    yield data_directory(settings.server.data_dir)
    yield from ports(settings)
    yield clock(settings.server.data_dir, now)
    yield certificate(settings, now)
    yield descriptors(settings.limits, resource.getrlimit(resource.RLIMIT_NOFILE))


def openssl(version: tuple[int, ...], text: str, *, tls_1_3: bool) -> Finding:
    """Judge the TLS library."""
    if not tls_1_3:
        return Finding("problem", "openssl", f"{text} has no TLS 1.3: use a Python that is built with it")
    if version[:3] < OLDEST_OPENSSL:
        return Finding("problem", "openssl", f"{text} gets no security fixes any more: use OpenSSL 3 or newer")
    return Finding("ok", "openssl", f"{text}, TLS 1.2 and 1.3")


def installed(name: str, advice: str) -> Finding:
    """Judge whether an optional package is there."""
    if importlib.util.find_spec(name) is None:
        return Finding("note", name, f"not installed: {advice}")
    return Finding("ok", name, "installed")


def refused(settings: Settings) -> Iterator[Finding]:
    """Yield what `sockade check` finds, for a server with such settings does not start."""
    found = problems(settings)
    yield from (Finding("problem", "settings", sentence) for sentence in found)
    if not found:
        yield Finding("ok", "settings", "are not refused")


def data_directory(path: Path) -> Finding:
    """Judge the data directory and everything in it."""
    if not os.path.exists(path):
        above = next(folder for folder in path.absolute().parents if os.path.exists(folder))
        if not os.access(above, os.W_OK | os.X_OK):
            return Finding("problem", "data", f"{path} cannot be made, for {above} cannot be written by this user")
        return Finding("ok", "data", f"{path} is made at the first start")
    for entry in (path, *path.rglob("*")):
        # What a link leads to is not the data directory's, save where that is one itself; and a running server may have
        # removed it meanwhile.
        if (entry.is_symlink() and entry != path) or not entry.exists():
            continue
        if not os.access(entry, os.R_OK | os.W_OK | (os.X_OK if entry.is_dir() else 0)):
            advice = f"run `chown -R $(id -un) {path} && chmod -R u+rwX {path}`"
            return Finding("problem", "data", f"{entry} cannot be read and written by this user: {advice}")
        if stat.S_IMODE(entry.stat().st_mode) & 0o077:
            return Finding("problem", "data", f"{entry} can be read by others: run `chmod -R go= {path}`")
    for database in (path / name for name in DATABASES):
        if database.exists() and not is_database(database):
            return Finding("problem", "data", f"{database} is not a database: put back a copy, or start without it")
    return Finding("ok", "data", f"{path} is private, and nothing in it is damaged")


def is_database(path: Path) -> bool:
    """Tell whether a file begins as one of SQLite does, or is empty; the server makes one of that."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) in (b"", MAGIC)


def ports(settings: Settings) -> Iterator[Finding]:
    """Judge whether the ports are free, by taking them for a moment, as a start does."""
    server, admin = settings.server, settings.admin
    wanted = [("port", server.host, server.port, "server")]
    if os.path.exists(settings.api_key_path):
        wanted.append(("admin", admin.host, admin.port, "admin"))
    with ExitStack() as stack:
        for what, host, number, table in wanted:
            try:
                for sock in bind(host, number, table):
                    stack.enter_context(sock)
            except StartError as error:
                yield Finding("problem", what, str(error))
            else:
                yield Finding("ok", what, f"{host}:{number} is free" if number else "any free one is taken")


def clock(data_dir: Path, now: float) -> Finding:
    """Judge the clock by what it must at least be: this program was written, and files were."""
    times: dict[float, Path] = {}
    with suppress(PermissionError):  # Which is said of the data directory.
        for entry in data_dir.rglob("*"):
            with suppress(FileNotFoundError):
                times[entry.lstat().st_mtime] = entry
    newest = max(times, default=0.0)
    if newest - now > FUTURE_SECONDS:
        ahead = f"{(newest - now) / 60:,.0f} minutes behind {times[newest]}"
        return Finding("problem", "clock", f"stands {ahead}: certificates and tokens fail until it is set")
    if now < EARLIEST:
        return Finding("problem", "clock", "stands in the past: certificates and tokens fail until it is set")
    return Finding("ok", "clock", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC")


def certificate(settings: Settings, now: float) -> Finding:
    """Judge how long the certificate in use is still valid."""
    configured = settings.tls.certificate
    path = configured or local_pair(settings.server.data_dir).certificate
    try:
        if uses_local_pair(settings):
            look_at_local_pair(settings.server.data_dir)
        if configured is None and not path.exists():
            return Finding("ok", "certificate", "is made at the first start")
        found = describe(path)
    except StartError as error:
        return Finding("problem", "certificate", str(error))
    except OSError as error:
        return Finding("problem", "certificate", f"{error.filename} cannot be read ({error.strerror})")
    days = (found.not_after.timestamp() - now) / 86_400
    until = f"{path} is valid until {found.not_after:%Y-%m-%d}"
    if configured is None:
        return Finding("ok", "certificate", f"{until} and renewed by itself")
    if days <= 0:
        return Finding("problem", "certificate", f"{path} expired on {found.not_after:%Y-%m-%d}: renew it")
    if found.not_before.timestamp() > now:
        return Finding("problem", "certificate", f"{path} is not valid before {found.not_before:%Y-%m-%d}")
    if days < RENEW_BEFORE.days:
        return Finding("note", "certificate", f"{until}, {days:.0f} days: renew it; a running server takes it up")
    return Finding("ok", "certificate", until)


def descriptors(limits: LimitSettings, limit: tuple[int, int]) -> Finding:
    """Judge how many sockets the process may open."""
    soft = sys.maxsize if limit[0] == resource.RLIM_INFINITY else limit[0]
    if (short := shortage(soft)) is not None:
        return Finding("problem", "descriptors", short)
    # Who is not admitted yet has one as well.
    room = soft - OWN
    if room < limits.connections + limits.unauthenticated:
        wanted = f"limits.connections = {limits.connections} and limits.unauthenticated = {limits.unauthenticated}"
        told = f"{soft} allow about {room} connections, admitted or not, but {wanted}: raise `ulimit -n`"
        return Finding("note", "descriptors", told)
    return Finding("ok", "descriptors", f"{soft} are enough for {limits.connections} connections")
