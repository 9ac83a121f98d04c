"""Switches each guard off, one at a time, and shows that a test then fails: `make mutants`.

A mutant is one change to one file in a copy of the source. It is killed when the tests named for it fail, and
survives when they pass: then the check it removed was not tested.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.security.mutant_rows import ROWS
from tests.security.mutant_rows_identity import ROWS as IDENTITY_ROWS
from tests.security.mutant_rows_messaging import ROWS as MESSAGING_ROWS

ROOT = Path(__file__).parent.parent.parent
SECONDS = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard switched off."""

    name: str
    file: str
    before: str
    after: str
    tests: str


ADMISSION = "tests/doors/test_admission.py"
HELLO, NEGOTIATION = "tests/doors/test_hello.py", "tests/doors/test_negotiation.py"
TURNSTILE = "tests/doors/test_turnstile.py"
CLOSED = "tests/doors/test_closed.py"
HTTP = "tests/doors/test_http.py"
MESSAGES = "tests/guard/test_messages.py"
TOKENS = "tests/security/test_tokens.py"
SIGN_IN = "tests/security/test_sign_in.py"
SESSIONS = "tests/security/test_sessions.py"
JWKS = "tests/identity/test_jwks.py"
ISSUERS = "tests/identity/test_issuers.py"
ADDRESSES = "tests/security/test_addresses.py"
TRANSPORT = "tests/security/test_transport.py"
HEADS = "tests/security/test_heads.py"

