"""The page's connection: when it comes back, when it stops, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.fake import Relay, play_server
from tests.member import member
from tests.running import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.server import PageServer
    from tests.e2e.visitor import Visitor

    Arrive = Callable[..., Visitor]

STOPS = [1002, 1003, 1007, 1008, 1009, 3003, 3500, 3501, 3502, 3503, 3507]
RETURNS = [1001, 1011, 1012, 1013, 3001, 3004, 3005, 3008, 3010, 3013]


def test_page_reconnects_after_a_restart_still_signed_in_and_keeps_what_was_typed(
    server: PageServer, visitor: Arrive
) -> None:
    ada, bob = visitor().sign_in("ada", "restart"), visitor().sign_in("bob", "restart")
    ada.say("before")
    bob.sees_lines("before")
    ada.page.locator("#message").fill("half a sentence")
    assert server.stop() == 0
    expect(ada.page.locator("#connection")).to_have_attribute("data-state", re.compile("waiting|connecting"))
    expect(ada.page.locator("#send")).to_be_disabled()
    expect(ada.page.locator("#bar-text")).to_contain_text("What you type is kept.")
    ada.page.locator("#message").press("Enter")
    ada.sees_lines("before")
    server.start()
    ada.sees_connection("Connected")
    bob.sees_connection("Connected")
    expect(ada.page.locator("#send")).to_be_enabled()
    ada.page.locator("#message").press("Enter")
    bob.sees_lines("before", "half a sentence")
    ada.sees_lines("before", "half a sentence")
    ada.sees_here("ada", "bob")
    # Everyone came back: that is no news.
    assert ada.shown.locator(".notice").all_text_contents() == ["bob joined"]


def test_a_page_that_was_away_in_the_middle_of_traffic_misses_nothing_and_shows_nothing_twice(
    server: PageServer, visitor: Arrive
) -> None:
    ada = visitor().sign_in("ada", "traffic")
    texts = [f"message {number}" for number in range(90)]
    talk = threading.Thread(target=asyncio.run, args=(publish(server, server.token("bob"), "room:traffic", texts),))
    talk.start()
    # Whoever joins meanwhile reads the history while what is new arrives.
    late = visitor(beside=ada).open().enter("traffic")
    for count in (10, 30, 50):
        expect(ada.lines.nth(count)).to_be_attached()
        ada.context.set_offline(True)
        expect(ada.page.locator("#connection-text")).not_to_have_text("Connected")
        time.sleep(0.4)
        ada.context.set_offline(False)
        ada.sees_connection("Connected")
    talk.join()
    for reader in (ada, late, visitor(beside=ada).open().enter("traffic")):
        reader.sees_lines(*texts)


def test_what_arrives_while_the_history_is_read_is_shown_after_it_and_once(server: PageServer, visitor: Arrive) -> None:
    ada, bob, token = visitor(), visitor().sign_in("bob", "meanwhile"), server.token("bob")
    relay = Relay(ada.page)
    ada.sign_in("ada").sees_room("lobby")
    in_a_thread(publish(server, token, "room:meanwhile", ["before"]))
    # First the answer is late, so that it lacks what was said; then the question, so that it holds that as well.
    for way, last in (("downward", "after the answer"), ("upward", "before the answer")):
        setattr(relay, way, lambda message: '"history"' not in message)
        ada.page.get_by_label("Join or make a room").fill("meanwhile")
        ada.page.get_by_role("button", name="Join", exact=True).click()
        while not relay.held:
            ada.page.wait_for_timeout(20)
        in_a_thread(publish(server, token, "room:meanwhile", [last]))
        expect(bob.lines.last).to_have_text(last)
        ada.page.wait_for_timeout(300)
        ada.sees_lines()
        relay.release()
        ada.sees_lines(*bob.lines.all_text_contents())
        ada.page.get_by_role("button", name="Leave meanwhile").click()
    bob.sees_lines("before", "after the answer", "before the answer")


def test_a_restart_in_the_middle_of_traffic_loses_nothing_that_was_acknowledged(
    server: PageServer, visitor: Arrive
) -> None:
    ada, bob = visitor().sign_in("ada", "faults"), visitor().sign_in("bob", "faults")
    for number in range(10):
        (ada, bob)[number % 2].say(f"before {number}")
    expect(ada.lines).to_have_count(10)
    server.kill()
    server.start()
    ada.sees_connection("Connected")
    bob.sees_connection("Connected")
    for who in (ada, bob):
        expect(who.page.locator("#send")).to_be_disabled()  # nothing is typed
        who.page.locator("#message").fill("after")
        expect(who.page.locator("#send")).to_be_enabled()
    bob.page.locator("#message").press("Enter")
    expect(bob.lines).to_have_count(11)
    ada.sees_lines(*bob.lines.all_text_contents())
    assert set(bob.lines.all_text_contents()) == {*(f"before {number}" for number in range(10)), "after"}


def test_a_message_is_marked_as_delivered_when_the_server_has_acknowledged_it(visitor: Arrive) -> None:
    ada = visitor()
    relay = Relay(ada.page)
    ada.sign_in("ada", "marks")
    relay.downward = relay.hold
    ada.say("on its way")
    ada.sees_lines("on its way")
    ada.sees_marks("Sending")
    relay.release()
    ada.sees_marks("Delivered")
    ada.open().sees_connection("Connected")
    ada.sees_room("marks")
    ada.sees_marks("Delivered")


def test_a_message_whose_acknowledgement_was_lost_is_found_among_what_was_missed(visitor: Arrive) -> None:
    ada, bob = visitor(), visitor().sign_in("bob", "acks")
    relay = Relay(ada.page)
    ada.sign_in("ada", "acks")
    relay.downward = relay.hold
    ada.say("did it arrive?")
    bob.sees_lines("did it arrive?")
    ada.sees_marks("Sending")
    relay.lose()
    ada.sees_marks("Delivered")
    ada.sees_lines("did it arrive?")
    expect(ada.shown.get_by_role("button", name="Send again")).to_have_count(0)


def test_a_message_that_was_lost_says_so_and_can_be_sent_again(visitor: Arrive) -> None:
    ada, bob = visitor(), visitor().sign_in("bob", "losses")
    relay = Relay(ada.page)
    ada.sign_in("ada", "losses")
    relay.upward = relay.hold
    ada.say("lost")
    ada.sees_marks("Sending")
    relay.lose()
    ada.sees_marks("Not sent")
    bob.say("meanwhile")
    ada.sees_lines("lost", "meanwhile")
    ada.shown.get_by_role("button", name="Send again").click()
    ada.sees_marks("Delivered")
    # In the order of the room, in which it came later.
    ada.sees_lines("meanwhile", "lost")
    bob.sees_lines("meanwhile", "lost")
    expect(ada.shown.get_by_role("button", name="Send again")).to_have_count(0)


def test_a_message_that_is_sent_again_though_it_arrived_is_shown_once(visitor: Arrive) -> None:
    """The page gives up on an acknowledgement after ten seconds; one that is only late must not double the message."""
    ada, bob = visitor(), visitor().sign_in("bob", "twice")
    relay = Relay(ada.page)
    ada.page.clock.install()
    ada.sign_in("ada", "twice")
    relay.downward = relay.hold
    ada.say("once")
    bob.sees_lines("once")
    ada.page.clock.fast_forward(11_000)
    ada.sees_marks("Not sent")
    ada.shown.get_by_role("button", name="Send again").click()
    ada.sees_marks("Sending")
    relay.release()
    ada.sees_marks("Delivered")
    bob.say("and then")
    ada.sees_lines("once", "and then")
    bob.sees_lines("once", "and then")


def kept_of_more_that_was_missed(ada: Visitor, server: PageServer, room: str) -> list[str]:
    """Let a room say more than it keeps while a page is away, which is told so; return what is kept of it."""
    ada.context.set_offline(True)
    expect(ada.page.locator("#connection-text")).not_to_have_text("Connected")
    texts = [f"message {number}" for number in range(120)]
    in_a_thread(publish(server, server.token("bob"), f"room:{room}", texts, seconds=0))
    ada.context.set_offline(False)
    ada.sees_notice("Some messages from while you were away are no longer kept.")
    return texts[20:]


def test_what_is_no_longer_kept_is_told_and_not_hidden(server: PageServer, visitor: Arrive) -> None:
    ada = visitor().sign_in("ada", "gaps")
    ada.say("before")
    ada.sees_marks("Delivered")
    ada.sees_lines("before", *kept_of_more_that_was_missed(ada, server, "gaps"))


def test_what_is_in_no_history_hides_no_gap(server: PageServer, visitor: Arrive) -> None:
    """A backend may publish with `skip_history`; that has no offset, and must not become the page's place."""
    ada = visitor()
    relay = Relay(ada.page)
    ada.sign_in("ada", "fleeting")
    ada.say("before")
    ada.sees_marks("Delivered")
    fleeting = {"data": {"text": "in no history", "from": "news"}}
    relay.sockets[-1].send(json.dumps({"push": {"channel": "room:fleeting", "pub": fleeting}}))
    ada.sees_lines("before", "in no history")
    ada.sees_lines("before", "in no history", *kept_of_more_that_was_missed(ada, server, "fleeting"))


