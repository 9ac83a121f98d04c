"""Cases 1 to 6, 73 and 74, from outside: TLS, its deadlines, and sockets that only cost."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import ssl
import time
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sockade.doors.certificates import ensure_local_pair
from sockade.doors.listener import ACCEPTS_A_TURN
from tests.running import ROOMY
from tests.security.scale import number
from tests.security.sockets import (
    HOST,
    UPGRADE,
    cpu_seconds,
    descriptors,
    drip,
    many_addresses,
    memory_mib,
    plain,
    read_to_end,
    secure,
    status,
    wait_until,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from sockade.doors.certificates import Pair
    from tests.running import RunningServer, Start
    from tests.security.scale import Number

OPEN_SOCKETS = number(200, 1_000)
"""Held while the certificate changes."""
HALF_OPEN = number(2_000, 10_000)
SLOW_HEADS = number(400, 10_000)
"""Each costs the test a TLS handshake, so fewer of them."""
HEADS_HELD = number(300, 2_000).run
"""So many at most are held; 2,000 is the default."""
LIMITS = f"[limits]\n{ROOMY}"
SHORT = f"{LIMITS}tls_seconds = 1.5\nhead_seconds = 2\nhandshake_seconds = 3\nresponse_seconds = 3\nclose_seconds = 1\n"
SLACK = 1.5
BIG = """
from sockade import Sockade
from sockade.identity.authority import Authority

app = Sockade()
Authority.jwks = lambda self: {"keys": ["x" * 2_000_000]}
"""
"""An application under which one response is larger than any buffer of the kernel's for a peer that does not read."""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose deadlines are short."""
    from tests.running import RunningServer

    server = RunningServer(tmp_path_factory.mktemp("short") / "server", SHORT)
    server.start()
    yield server
    server.kill()


# TLS.


@pytest.mark.parametrize(
    ("ciphers", "highest", "fine"),
    [
        ("ALL:@SECLEVEL=0", "TLSv1", False),
        ("ALL:@SECLEVEL=0", "TLSv1_1", False),
        ("ECDHE-ECDSA-AES256-SHA384", "TLSv1_2", False),
        ("AES128-GCM-SHA256", "TLSv1_2", False),
        ("DHE-RSA-AES128-GCM-SHA256", "TLSv1_2", False),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1_2", True),
        ("DEFAULT", "TLSv1_3", True),
    ],
)
def test_old_tls_cbc_and_rsa_key_exchange_get_an_alert(
    short: RunningServer, ciphers: str, highest: str, *, fine: bool
) -> None:
    """Case 1."""
    context = ssl.create_default_context(cafile=str(short.data_dir / "ca.pem"))
    context.set_ciphers(ciphers)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion[highest]
    with plain(short) as sock:
        if fine:
            with context.wrap_socket(sock, server_hostname="localhost") as secured:
                assert (secured.cipher() or ("",))[0]
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                context.wrap_socket(sock, server_hostname="localhost")


def test_plain_websocket_on_the_tls_port_is_closed_without_an_answer(short: RunningServer) -> None:
    """Case 2."""
    with plain(short) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
        answer = read_to_end(sock)
    # At most a TLS alert: 15 03 …
    assert b"HTTP" not in answer
    assert len(answer) <= 7


def client_hello() -> bytes:
    """Return what a client says first."""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


def test_silent_tcp_is_closed_at_the_deadline_of_tls(short: RunningServer) -> None:
    """Case 3."""
    began = time.monotonic()
    with plain(short) as sock:
        assert read_to_end(sock) == b""
    assert 1 < time.monotonic() - began < 1.5 + SLACK


def test_dripped_client_hello_is_closed_at_the_deadline_of_tls(short: RunningServer) -> None:
    """Case 3."""
    with plain(short) as sock:
        seconds, answer = drip(sock, client_hello()[:100])
    assert 1 < seconds < 1.5 + SLACK
    assert len(answer) <= 7


def test_tls_that_stops_half_way_is_closed_at_its_deadline(short: RunningServer) -> None:
    """Case 3."""
    began = time.monotonic()
    with plain(short) as sock:
        sock.sendall(client_hello())
        read_to_end(sock)
    assert 1 < time.monotonic() - began < 1.5 + SLACK


