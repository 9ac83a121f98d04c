"""A real server, and a real browser that trusts exactly that server's key."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import sync_playwright

from tests.e2e.server import PageServer
from tests.e2e.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

CHROMIUM = "/usr/bin/chromium"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # A page that a test answers has no address of its own, so Chromium's guard of local networks would refuse its
    # sockets before the server is asked; it is the server's refusal that is tested.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """Serve the built-in chat to ada, who is an administrator, and bob."""
    running = PageServer(tmp_path_factory.mktemp("server"))
    running.add_user("ada", role="admin")
    running.add_user("bob")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def browser(server: PageServer) -> Iterator[Browser]:
    """Start Chromium. It takes one key on trust, that of the certificate which the local CA was seen to vouch for."""
    with sync_playwright() as playwright:
        trusted = f"--ignore-certificate-errors-spki-list={key_hash(server.certificate())}"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*SWITCHES, trusted])
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, server: PageServer) -> Iterator[Callable[..., Visitor]]:
    """Return what brings one more visitor, in a browser context of their own or in the tab beside another's."""
    visitors: list[Visitor] = []

    def arrive(beside: Visitor | None = None, **options: object) -> Visitor:
        context = beside.context if beside else browser.new_context(**options)  # type: ignore[arg-type]
        visitors.append(Visitor(context, server.url))
        return visitors[-1]

    yield arrive
    for context in {each.context for each in visitors}:
        context.close()
    assert [fault for each in visitors for fault in each.faults] == []


def key_hash(certificate: bytes) -> str:
    """Return the base64 SHA-256 of a certificate's public key, the way Chromium names keys."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64.b64encode(digest).decode()
