"""The security cases, and the table of what the tests saw of each: `python -m tests.security.table`.

A test belongs to a case when its docstring begins with "Case 21." or "Cases 21, 22."; `tests/security/report.py` notes
how each such test ended. A case without a test is never counted as passed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[2] / "test-artifacts" / "security.json"
WIDTH = 160


@dataclass(frozen=True, slots=True)
class Case:
    """One thing an attacker tries, and what must come of it."""

    what: str
    expected: str
    missing: str = ""
    """Why there is no test of it yet, or what of it has none."""
    inside: str = ""
    """Why it, or a part of it, is not tried from outside a running server."""


CHANNELS = "comes with channels"

CASES = {
    1: Case("TLS 1.0, TLS 1.1, CBC, RSA key exchange", "alert"),
    2: Case("plain ws:// on the TLS port", "closed; no 101, no redirect"),
    3: Case("silent TCP; a ClientHello byte by byte", "closed at the deadline"),
    4: Case("FIN within a message", "nothing delivered"),
    5: Case("certificate replaced while sockets are open", "new one for new sockets; none drops; a bad pair refused"),
    6: Case("client certificates required", "none or a foreign one: alert"),
    7: Case("method, HTTP version, key, WebSocket version, h2c", "never 101"),
    8: Case("line, header, head too long; 2,000 headers", "414, 431; the server lives"),
    9: Case("a request head byte by byte", "408 or closed at the deadline"),
    10: Case("upgrade with a body, two lengths, bare LF, folding, NUL", "400 and closed"),
    11: Case("frames ahead of the 101", "not before admission, not lost after it"),
    12: Case("a request behind a refused upgrade", "connection closed"),
    13: Case("Connection lists, any case of names and tokens", "accepted"),
    14: Case(
        "generated request heads",
        "no exception, no 500",
        inside="through the real door in one process: a hundred thousand TLS handshakes would try TLS",
    ),
    15: Case("foreign Origin", "403 before any credential is looked at"),
    16: Case("Origin null or absent beside cookie or ticket", "403"),
    17: Case("origins that look like an allowed one", "403; other case and default port pass"),
    18: Case("a sibling whose cookie SameSite sends", "403"),
    19: Case("Host that is not ours", "421"),
    20: Case("a browser's page on another origin", "no socket, no data"),
    21: Case("alg none; HMAC with the public key", "401"),
    22: Case("unknown crit; jwk, jku, x5u, x5c in the header", "401, nothing fetched"),
    23: Case("kid as path, SQL, 10 KB", "401, no I/O, escaped in the log"),
    24: Case("1,000 random kid", "one fetch in 30 s"),
    25: Case("key server down, huge, redirecting, slow", "cached keys, then 503"),
    26: Case("exp, nbf, iat at the leeway; claims missing", "401 outside"),
    27: Case("another aud, iss, typ; another kind of token", "401"),
    28: Case("key rotation", "the old key through the overlap only"),
    29: Case("any other string as token", "401"),
    30: Case("one ticket in 200 handshakes at once", "one 101"),
    31: Case("ticket late, elsewhere, after logout", "401"),
    32: Case("guessing credentials", "none hits, 429 early"),
    33: Case("ticket by GET or cross-site form; token in the URL", "405, 403, 400; redacted"),
    34: Case("cookie attributes; session fixation", "exact; the old id is dead"),
    35: Case("unknown user against wrong password", "same body, same time"),
    36: Case("200 sign-ins at once", "two at work, the rest wait a little, then 503"),
    37: Case("1 MB password; stuffing", "413 before hashing; 429, no lasting lock-out"),
    38: Case("the token expires on an open socket", "told, then closed"),
    39: Case("renewal in band; with another user's token", "same socket; closed"),
    40: Case("renewal with fewer rights", "hold at once"),
    41: Case("idle and absolute limits", "close the socket; pings are no activity"),
    42: Case("logout, disable, password change, kill", "sockets closed within 2 s"),
    43: Case("revoked during the handshake", "never registered"),
    44: Case("a replayed refresh token; two tabs", "family revoked; both tabs the same token"),
    45: Case("restart", "revoked stays revoked, sessions go on"),
    46: Case(
        "the wall clock jumps",
        "timers fire on time",
        inside="a process cannot be given another clock than the machine's, so the authority is given one",
    ),
    47: Case("recovery after a change of rights", "checked again"),
    48: Case("denied address; allow-list", "closed before TLS"),
    49: Case("X-Forwarded-For from strangers; behind proxies", "ignored; rightmost untrusted counts"),
    50: Case("conflicting or malformed forwarding", "400 or the peer's address"),
    51: Case("lists change", "hold for open sockets within 5 s"),
    52: Case("IPv6 addresses within a /64", "share one allowance"),
    53: Case("messages over the rate", "rejected, 1008; then 429 for a while"),
    54: Case("one user on five sockets", "one allowance"),
    55: Case("connect loop; too many connections", "429, 429, 503"),
    56: Case(
        "a million addresses",
        "the limiter stays under 64 MiB",
        inside="one machine has not so many, so the limiter alone is given them",
    ),
    57: Case("ten invalid messages", "1008"),
    58: Case("frames that break the protocol", "1002, 1007, 1003"),
    59: Case("declared length over the limit", "1009 from the header; nothing buffered"),
    60: Case("more than 128 fragments", "1009"),
    61: Case("a message dripped", "closed at its deadline"),
    62: Case("silent peer; data after Close", "gone; ignored, TCP gone within 5 s"),
    63: Case("compression: bomb, window bits, bad data", "1009 in bounded memory; declined; 1007"),
    64: Case("JSON: unknown, duplicate, deep, NaN, huge", "rejected in under 5 ms"),
    65: Case("a client says who it is, when, or its role", "rejected; the server says"),
    66: Case(
        "control, bidi, zero-width; normal form; look-alikes",
        "rejected; NFC; one skeleton",
    ),
    67: Case("100 XSS payloads in the page", "inert text, none runs"),
    68: Case("a schema whose pattern backtracks", "answered at once"),
    69: Case("one idempotency key twice", "one delivery, one answer"),
    70: Case("a foreign and an unknown channel", "the same answer"),
    71: Case("removed from a channel", "delivery stops within 2 s"),
    72: Case("subscribers that never read", "closed within 10 s; bounded; the others miss nothing"),
    73: Case("half-open connections and slow heads in thousands", "a client connects within 1 s; bounded; all gone"),
    74: Case("out of descriptors", "no busy loop, recovers"),
    75: Case("connecting and leaving on and on", "memory, tasks, descriptors flat"),
    76: Case("kill -9 under load", "nothing acknowledged is lost or doubled"),
    77: Case("disk full, I/O error, failing fsync", "an error, never an acknowledgement"),
    78: Case("a torn last write", "the rest is readable"),
    79: Case("SIGTERM", "told to reconnect, done within 30 s"),
    80: Case("an exception in application code", "1011 for that connection alone"),
    81: Case("a flood of refused requests", "bounded log with a count"),
    82: Case("marked secrets through every channel", "found nowhere"),
    83: Case("CR, LF, ANSI in what is logged", "escaped"),
    84: Case("/metrics, /admin, /api on the public listener", "404; only the key opens the admin listener"),
    85: Case("headers of the pages; logout", "exact; the page is cleared"),
    86: Case("the page's reaction to close codes", "stops, or comes back with growing waits"),
}


@dataclass(slots=True)
class Result:
    """What was seen of one case."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    observed: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return `pass`, `FAIL`, or `none` where nothing was tried."""
        if self.failed or self.skipped:
            return "FAIL"
        return "pass" if self.passed else "none"


