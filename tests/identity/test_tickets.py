import pytest

from sockade.clock import SteppedClock
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Identity, Secret, SessionId
from sockade.identity.revocations import Proof
from sockade.identity.tickets import MAX_PER_SESSION, Ticket, Tickets
from tests.identity.world import ORIGIN, reason


def whose(session: str = "s1") -> Proof:
    return Proof(Identity("ana", session=SessionId(session)))


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def tickets(clock: SteppedClock) -> Tickets:
    return Tickets(clock, seconds=30, limit=100)


def issued(answer: Ticket | Refuse) -> Ticket:
    assert isinstance(answer, Ticket)
    return answer


def test_a_ticket_is_redeemed_once(tickets: Tickets) -> None:
    ticket = issued(tickets.issue(whose(), ORIGIN))
    assert tickets.redeem(ticket.value, ORIGIN) == whose()
    assert reason(tickets.redeem(ticket.value, ORIGIN)) == "ticket_invalid"
    assert len(tickets) == 0


def test_a_ticket_lives_thirty_seconds(tickets: Tickets, clock: SteppedClock) -> None:
    early, late = (issued(tickets.issue(whose(), ORIGIN)) for _ in range(2))
    clock.step(29.9)
    assert tickets.redeem(early.value, ORIGIN) == whose()
    clock.step(0.1)
    assert reason(tickets.redeem(late.value, ORIGIN)) == "ticket_invalid"


@pytest.mark.parametrize("origin", [None, "https://localhost", "https://evil.example"])
def test_another_origin_is_refused_and_uses_the_ticket_up(tickets: Tickets, origin: str | None) -> None:
    ticket = issued(tickets.issue(whose(), ORIGIN))
    assert reason(tickets.redeem(ticket.value, origin)) == "ticket_invalid"
    assert reason(tickets.redeem(ticket.value, ORIGIN)) == "ticket_invalid"


@pytest.mark.parametrize("value", ["", "x" * 43, "ü" * 43, "x" * 10_000])
def test_a_guess_is_refused(tickets: Tickets, value: str) -> None:
    tickets.issue(whose(), ORIGIN)
    assert reason(tickets.redeem(Secret(value), ORIGIN)) == "ticket_invalid"
    assert len(tickets) == 1


def test_only_digests_are_kept(tickets: Tickets) -> None:
    ticket = issued(tickets.issue(whose(), ORIGIN))
    assert ticket.value.reveal() not in repr(vars(tickets))
    assert ticket.value.reveal() not in repr(ticket)


def test_a_session_crowds_out_its_own_oldest_ticket_only(tickets: Tickets) -> None:
    other = issued(tickets.issue(whose("s2"), ORIGIN))
    first = issued(tickets.issue(whose(), ORIGIN))
    last = [issued(tickets.issue(whose(), ORIGIN)) for _ in range(MAX_PER_SESSION)][-1]
    assert len(tickets) == MAX_PER_SESSION + 1
    assert reason(tickets.redeem(first.value, ORIGIN)) == "ticket_invalid"
    assert tickets.redeem(last.value, ORIGIN) == whose()
    assert tickets.redeem(other.value, ORIGIN) == whose("s2")


def test_their_number_is_bounded_until_they_expire(tickets: Tickets, clock: SteppedClock) -> None:
    for number in range(100):
        issued(tickets.issue(whose(f"s{number}"), ORIGIN))
    assert reason(tickets.issue(whose("more"), ORIGIN)) == "busy"
    clock.step(30)
    issued(tickets.issue(whose("more"), ORIGIN))
    assert len(tickets) == 1


def test_the_end_of_a_session_takes_its_tickets_along(tickets: Tickets) -> None:
    mine, other = issued(tickets.issue(whose(), ORIGIN)), issued(tickets.issue(whose("s2"), ORIGIN))
    tickets.drop([SessionId("s1"), SessionId("never")])
    assert reason(tickets.redeem(mine.value, ORIGIN)) == "ticket_invalid"
    assert tickets.redeem(other.value, ORIGIN) == whose("s2")


def test_an_identity_without_a_session_gets_no_ticket(tickets: Tickets) -> None:
    assert reason(tickets.issue(Proof(Identity("ana")), ORIGIN)) == "forbidden"
