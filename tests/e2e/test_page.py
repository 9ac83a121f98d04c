"""The page in a real browser against a real server: what two people, a phone and an attacker see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.e2e.payloads import PAYLOADS
from tests.e2e.server import PageServer
from tests.e2e.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.security.report import Observe

    Arrive = Callable[..., Visitor]

# The page the project was asked to serve, character for character except host and port.
ASKED_SCRIPT = """\
var ws = new WebSocket('wss://localhost:8443');
ws.onmessage = function (event) { document.getElementById('chat-log').value += event.data + "\\n"; };
document.getElementById('send').onclick = function () { ws.send(document.getElementById('message').value); };
"""
ASKED_PAGE = """<!doctype html><title>Asked</title>
<textarea id="chat-log"></textarea><input id="message"><button id="send">Send</button><script>{script}</script>"""


def test_two_people_talk_and_hear_themselves_once(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada", "talk"), visitor().sign_in("bob", "talk")
    ada.sees_here("ada", "bob")
    bob.sees_here("bob", "ada")
    ada.say("hello bob")
    bob.sees_lines("hello bob")
    bob.say("hello ada")
    ada.sees_lines("hello bob", "hello ada")
    bob.sees_lines("hello bob", "hello ada")
    expect(ada.shown.locator(".turn.own .line")).to_have_text(["hello bob"])
    expect(ada.shown.locator(".turn:not(.own) .speaker")).to_have_text(["bob"])


def test_the_script_that_was_asked_for_works_once_signed_in(server: PageServer, visitor: Arrive) -> None:
    bob = visitor().sign_in("bob")
    ada = visitor().sign_in("ada")
    html = ASKED_PAGE.format(script=ASKED_SCRIPT.replace("localhost:8443", f"localhost:{server.port}"))
    serve(ada.page, f"{server.url}/asked", html)
    with ada.page.expect_websocket() as opened:
        ada.page.goto(f"{server.url}/asked")
    assert opened.value.url == f"wss://localhost:{server.port}/"
    # The script sends whenever it is told to, open or not; a reader would not be that fast.
    ada.page.wait_for_function("ws.readyState === WebSocket.OPEN")
    bob.say("from the page")
    expect(ada.page.locator("#chat-log")).to_have_value("from the page\n")
    ada.page.fill("#message", "from the script")
    ada.page.click("#send")
    bob.sees_lines("from the page", "from the script")
    expect(ada.page.locator("#chat-log")).to_have_value("from the page\n")


def test_markup_in_messages_is_text_and_runs_nothing(visitor: Arrive, observe: Observe) -> None:
    """Case 67."""
    ada, bob = visitor().sign_in("ada", "payloads"), visitor().sign_in("bob", "payloads")
    for count, payload in enumerate(PAYLOADS, 1):
        bob.say(payload)
        expect(ada.lines).to_have_count(count)
    # What is read from the history on joining is no safer than what arrives.
    late = visitor(beside=ada).open().enter("payloads")
    for reader in (ada, bob, late):
        assert reader.lines.all_text_contents() == PAYLOADS
        assert reader.page.locator(".line *").count() == 0
        assert reader.page.evaluate("window.ran") is None
    observe("0 of 100 run", f"0 of {len(set(PAYLOADS))} ran, each relayed as it was written")
    assert len(set(PAYLOADS)) == 100


def test_signing_out_in_one_tab_signs_the_other_out_and_leaves_nothing(visitor: Arrive) -> None:
    """Cases 42 and 85."""
    bob = visitor().sign_in("bob", "parting")
    first = visitor().sign_in("ada", "parting")
    second = visitor(beside=first).open().enter("parting")
    bob.say("remember this")
    first.sees_lines("remember this")
    second.sees_lines("remember this")
    first.page.get_by_role("button", name="Sign out").click()
    expect(second.page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=2_000)
    first.sees_sign_in("You are signed out.")
    second.sees_sign_in("Your session has ended.")
    for tab in (first, second):
        for told in ("remember this", "parting", "bob"):
            assert told not in tab.page.content()
        assert tab.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        assert tab.page.evaluate("indexedDB.databases()") == []
    first.open()
    first.sees_sign_in("")


def test_the_tab_that_signs_out_does_not_take_its_own_close_for_a_lost_session(visitor: Arrive) -> None:
    """The socket's end can overtake the answer to the sign-out, which is held back here until it has."""
    first = visitor().sign_in("ada")
    second = visitor(beside=first).open()
    second.sees_connection("Connected")
    asked: list[str] = []
    first.page.on("request", lambda request: asked.append(request.url))
    first.page.evaluate(HOLD_SIGN_OUT)
    first.page.get_by_role("button", name="Sign out").click()
    second.sees_sign_in("Your session has ended.")
    first.page.evaluate("window.release()")
    first.sees_sign_in("You are signed out.")
    assert asked == [f"{first.url}/auth/logout"]