async def test_end_in_the_middle_of_a_message_delivers_nothing_of_it(short: RunningServer) -> None:
    """Case 4."""
    token = await asyncio.to_thread(short.token)
    async with short.connect(token=token) as hearer, short.connect(token=token) as whole:

        def begin_and_leave() -> None:
            with secure(short) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n" + UPGRADE + f"Authorization: Bearer {token}\r\n\r\n".encode())
                assert status(sock.recv(65_536)) == 101
                # A first fragment, and a frame of which half comes.
                sock.sendall(b"\x01\x84\x00\x00\x00\x00half" + b"\x80\x88\x00\x00\x00\x00of")

        await asyncio.to_thread(begin_and_leave)
        await asyncio.sleep(0.3)
        await whole.send("whole")
        assert await asyncio.wait_for(hearer.recv(), 10) == "whole"


# The certificate.


def serial(server: RunningServer, context: ssl.SSLContext) -> int:
    with context.wrap_socket(plain(server), server_hostname="localhost") as sock:
        return x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"").serial_number


def serial_in(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


async def test_certificate_replaced_on_disk_is_used_and_no_socket_drops(start: Start, tmp_path: Path) -> None:
    """Case 5."""
    now = datetime.now(UTC).timestamp()
    old, new = (ensure_local_pair(tmp_path / name, (), now) for name in ("old", "new"))
    used = tmp_path / "server.pem"
    shutil.copy(old.certificate, used)
    server = start(f"[tls]\ncertificate = '{used}'\nkey = '{used}'\n{LIMITS}")
    context = ssl.create_default_context(cafile=str(old.authority))
    context.load_verify_locations(str(new.authority))
    server.tls = context
    assert serial(server, context) == serial_in(old)
    token = await asyncio.to_thread(server.token)
    clients = await asyncio.gather(*(server.connect(token=token, open_timeout=60) for _ in range(OPEN_SOCKETS.run)))

    # A broken pair is refused, and said once.
    used.write_text("nothing\n")
    await asyncio.to_thread(wait_until, lambda: "the new certificate is refused" in server.log_text, 5)
    assert serial(server, context) == serial_in(old)
    # So is a key of another certificate.
    key, certificate = (
        pair.certificate.read_text().partition("-----BEGIN CERTIFICATE")[part] for pair, part in ((old, 0), (new, 2))
    )
    used.write_text(f"{key}-----BEGIN CERTIFICATE{certificate}")
    await asyncio.to_thread(wait_until, lambda: server.log_text.count("the new certificate is refused") == 2, 5)
    assert serial(server, context) == serial_in(old)

    shutil.copy(new.certificate, used)
    seconds = await asyncio.to_thread(wait_until, lambda: serial(server, context) == serial_in(new), 5)
    print(f"the new certificate was in use after {seconds:.1f} s with {OPEN_SOCKETS} sockets open")
    await asyncio.wait_for(asyncio.gather(*(await asyncio.gather(*(one.ping() for one in clients)))), 30)
    assert server.log_text.count("the new certificate is refused") == 2
    await asyncio.gather(*(one.close() for one in clients))


class Signer:
    """A CA of the test's own, that signs certificates of clients."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self._sign(self.name, self.key, ca=True))

    def client(self, name: str, days: int = 1) -> Path:
        """Return a file with a client's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / f"{name}.pem"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path.write_bytes(private + self._sign(subject, key, ca=False, days=days))
        return path

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool, days: int = 1) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("fast", ["true", "false"])
def test_client_certificate_mode_refuses_clients_without_one_of_its_ca(start: Start, tmp_path: Path, fast: str) -> None:
    """Case 6."""
    ours, other = Signer(tmp_path, "ours"), Signer(tmp_path, "other")
    server = start(f"[server]\nfast = {fast}\n[tls]\nclient_ca = '{ours.path}'\n{LIMITS}")

    def answer(certificate: Path | None, highest: ssl.TLSVersion) -> bytes:
        context = ssl.create_default_context(cafile=str(server.data_dir / "ca.pem"))
        context.maximum_version = highest
        if certificate is not None:
            context.load_cert_chain(certificate)
        with context.wrap_socket(plain(server), server_hostname="localhost") as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
            # With TLS 1.3 a client is done before the server has seen its certificate: the alert comes here.
            return sock.recv(65_536)

    for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert status(answer(ours.client("good"), highest)) == 200
        for bad in (None, other.client("foreign"), ours.client("expired", days=-1)):
            # The event loops drop OpenSSL's alert, and one of ours could not be encrypted: it may end without.
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                answer(bad, highest)