def load(path: Path = RESULTS) -> dict[int, Result]:
    """Return the results of the last run."""
    found: dict[str, Any] = json.loads(path.read_text())
    return {int(number): Result(**result) for number, result in found.items()}


def save(results: dict[int, Result], path: Path = RESULTS) -> None:
    """Keep the results of a run."""
    path.parent.mkdir(exist_ok=True)
    kept = {
        number: {name: getattr(result, name) for name in Result.__slots__} for number, result in sorted(results.items())
    }
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def verdict_of(number: int, results: dict[int, Result]) -> str:
    """Return the last column: `pass`, `FAIL`, or `not yet` for a case that nothing proves so far."""
    verdict = results.get(number, Result()).verdict
    if verdict == "none":
        return "not yet" if CASES[number].missing else "NO TEST"
    return verdict


def observed_of(number: int, results: dict[int, Result]) -> str:
    """Return what was seen: the figures that tests noted, and how many tests there were."""
    result, case = results.get(number, Result()), CASES[number]
    lines = list(dict.fromkeys(result.observed))
    if result.passed:
        lines.append(f"{result.passed} test{'s' * (result.passed > 1)} passed")
    lines += [f"failed: {name}" for name in result.failed] + [f"skipped: {name}" for name in result.skipped]
    if case.inside:
        lines.append(f"not from outside: {case.inside}")
    if case.missing:
        lines.append(case.missing if not result.passed else f"not yet: {case.missing}")
    return "; ".join(lines)


def show(results: dict[int, Result]) -> int:
    """Print the table and return 1 if a case failed or has no test; none of those is counted as passed."""
    table = Table("No.", "What", "Expected", "Observed", "Pass", padding=(0, 1), show_lines=False)
    verdicts = {number: verdict_of(number, results) for number in CASES}
    for number, case in CASES.items():
        table.add_row(str(number), case.what, case.expected, observed_of(number, results), verdicts[number])
    console = Console(width=WIDTH, markup=False, highlight=False)
    console.print(table)
    count = {word: list(verdicts.values()).count(word) for word in ("pass", "FAIL", "NO TEST", "not yet")}
    console.print(
        f"{len(CASES)} cases: {count['pass']} passed, {count['FAIL']} failed, "
        f"{count['NO TEST']} without a test, {count['not yet']} not yet. "
        "A number with 'of' was run smaller than its case says; FULL=1 runs it whole."
    )
    return 1 if count["FAIL"] or count["NO TEST"] else 0


if __name__ == "__main__":
    sys.exit(show(load()))