def test_a_sign_out_that_fails_says_so_and_reconnects(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada", "staying")
    ada.page.route("**/auth/logout", lambda route: route.abort())
    ada.page.get_by_role("button", name="Sign out").click()
    ada.sees_notice("You are still signed in.")
    ada.page.locator("#message").fill("still here")
    ada.page.get_by_role("button", name="Send", exact=True).click()
    ada.sees_lines("still here")
    ada.sees_marks("Delivered")


def test_an_invitation_signs_one_person_in_under_a_name_that_is_free(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada")
    ada.page.get_by_role("button", name="Invite").click()
    expect(ada.page.locator("#invite-link")).to_be_visible()
    link = ada.page.locator("#invite-link").input_value()
    guest = visitor().open(link)
    expect(guest.page.get_by_role("heading", name="Choose a name")).to_be_visible()
    assert guest.page.url == f"{guest.url}/"
    for name, answer in [("ADA", "taken"), ("not a name", "cannot be used")]:
        guest.page.get_by_role("textbox", name="Name", exact=True).fill(name)
        guest.page.get_by_role("button", name="Join the chat").click()
        expect(guest.page.locator("#choose-name-error")).to_contain_text(answer)
    guest.page.get_by_role("textbox", name="Name", exact=True).fill("grace")
    guest.page.get_by_role("button", name="Join the chat").click()
    guest.sees_connection("Connected")
    guest.sees_here("grace", "ada")
    expect(guest.page.get_by_role("button", name="Invite")).to_be_hidden()
    late = visitor().open(link)
    late.sees_sign_in("used already or has expired")


def test_a_link_asks_before_it_replaces_a_session(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada").open("about:blank")
    ada.open(f"{ada.url}/#link=somebody-elses")
    expect(ada.page.get_by_role("heading", name="You are already signed in")).to_be_visible()
    ada.page.get_by_role("button", name="Stay signed in").click()
    ada.sees_connection("Connected")
    ada.sees_here("ada")


def test_a_page_of_another_origin_gets_no_socket_though_the_cookie_travels(server: PageServer, visitor: Arrive) -> None:
    """Cases 18 and 20: another port is the same site, so SameSite=Strict does not hold the cookie back."""
    ada, bob = visitor().sign_in("ada"), visitor().sign_in("bob")
    before = server.log_text.count("origin_forbidden")
    sibling = visitor(beside=ada)
    serve(sibling.page, "https://localhost:1/", "<!doctype html><title>Sibling</title>")
    sibling.page.goto("https://localhost:1/")
    for path in ("/", "/connection/websocket"):
        ended = sibling.page.evaluate(CONNECT, f"wss://localhost:{server.port}{path}")
        assert ended == {"opened": False, "data": [], "code": 1006}
    assert server.logged("origin_forbidden", times=before + 2)
    # The same lines from the server's own origin do get one: it is the origin that decides.
    serve(sibling.page, f"{server.url}/own", "<!doctype html><title>Own</title>")
    sibling.page.goto(f"{server.url}/own")
    assert sibling.page.evaluate(CONNECT, f"wss://localhost:{server.port}/connection/websocket")["opened"]
    bob.sees_connection("Connected")


def test_the_first_link_makes_an_administrator_of_whoever_opens_it(tmp_path: Path, browser: Browser) -> None:
    fresh = PageServer(tmp_path)
    fresh.start()
    try:
        first = Visitor(browser.new_context(ignore_https_errors=True), fresh.url).open(fresh.first_link())
        first.page.get_by_role("textbox", name="Name", exact=True).fill("root")
        first.page.get_by_role("button", name="Join the chat").click()
        first.sees_connection("Connected")
        first.sees_here("root")
        expect(first.page.get_by_role("button", name="Invite")).to_be_visible()
        first.context.close()
        assert first.faults == []
    finally:
        fresh.kill()


def test_page_fits_a_phone_and_works_by_keyboard(visitor: Arrive) -> None:
    ada = visitor(viewport={"width": 360, "height": 640}).sign_in("ada", "phone")
    ada.page.locator("#message").press_sequentially("first")
    ada.page.keyboard.press("Shift+Enter")
    ada.page.keyboard.type("w" * 200)
    ada.page.keyboard.press("Enter")
    ada.sees_lines("first\n" + "w" * 200)
    assert ada.page.evaluate("document.documentElement.scrollWidth") == 360
    assert ada.shown.evaluate("region => region.scrollWidth") == 360
    # The composer is at the bottom, and the conversation has all the room above it.
    assert ada.page.locator("#composer").evaluate("form => form.getBoundingClientRect().bottom") > 620
    assert ada.shown.evaluate("region => region.clientHeight") > 450
    for button, heading in (("#people-button", "Here now"), ("#rooms-button", "Rooms")):
        ada.page.locator(button).press("Enter")
        expect(ada.page.get_by_role("heading", name=heading)).to_be_visible()
        ada.page.keyboard.press("Escape")
        expect(ada.page.get_by_role("heading", name=heading)).to_be_hidden()
        expect(ada.page.locator(button)).to_be_focused()


def test_a_text_over_the_limit_stays_in_the_composer(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada", "foxes")
    ada.say("🦊" * 2_001)
    expect(ada.page.locator("#counter")).to_have_text("1 too many")
    ada.sees_lines()
    ada.say("🦊" * 2_000)
    ada.sees_lines("🦊" * 2_000)


def test_a_reader_of_old_messages_is_not_moved_but_told(visitor: Arrive) -> None:
    ada = visitor(viewport={"width": 600, "height": 400}).sign_in("ada", "reading")
    bob = visitor().sign_in("bob", "reading")
    bob.say("\n".join("x" * 60))
    expect(ada.lines).to_have_count(1)
    ada.shown.evaluate("region => { region.scrollTop = 0 }")
    bob.say("news")
    expect(ada.lines).to_have_count(2)
    button = ada.page.get_by_role("button", name="New messages")
    expect(button).to_be_visible()
    assert ada.shown.evaluate("region => region.scrollTop") == 0
    button.click()
    expect(ada.lines.last).to_be_in_viewport()
    expect(button).to_be_hidden()


HOLD_SIGN_OUT = """() => {
    const fetched = window.fetch;
    window.fetch = async (...request) => {
        const answer = await fetched(...request);
        await new Promise((resolve) => { window.release = resolve; });
        return answer;
    };
}"""

CONNECT = """(url) => new Promise((resolve) => {
    const seen = {opened: false, data: [], code: 0};
    const socket = new WebSocket(url);
    socket.onopen = () => { seen.opened = true; socket.close(); };
    socket.onmessage = (event) => seen.data.push(event.data);
    socket.onclose = (event) => { seen.code = event.code; resolve(seen); };
})"""


def serve(page: Page, url: str, html: str) -> None:
    """Answer one address with a page of our own, without any policy of the server's."""
    page.route(url, lambda route: route.fulfill(body=html, content_type="text/html"))