# Deadlines before admission.


def test_silence_after_tls_is_closed_at_the_deadline_of_the_head(short: RunningServer) -> None:
    """Case 9."""
    began = time.monotonic()
    with secure(short) as sock:
        assert status(read_to_end(sock)) in (0, 408)
    assert 1.5 < time.monotonic() - began < 2 + SLACK


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: " + b"a" * 100, b"\r\n" * 50, b"G" + b"E" * 100])
def test_dripped_head_is_closed_at_its_deadline(short: RunningServer, head: bytes) -> None:
    """Case 9."""
    with secure(short) as sock:
        seconds, answer = drip(sock, head)
    assert seconds < 2 + SLACK
    assert status(answer) in (0, 400, 408)


def test_slow_tls_and_a_slow_head_together_end_at_the_deadline_of_the_handshake(short: RunningServer) -> None:
    """Case 9."""
    began = time.monotonic()
    with plain(short) as sock:
        time.sleep(1.2)
        with short.tls.wrap_socket(sock, server_hostname="localhost") as secured:
            seconds, _ = drip(secured, b"GET / HTTP/1.1\r\nX: " + b"a" * 100)
    assert seconds < 2
    assert 2.5 < time.monotonic() - began < 3 + SLACK


@pytest.mark.parametrize(
    "head",
    [
        b"POST /auth/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 5000\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n",
        b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;ext=",
        b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_dripped_body_is_closed_at_the_deadline_of_the_handshake(short: RunningServer, head: bytes) -> None:
    with secure(short) as sock:
        sock.sendall(head)
        seconds, answer = drip(sock, b"a" * 100)
    assert seconds < 3 + SLACK
    assert answer.count(b"HTTP/1.1") <= 1


def test_body_that_pads_its_chunks_without_end_is_refused(short: RunningServer) -> None:
    began = time.monotonic()
    with secure(short) as sock:
        sock.sendall(b"POST /auth/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n")
        sock.sendall(b"Transfer-Encoding: chunked\r\n\r\n1;")
        sent = 0
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                sent += sock.send(b"x" * 65_536)
        read_to_end(sock)
    print(f"ended after {sent / 1_048_576:.0f} MiB and {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 2


def test_kept_connection_is_closed_when_idle(short: RunningServer) -> None:
    with secure(short) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        began = time.monotonic()
        assert read_to_end(sock).count(b"HTTP/1.1 200") == 1
    assert 4 < time.monotonic() - began < 5 + SLACK


def test_dripped_line_breaks_do_not_keep_a_connection(short: RunningServer) -> None:
    with secure(short) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        seconds, answer = drip(sock, b"\r\n" * 50)
    assert seconds < 2 + SLACK
    assert answer.count(b"HTTP/1.1 200") == 1


def test_responses_that_are_never_read_end_at_their_deadline(start: Start, tmp_path: Path) -> None:
    (tmp_path / "big_file.py").write_text(BIG)
    server = start(SHORT, "big_file:app", module_path=str(tmp_path))
    before = descriptors(server)
    sock = secure(server, receive_buffer=1024)
    # Fewer than would be refused as sent far ahead, and together more than the kernel takes for a peer.
    for _ in range(7):
        sock.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\n" + HOST + b"\r\n")
    time.sleep(1)
    assert descriptors(server) > before
    seconds = 1 + wait_until(lambda: descriptors(server) <= before, 3 + 5 + SLACK)
    print(f"gone after {seconds:.1f} s")
    sock.close()
    taken = "response not taken" in server.log_text
    assert taken
    assert 2 < seconds < 3 + SLACK


def test_requests_sent_far_ahead_of_their_answers_are_refused(short: RunningServer) -> None:
    request = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    with secure(short) as sock:
        sock.sendall(request * 3)
        answer = b""
        while answer.count(b'{"status":"ok"}') < 3:
            answer += sock.recv(65_536)
    with secure(short) as sock:
        sock.sendall(request * 500)
        assert read_to_end(sock).count(b"HTTP/1.1 200") < 20


def test_upgrade_sent_ahead_of_an_answer_opens_nothing(short: RunningServer) -> None:
    """Case 12."""
    bearer = f"Authorization: Bearer {short.token()}\r\n".encode()
    with secure(short) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET / HTTP/1.1\r\n" + UPGRADE + bearer + b"\r\n")
        assert b"101" not in read_to_end(sock)


# Sockets that only cost.


def hold_half_open(server: RunningServer, count: int, *, head: bytes) -> list[socket.socket]:
    socks: list[socket.socket] = []
    for address in many_addresses(count):
        sock = secure(server, address) if head else plain(server, address)
        socks.append(sock)
        if head:
            sock.sendall(head)
    return socks


@pytest.mark.parametrize(
    ("count", "head"), [(HALF_OPEN, b""), (SLOW_HEADS, b"GET / HTTP/1.1\r\nX: a")], ids=["tcp", "heads"]
)
async def test_half_open_connections_keep_no_client_out(start: Start, count: Number, head: bytes) -> None:
    """Case 73."""
    most = HEADS_HELD if head else 2_000
    server = start(f"{LIMITS}unauthenticated = {most}\n")
    token = await asyncio.to_thread(server.token)
    async with server.connect(token=token):
        pass
    idle, before = descriptors(server), memory_mib(server)
    socks = await asyncio.to_thread(hold_half_open, server, count.run, head=head)
    last = time.monotonic()
    await asyncio.sleep(0.5)  # so that what waits to be accepted is
    held, during = descriptors(server) - idle, memory_mib(server)
    waits = []
    for _ in range(20):
        began = time.monotonic()
        async with server.connect(token=token):
            waits.append(time.monotonic() - began)
    await asyncio.to_thread(wait_until, lambda: descriptors(server) <= idle, 12 - (time.monotonic() - last))
    print(
        f"{count} {'slow heads' if head else 'half-open'} from as many addresses, {held} held; "
        f"slowest of 20 clients {max(waits):.3f} s; "
        f"memory {before:.0f} MiB before, {during:.0f} during, {memory_mib(server):.0f} after; "
        f"all gone {time.monotonic() - last:.1f} s after the last"
    )
    for sock in socks:
        sock.close()
    assert max(waits) < 1
    assert during - before < (20 if not head else 150)
    # Those that gave way are closed in the next turn of the loop, after as many were accepted as a turn takes.
    assert 200 < held <= most + ACCEPTS_A_TURN + 20


async def test_out_of_descriptors_it_neither_spins_nor_stays_so(start: Start) -> None:
    """Case 74."""
    server = start(LIMITS)
    token = await asyncio.to_thread(server.token)
    clients = await asyncio.gather(*(server.connect(token=token) for _ in range(20)))
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    # Exactly what is open: not one more can be accepted.
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors(server), hard))
    waiting = [await asyncio.to_thread(plain, server, address) for address in many_addresses(50)]
    began, used = time.monotonic(), cpu_seconds(server)
    await clients[0].send("still served")
    assert await asyncio.wait_for(clients[1].recv(), 5) == "still served"
    await asyncio.sleep(3)
    share = (cpu_seconds(server) - used) / (time.monotonic() - began)
    print(f"{share:.1%} of a processor while out of descriptors")
    # Twice a second, however busy the machine is: its share of the processor alone would not tell.
    assert 1 <= server.log_text.count("cannot accept") < 20
    assert share < 0.25
    await asyncio.gather(*(one.close() for one in clients[2:]))
    for sock in waiting:
        sock.close()
    opened = 0.0
    async with asyncio.timeout(10):
        while not opened:
            with contextlib.suppress(OSError, TimeoutError):
                async with server.connect(token=token, open_timeout=2):
                    opened = time.monotonic()
    assert server.http("GET", "/healthz").status == 200
    await asyncio.gather(*(one.close() for one in clients))


def test_out_of_descriptors_silent_peers_make_room(start: Start) -> None:
    """Case 74."""
    server = start(LIMITS + "tls_seconds = 60\n")
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (descriptors(server) + 40, hard))
    socks = [plain(server, address) for address in many_addresses(100)]
    seconds = wait_until(lambda: answers(server), 20)
    print(f"a client was served {seconds:.1f} s after 100 silent ones took every descriptor")
    for sock in socks:
        sock.close()


def answers(server: RunningServer) -> Any:
    with contextlib.suppress(OSError):
        return server.http("GET", "/healthz").status == 200
    return False
