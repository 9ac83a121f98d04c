"""`sockade doctor`: does this machine have what the server needs?"""

import importlib.util
import os
import platform
import resource
import socket
import ssl
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer

from sockade.cli.options import ConfigOption, DataDirOption, settings_from
from sockade.doors.certificates import RENEW_BEFORE, describe, local_pair
from sockade.errors import StartError
from sockade.settings import LimitSettings, Settings

OLDEST_OPENSSL = (3, 0, 0)
# Database, log, listener and the files of the interpreter.
OTHER_DESCRIPTORS = 64
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
        typer.echo(f"{finding.state:<8} {finding.what:<12} {finding.text}")
    raise typer.Exit(1 if any(finding.state == "problem" for finding in found) else 0)


def examine(settings: Settings, now: float) -> Iterator[Finding]:
    """Yield what is found; `now` is POSIX time."""
    yield Finding("ok", "python", f"{platform.python_version()} ({platform.machine()})")
    yield openssl(ssl.OPENSSL_VERSION_INFO, ssl.OPENSSL_VERSION, tls_1_3=ssl.HAS_TLSv1_3)
    yield installed("uvloop", "pip install uvloop makes the event loop faster")
    yield installed("aiofastnet", "pip install 'sockade[fast]' makes fan-out cheaper")
    yield data_directory(settings.server.data_dir)
    yield port(settings.server.host, settings.server.port)
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


def data_directory(path: Path) -> Finding:
    """Judge the data directory and everything in it."""
    if not path.exists():
        return Finding("ok", "data", f"{path} is made at the first start")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Finding("problem", "data", f"{path} cannot be written by this user: run `chown -R $(id -un) {path}`")
    for entry in (path, *path.rglob("*")):
        if stat.S_IMODE(entry.lstat().st_mode) & 0o077 and not entry.is_symlink():
            return Finding("problem", "data", f"{entry} can be read by others: run `chmod -R go= {path}`")
    return Finding("ok", "data", f"{path} is private")


def port(host: str, number: int) -> Finding:
    """Judge whether the port is free, by taking it for a moment."""
    if number == 0:
        return Finding("ok", "port", "any free one is taken")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return Finding("problem", "port", f"{host}:{number} cannot be had ({error.strerror}): choose another port")
    return Finding("ok", "port", f"{host}:{number} is free")


def clock(data_dir: Path, now: float) -> Finding:
    """Judge the clock by what it must at least be: this program was written, and files were."""
    times = {entry.lstat().st_mtime: entry for entry in data_dir.rglob("*")}
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
    if configured is None and not path.exists():
        return Finding("ok", "certificate", "is made at the first start")
    try:
        found = describe(path)
    except StartError as error:
        return Finding("problem", "certificate", str(error))
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
    other = limits.unauthenticated + OTHER_DESCRIPTORS
    if soft < limits.connections + other:
        room = max(0, soft - other)
        wanted = f"limits.connections = {limits.connections} and limits.unauthenticated = {limits.unauthenticated}"
        return Finding("note", "descriptors", f"{soft} allow about {room} connections of {wanted}: raise `ulimit -n`")
    return Finding("ok", "descriptors", f"{soft} are enough for {limits.connections} connections")