MUTANTS = (
    Mutant("host", "guard/screen.py", "    check_host,\n", "", f"{ADMISSION}::test_foreign_host_is_421"),
    Mutant("origin", "guard/screen.py", "    check_origin,\n", "", ADMISSION),
    Mutant("request", "guard/screen.py", "    check_request,\n", "", HTTP),
    Mutant("websocket version and key", "guard/screen.py", "    check_websocket,\n", "", HTTP),
    Mutant("path", "guard/screen.py", "    check_path,\n", "", ADMISSION),
    Mutant("credential in the URL", "guard/screen.py", "    check_url,\n", "", ADMISSION),
    Mutant(
        "no credential",
        "guard/credentials.py",
        'return Refuse(Reason.CREDENTIAL_MISSING, "no credential")',
        'return Credential(Carrier.COOKIE, Secret(""))',
        f"{ADMISSION}::test_no_credential_is_401",
    ),
    Mutant(
        "origin beside a cookie",
        "guard/credentials.py",
        'credential.carrier is not Carrier.BEARER and not head.all("origin")',
        "False",
        ADMISSION,
    ),
    Mutant(
        "connections of a user",
        "guard/admit.py",
        "counts.user >= quotas.user",
        "False",
        f"{ADMISSION} -k bounded_number",
    ),
    Mutant(
        "signature of a token",
        "identity/tokens.py",
        "jws.deserialize_compact(token, key, registry=REGISTRY).payload",
        'decode_segment(token.split(".")[1])',
        f"{ADMISSION}::test_forged_token_is_401",
    ),
    Mutant(
        "expiry of a token",
        "identity/tokens.py",
        "claims.exp + leeway <= now",
        "False",
        "tests/identity/test_tokens.py",
    ),
    Mutant(
        "single use of a ticket",
        "identity/tickets.py",
        "        issued = self._take(key) if key is not None else None\n",
        "        issued = self._issued.get(key) if key is not None else None\n",
        f"{ADMISSION}::test_ticket_works_once_and_is_not_echoed",
    ),
    Mutant(
        "issuer: audience",
        "identity/issuers.py",
        "settings.audience not in audiences",
        "False",
        TOKENS + " -k somebody",
    ),
    Mutant(
        "issuer: name",
        "identity/issuers.py",
        "claims.iss != settings.issuer or ",
        "",
        "tests/identity/test_issuers.py -k wrong_issuer",
    ),
    Mutant(
        "issuer: header",
        "identity/issuers.py",
        "class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True)",
        "class Header(msgspec.Struct, frozen=True)",
        TOKENS + " -k names_keys",
    ),
    Mutant(
        "issuer: type of token",
        "identity/issuers.py",
        "or not is_typed(header.typ, typ)",
        "",
        TOKENS + " -k somebody",
    ),
    Mutant(
        "issuer: ID token",
        "identity/issuers.py",
        "ID_TOKEN_CLAIMS & more.keys() or ",
        "",
        TOKENS + " -k somebody",
    ),
    Mutant(
        "issuer: subject",
        "identity/issuers.py",
        " or SUBJECT.fullmatch(claims.sub) is None",
        "",
        TOKENS + " -k somebody",
    ),
    Mutant(
        "issuer: signature",
        "identity/issuers.py",
        "jws.deserialize_compact(token, key.key, registry=self._registry).payload",
        'decode_segment(token.split(".")[1])',
        TOKENS + " -k foreign_key",
    ),
    Mutant(
        "issuer: name before the subject",
        "identity/issuers.py",
        'user=f"{self._name}:{claims.sub}"',
        "user=claims.sub",
        TOKENS + " -k taken_for",
    ),
    Mutant(
        "issuer: not before",
        "identity/issuers.py",
        "claims.iat > now + leeway or claims.nbf > now + leeway",
        "False",
        TOKENS + " -k times",
    ),
    Mutant(
        "issuer: life",
        "identity/issuers.py",
        "claims.exp - claims.iat > settings.token_seconds",
        "False",
        TOKENS + " -k times",
    ),
    Mutant(
        "issuer: expiry",
        "identity/issuers.py",
        "claims.exp + leeway <= now",
        "False",
        ISSUERS + " -k expired",
    ),
    Mutant(
        "issuer: kid",
        "identity/issuers.py",
        "self._keys.get(kid)",
        "next(iter(self._keys.values()))",
        TOKENS + " -k kid_is_only",
    ),
    Mutant(
        "issuer: user in the session",
        "identity/issuers.py",
        'f"{claims.sub}\\n{claims.sid}"',
        'f"{claims.sid}"',
        TOKENS + " -k renewed",
    ),
    Mutant(
        "key set: thirty seconds",
        "identity/jwks.py",
        "and now >= self._next_at",
        "",
        JWKS + " -k thirty",
    ),
    Mutant(
        "key set: fails closed",
        "identity/jwks.py",
        "return UNAVAILABLE if key is None and self._failed else key",
        "return key",
        JWKS,
    ),
    Mutant(
        "key set: an hour",
        "identity/jwks.py",
        "        if self._age() >= KEEP_SECONDS:\n            return UNAVAILABLE\n",
        "",
        JWKS,
    ),
    Mutant(
        "key set: refreshed",
        "identity/jwks.py",
        "self._age() >= REFRESH_SECONDS",
        "False",
        JWKS,
    ),
    Mutant(
        "key set: symmetric keys",
        "identity/keysets.py",
        'RS", "PS',
        'RS", "PS", "HS',
        JWKS,
    ),
    Mutant(
        "fetch: size",
        "identity/fetch.py",
        "len(response.body) > BODY_BYTES or taken > BODY_BYTES + HEAD_BYTES",
        "False",
        JWKS + " -k misbehaves",
    ),
    Mutant(
        "fetch: status",
        "identity/fetch.py",
        "parser.get_status_code() != 200",
        "False",
        JWKS + " -k misbehaves",
    ),
    Mutant(
        "fetch: deadline",
        "identity/fetch.py",
        "asyncio.timeout(SECONDS)",
        "asyncio.timeout(60)",
        JWKS + " -k misbehaves",
    ),
    Mutant(
        "fetch: https",
        "identity/fetch.py",
        "if not secure and not is_loopback(host)",
        "if False",
        JWKS + " -k plain_http",
    ),
    Mutant(
        "HMAC secret that is a public key",
        "identity/keysets.py",
        'secret.lstrip().startswith((b"-----BEGIN", b"ssh-", b"{"))',
        "False",
        ISSUERS,
    ),
    Mutant(
        "RSA bits",
        "identity/keysets.py",
        "key.raw_value.key_size < MIN_RSA_BITS",
        "False",
        ISSUERS,
    ),
    Mutant(
        "algorithm families mixed",
        "exposure/issuers.py",
        "symmetric and len(symmetric) != len(issuer.accepted)",
        "False",
        ISSUERS,
    ),
    Mutant(
        "issuer without audience",
        "exposure/issuers.py",
        "not issuer.audience",
        "False",
        ISSUERS,
    ),
    Mutant(
        "secret that others can read",
        "exposure/files.py",
        '    if _open_to_others(status):\n        yield f"{setting} ({path}) can be read by others: run `chmod 600',
        '    if False:\n        yield f"{setting} ({path}) can be read by others: run `chmod 600',
        ISSUERS,
    ),
    Mutant(
        "key set over http",
        "exposure/issuers.py",
        'parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))',
        "True",
        ISSUERS,
    ),
    Mutant(
        "revoked tokens",
        "identity/authority.py",
        'if self._revocations.covers(proof):\n            return Refuse(Reason.REVOKED, "the token',
        'if False:\n            return Refuse(Reason.REVOKED, "the token',
        TOKENS + " -k revoked",
    ),
    Mutant(
        "revocation closes sockets",
        "identity/authority.py",
        "also=self._revocations.learn",
        "also=None",
        TOKENS + " -k revoked",
    ),
    Mutant(
        "issued before",
        "identity/revocations.py",
        "proof.issued_at < rule.before",
        "False",
        TOKENS + " -k before",
    ),
    Mutant(
        "renewal",
        "identity/authority.py",
        "            callback(identity)\n",
        "            pass\n",
        SESSIONS + " -k renewal",
    ),
    Mutant(
        "cookies forgotten when ended",
        "identity/sessions.py",
        "        endings.on_end(self._cookies.drop)\n",
        "",
        SESSIONS + " -k memory",
    ),
    Mutant(
        "cookies from memory while fresh",
        "identity/sessions.py",
        "self._endings.learned_within(FRESH_SECONDS) and ",
        "",
        "tests/identity/test_authority.py -k memory",
    ),
    Mutant(
        "old key retires",
        "identity/keys.py",
        "if now < replaced_at + overlap + HAND_OVER_SECONDS",
        "if True",
        "tests/identity/test_keys.py",
    ),
    Mutant(
        "new key is picked up",
        "identity/authority.py",
        "            self._keys.reload()\n",
        "            pass\n",
        TOKENS + " -k rotates",
    ),
    Mutant(
        "attempts of an address",
        "identity/attempts.py",
        "        if not bucket.take(now):\n",
        "        if False:\n",
        SIGN_IN + " -k stuffing",
    ),
    Mutant(
        "attempts at a name",
        "identity/attempts.py",
        "of_name is not None and not of_name.take(now)",
        "False",
        SIGN_IN + " -k locked_out",
    ),
    Mutant(
        "no lock-out by others",
        "identity/attempts.py",
        "self._known.get(key, now) or ",
        "",
        SIGN_IN + " -k locked_out",
    ),
    Mutant(
        "guesses",
        "identity/attempts.py",
        "if bucket.seconds_until(now) > 0",
        "if False",
        SIGN_IN + " -k guessing_is",
    ),
    Mutant(
        "Origin of a ticket",
        "identity/tickets.py",
        "if origin != issued.origin",
        "if False",
        SIGN_IN + " -k another_origin",
    ),
    Mutant(
        "end of a ticket",
        "identity/tickets.py",
        " or self._clock.monotonic() >= issued.expires_at",
        "",
        SIGN_IN + " -k after_its_time",
    ),
    Mutant(
        "two hashes at a time",
        "identity/passwords.py",
        "                await self._places.acquire()\n",
        "                pass\n",
        "tests/identity/test_passwords.py -k busy",
    ),
    Mutant(
        "hash for nobody",
        "identity/passwords.py",
        "self._matches(stored or self._nobody, value)",
        "stored is not None and self._matches(stored, value)",
        SIGN_IN + " -k costs_what",
    ),
    Mutant(
        "reuse of a refresh token",
        "identity/refresh.py",
        '            await self._sessions.end([session.id], "refresh_reuse")\n',
        "",
        SESSIONS + " -k replayed",
    ),
    Mutant("turns of a rush", "doors/turnstile.py", "self._passed < self._a_turn and", "True or", TURNSTILE),
    Mutant(
        "turns of those who wait",
        "doors/turnstile.py",
        "self._waiting and self._passed < self._a_turn",
        "self._waiting",
        TURNSTILE,
    ),
    Mutant(
        "a rush of hellos",
        "doors/listener.py",
        "                await self._turnstile.enter()\n",
        "",
        TURNSTILE,
    ),
    Mutant(
        "memory of what is closed",
        "doors/websocket.py",
        "        del self.connection\n",
        "",
        CLOSED,
    ),
    Mutant(
        "memory of a parser that failed",
        "doors/websocket.py",
        "        protocol.parser_exc = None\n",
        "",
        f"{CLOSED} -k cut",
    ),
    Mutant(
        "memory of a parser",
        "doors/websocket.py",
        "        protocol.parser.close()\n",
        "",
        f"{CLOSED} -k close",
    ),
    Mutant(
        "memory of a client",
        "messaging/channel_protocol.py",
        "client, connection.client = connection.client, None",
        "client = connection.client",
        f"{CLOSED} -k websocket",
    ),
    Mutant("address before TLS", "doors/listener.py", "if not self._rules().permits(address):", "if False:", ADDRESSES),
    Mutant(
        "deny list", "guard/addresses.py", "        if parsed in self.deny:\n            return False\n", "", ADDRESSES
    ),
    Mutant("allow list", "guard/addresses.py", "self.allow is None or parsed in self.allow", "True", ADDRESSES),
    Mutant(
        "forwarding headers of strangers",
        "doors/listener.py",
        "        if not peer.is_proxy:\n            return None\n",
        "",
        f"{ADDRESSES} -k untrusted_peer",
    ),
    Mutant(
        "rightmost untrusted address",
        "guard/forwarded.py",
        "reversed(entries[-MOST_PROXIES:])",
        "entries",
        f"{ADDRESSES} -k rightmost",
    ),
    Mutant(
        "conflicting forwarding headers",
        "guard/forwarded.py",
        "len(set(named)) > 1",
        "False",
        f"{ADDRESSES} -k conflicting",
    ),
    Mutant(
        "client behind a proxy",
        "doors/http.py",
        "Handshake(self._peer.id, self._head, self._peer.client)",
        "Handshake(self._peer.id, self._head, self._peer.address)",
        f"{ADDRESSES} -k rightmost",
    ),
    Mutant(
        "client of an HTTP request",
        "doors/http.py",
        '        self.scope["client"] = (self._peer.client, 0)\n',
        "",
        f"{ADDRESSES} -k http_requests",
    ),
    Mutant(
        "lists for open connections",
        "server.py",
        "if not self.addresses.rules.permits(connection.address):",
        "if False:",
        f"{ADDRESSES} -k change_of_a_list",
    ),
    Mutant(
        "lists for peers that are not admitted",
        "doors/listener.py",
        "if not unsaid and not rules.permits(peer.client):",
        "if False:",
        f"{ADDRESSES} -k change_of_a_list",
    ),
    Mutant(
        "an allow-file that was emptied",
        "exposure/files.py",
        'if not found and key == "allow_file":',
        "if False:",
        f"{ADDRESSES} -k broken_list",
    ),
    Mutant(
        "one allowance for a /64",
        "guard/addresses.py",
        "IPV6_SITE_BITS = 64",
        "IPV6_SITE_BITS = 128",
        f"{ADDRESSES} -k ipv6",
    ),
    Mutant(
        "connections of a client behind a proxy",
        "doors/listener.py",
        "if self._addresses[key] >= self._limits.connections_per_address:",
        "if False:",
        f"{ADDRESSES} -k ipv6",
    ),
    # The suites alone keep the old versions out as well: both at once.
    Mutant(
        "lowest TLS",
        "doors/certificates.py",
        "TLSv1_2\n    context.set_ciphers(CIPHERS)\n",
        'TLSv1\n    context.set_ciphers("ALL:@SECLEVEL=0")\n',
        f"{TRANSPORT} -k old_tls",
    ),
    Mutant(
        "cipher suites", "doors/certificates.py", "    context.set_ciphers(CIPHERS)\n", "", f"{TRANSPORT} -k old_tls"
    ),
    Mutant(
        "client certificates",
        "doors/certificates.py",
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_OPTIONAL",
        f"{TRANSPORT} -k client_certificate",
    ),
    Mutant(
        "deadline of the ClientHello",
        "doors/hello.py",
        "self._loop.time() + self._seconds",
        "self._loop.time() + 60",
        f"{TRANSPORT} -k deadline_of_tls",
    ),
    Mutant(
        "deadline of each who waits",
        "doors/hello.py",
        "                self._timer = self._loop.call_at(awaited.due, self._end_late)\n",
        "",
        HELLO,
    ),
    Mutant("end of a ClientHello", "doors/hello.py", "len(begun) < awaited.wanted or not size", "not size", HELLO),
    Mutant(
        "what drips in", "doors/hello.py", "            self._want(sock, awaited, size)\n", "            pass\n", HELLO
    ),
    Mutant("offers that are read", "doors/negotiation.py", "if name in OFFERS", "if False", NEGOTIATION),
    Mutant(
        "deadline of TLS",
        "doors/listener.py",
        "max(peer.accepted_at + self._limits.tls_seconds - self._loop.time(), 0.01)",
        "60",
        f"{TRANSPORT} -k half_way",
    ),
    Mutant(
        "a broken certificate",
        "doors/reload.py",
        "        except (StartError, OSError) as error:",
        "        except ZeroDivisionError as error:",
        f"{TRANSPORT} -k certificate_replaced",
    ),
    Mutant(
        "deadline of the head",
        "doors/http.py",
        "self._expect(min(self.loop.time() + limits.head_seconds, self._began + limits.handshake_seconds))",
        "pass",
        f"{TRANSPORT} -k deadline_of_the_head",
    ),
    Mutant(
        "deadline of a body",
        "doors/http.py",
        "        self._expect(self._began + self._limits.handshake_seconds)\n",
        "        self._expect(math.inf)\n",
        f"{TRANSPORT} -k dripped_body",
    ),
    Mutant(
        "deadline of a response",
        "doors/http.py",
        "response = min(self._response_due, now + self._limits.response_seconds)",
        "response = math.inf",
        f"{TRANSPORT} -k never_read",
    ),
    Mutant(
        "padding of chunks",
        "doors/http.py",
        "if self._body_bytes > CHUNKED_FACTOR",
        "if False and CHUNKED_FACTOR",
        f"{TRANSPORT} -k pads",
    ),
    Mutant(
        "pipelining", "doors/http.py", "if len(self.pipeline) >= PIPELINED:", "if False:", f"{TRANSPORT} -k far_ahead"
    ),
    Mutant(
        "upgrade ahead of an answer",
        "doors/http.py",
        '"""Let admission decide, and keep the little that comes meanwhile."""\n        if self._is_answering:',
        '"""Let admission decide, and keep the little that comes meanwhile."""\n        if False:',
        f"{TRANSPORT} -k ahead_of_an_answer",
    ),
    Mutant(
        "room for new peers",
        "doors/listener.py",
        "if len(self._pending) >= self._limits.unauthenticated:",
        "if False:",
        f"{TRANSPORT} -k half_open",
    ),
    Mutant(
        "rest when out of descriptors",
        "doors/listener.py",
        "            self._loop.remove_reader(listening)\n",
        "",
        f"{TRANSPORT} -k neither_spins",
    ),
    Mutant(
        "descriptors of silent peers",
        "doors/listener.py",
        'self._end(peer, Refuse(Reason.BUSY, "made room: out of descriptors"))',
        "pass",
        f"{TRANSPORT} -k silent_peers",
    ),
    Mutant(
        "length of the line",
        "doors/http.py",
        'if len(self.url) + len("GET  HTTP/1.1") > self._limits.request_line_bytes:',
        "if False:",
        f"{HEADS} -k over_its_size",
    ),
    Mutant(
        "size of an incomplete head",
        "doors/http.py",
        "            if self._head_bytes > limits.head_bytes:",
        "            if False:",
        f"{HEADS} -k over_its_size",
    ),
    Mutant(
        "number of headers",
        "doors/http.py",
        "len(self._fields) > limits.headers",
        "False",
        f"{HEADS} -k over_its_size",
    ),
    Mutant(
        "body of an upgrade",
        "guard/upgrade.py",
        'if head.all("transfer-encoding") or any',
        "if False and any",
        f"{HEADS} -k smuggle",
    ),
    Mutant(
        "binary where text is spoken",
        "guard/messages.py",
        "message if rules.binary else",
        "message if True else",
        MESSAGES,
    ),
    *(Mutant(*row) for row in (*ROWS, *IDENTITY_ROWS, *MESSAGING_ROWS)),
)


def run(mutant: Mutant, folder: Path) -> str:
    """Return `killed`, `survived` or why it could not be tried."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source)
    file = source / "sockade" / mutant.file
    text = file.read_text()
    if text.count(mutant.before) != 1:
        return "not found: the mutant no longer fits the source"
    file.write_text(text.replace(mutant.before, mutant.after))
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *shlex.split(mutant.tests)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    try:
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        # A test inside the process waits for ever for what the guard would have ended: it does not pass.
        return "killed"
    # pytest: 0 passed, 1 failed; anything else is no verdict.
    return {0: "survived", 1: "killed"}.get(done.returncode, f"no verdict: {done.stdout[-300:]}")


def main() -> int:
    """Try every mutant whose name holds the words given, and return 1 unless all were killed."""
    wanted = sys.argv[1:]
    verdicts = []
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.name for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict = run(mutant, Path(folder))
        verdicts.append(verdict)
        print(f"{verdict:<10} {mutant.name} ({mutant.file})", flush=True)
    killed = verdicts.count("killed")
    print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