@pytest.mark.parametrize("code", STOPS)
def test_page_stops_on_codes_that_mean_stop(code: int, visitor: Arrive) -> None:
    """Case 86."""
    ada = visitor()
    dials = play_server(ada.page)
    ada.page.clock.install()
    ada.sign_in("ada")
    dials[-1].close(code=code)
    ada.sees_connection("Disconnected")
    ada.page.clock.fast_forward(300_000)
    ada.page.evaluate("dispatchEvent(new Event('online'))")
    assert len(dials) == 1
    ada.sees_connection("Disconnected")
    ada.page.get_by_role("button", name="Reconnect").click()
    ada.sees_connection("Connected")
    assert len(dials) == 2


def test_an_answer_that_was_cut_off_does_not_sign_anybody_out(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    with ada.page.expect_response("**/auth/sessions"):
        ada.page.route(
            "**/auth/sessions", lambda route: route.fulfill(body='{"user":', content_type="application/json")
        )
        dials[-1].close(code=3500)
    ada.sees_connection("Disconnected")
    ada.page.get_by_role("button", name="Reconnect").click()
    ada.sees_connection("Connected")


def test_a_code_that_means_stop_leads_to_the_sign_in_where_the_session_is_over(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    ada.context.clear_cookies()
    dials[-1].close(code=3500)
    ada.sees_sign_in("Your session has ended.")


@pytest.mark.parametrize("code", RETURNS)
def test_page_comes_back_after_every_other_code(code: int, visitor: Arrive) -> None:
    """Case 86."""
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    dials[-1].close(code=code)
    expect(ada.page.locator("#announcer")).to_have_text("Connected again.")
    ada.sees_connection("Connected")
    assert len(dials) == 2


def test_a_server_that_ends_a_session_that_goes_on_is_not_asked_over_and_over(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.page.clock.install()
    ada.sign_in("ada")
    for count in (2, 3):
        dials[-1].close(code=3005)
        if count == 3:
            ada.sees_connection("Reconnecting")
            assert len(dials) == 2
            ada.page.clock.run_for(2_000)
        ada.sees_connection("Connected")
        assert len(dials) == count


def test_delays_double_to_a_cap(visitor: Arrive) -> None:
    """Case 86."""
    ada = visitor()
    ada.page.add_init_script("Math.random = () => 1 - 1e-9")
    assert delays(ada, 9) == [1.0, 1.5, 2.5, 4.5, 8.5, 16.5, 30.0, 30.0, 30.0]


def test_delays_are_random(visitor: Arrive) -> None:
    """Case 86."""
    drawn = delays(visitor(), 12)
    for attempt, delay in enumerate(drawn):
        assert 0.5 <= delay <= min(30, 0.5 + 0.5 * 2**attempt)
    assert len(set(drawn)) > 10


def test_a_session_that_was_lost_with_the_connection_leads_to_the_sign_in(server: PageServer, visitor: Arrive) -> None:
    ada = visitor().sign_in("ada")
    assert server.stop() == 0
    ada.context.clear_cookies()
    expect(ada.page.locator("#connection")).to_have_attribute("data-state", re.compile("waiting|connecting"))
    server.start()
    ada.sees_sign_in("Your session has ended.")


def test_another_tab_that_signs_somebody_else_in_is_noticed(server: PageServer, visitor: Arrive) -> None:
    ada = visitor().sign_in("ada")
    second = visitor(beside=ada).open()
    second.sees_connection("Connected")
    ada.page.get_by_role("button", name="Sign out").click()
    second.sees_sign_in("Your session has ended.")
    ada.sign_in("bob", "changed")
    second.open().sees_connection("Connected")
    second.sees_here("bob")


def test_a_server_that_knows_the_reader_by_another_name_makes_the_page_start_over(visitor: Arrive) -> None:
    ada = visitor()
    known_as = ["bob", "ada"]
    dials = play_server(ada.page, presence=lambda: {"c1": {"user": known_as.pop(0), "client": "c1"}})
    ada.sign_in("ada")
    # Asked for presence again, under the name that the session now has.
    ada.page.wait_for_timeout(1_500)
    ada.sees_here("ada")
    ada.sees_connection("Connected")
    assert (len(dials), known_as) == (2, [])


async def publish(server: PageServer, token: str, channel: str, texts: list[str], seconds: float = 0.03) -> None:
    """Say everything, one after the other, each acknowledged."""
    async with member(server, token) as bob:
        for text in texts:
            assert await bob.say(text, channel) == {}
            await asyncio.sleep(seconds)


def in_a_thread(work: object) -> None:
    """Run a coroutine beside the loop that Playwright has running in this thread."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


RECORD = """
window.dials = []; window.ends = [];
window.WebSocket = class extends WebSocket {
    constructor(url) {
        super(url);
        dials.push(Date.now());
        this.addEventListener("close", () => ends.push(Date.now()));
    }
};
"""


def delays(who: Visitor, count: int) -> list[float]:
    """Return how many seconds the page waits before each attempt, when the server closes every socket at once."""
    page = who.page
    dials = play_server(page, answering=False)
    # Time stands still but for the steps made here, each far shorter than the page's deadlines.
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    page.add_init_script(RECORD)
    who.open()
    sign_in_form(who)
    for attempt in range(count):
        until(lambda: page.evaluate("dials.length") == len(dials) == attempt + 1)  # noqa: B023 - called at once
        dials[-1].close(code=1012)
        until(lambda: page.evaluate("ends.length") == attempt + 1)  # noqa: B023
        while page.evaluate("dials.length") == attempt + 1:
            page.clock.run_for(500)
    dialled, ended = page.evaluate("[dials, ends]")
    return [(dial - end) / 1000 for end, dial in zip(ended, dialled[1:], strict=True)]


def until(holds: Callable[[], bool]) -> None:
    """Wait for something for which Playwright's own waiting is no use, such as in a page whose clock stands still."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def sign_in_form(who: Visitor) -> None:
    who.page.get_by_role("textbox", name="Name", exact=True).fill("ada")
    who.page.get_by_label("Password", exact=True).fill(PASSWORD)
    who.page.get_by_role("button", name="Sign in").click()
