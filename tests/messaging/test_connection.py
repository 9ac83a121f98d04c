"""One connection: order of callbacks, the outbox, deadlines."""

from __future__ import annotations

import array
import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sockade.errors import UsageError
from sockade.guard.identity import Identity, SessionId
from sockade.guard.messages import Rates, Standing
from sockade.guard.rates import Bucket, Rate
from sockade.messaging.connection import INBOX_MESSAGES, Connection
from sockade.messaging.frames import frame
from sockade.messaging.types import Message
from sockade.protocol.codes import CloseCode
from sockade.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.messaging.application import Sockade

    from .conftest import NotedTransport, Room


class Echo:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.send(message)


class Diary:
    """Writes down every callback, and waits in `on_message` until it is let go."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.gate = asyncio.Event()
        self.failing = ""

    async def on_open(self, connection: Connection) -> None:
        self.note("open")

    async def on_message(self, connection: Connection, message: str) -> None:
        self.note(f"begin {message}")
        if message.startswith("wait"):
            await self.gate.wait()
        self.note(f"end {message}")

    async def on_close(self, connection: Connection) -> None:
        self.note(f"close {connection.close_code}")

    async def on_error(self, connection: Connection, error: Exception) -> None:
        self.note(f"error {error}")

    def note(self, line: str) -> None:
        self.lines.append(line)
        if line == self.failing:
            raise RuntimeError(line)


@pytest.fixture
def diary(app: Sockade) -> Diary:
    diary = Diary()
    app.endpoint("/")(diary)
    return diary


async def test_callbacks_run_one_at_a_time_and_in_order(diary: Diary, room: Room) -> None:
    transport = await room.join()
    transport.connection.receive("wait 1")
    transport.connection.receive("2")
    await room.turn()
    assert diary.lines == ["open", "begin wait 1"]
    diary.gate.set()
    await room.turn()
    transport.finish()
    await room.turn()
    assert diary.lines == ["open", "begin wait 1", "end wait 1", "begin 2", "end 2", "close None"]


async def test_a_callback_that_never_waits_has_run_when_receive_returns(diary: Diary, room: Room) -> None:
    transport = await room.join()
    seen = []

    def data_received() -> None:
        transport.connection.receive("now")
        seen.extend(diary.lines)

    asyncio.get_running_loop().call_soon(data_received)
    await room.turn()
    assert seen[-1] == "end now"


async def test_callbacks_run_in_a_task_where_timeouts_work(app: Sockade, room: Room) -> None:
    seen = []

    @app.endpoint("/")
    class Timed:
        async def on_message(self, connection: Connection, message: str) -> None:
            async with asyncio.timeout(10):
                seen.append(asyncio.current_task() is connection.task)

    transport = await room.join()
    transport.connection.receive("x")
    await room.turn()
    assert seen == [True]


@pytest.mark.parametrize("callback", ["open", "begin 1"])
async def test_an_exception_reaches_on_error_and_closes_with_1011(callback: str, diary: Diary, room: Room) -> None:
    diary.failing = callback
    transport = await room.join()
    transport.connection.receive("1")
    await room.turn()
    assert transport.closed == (CloseCode.INTERNAL_ERROR, "internal error")
    assert f"error {callback}" in diary.lines
    assert [str(error) for error in room.errors] == [callback]
    transport.connection.receive("2")
    transport.finish()
    await room.turn()
    assert diary.lines[-1] == "close 1011"
    assert "begin 2" not in diary.lines


async def test_exceptions_in_on_error_and_on_close_are_reported_and_go_no_further(app: Sockade, room: Room) -> None:
    @app.endpoint("/")
    class Broken:
        async def on_message(self, connection: Connection, message: str) -> None:
            raise RuntimeError("message")

        async def on_error(self, connection: Connection, error: Exception) -> None:
            raise RuntimeError("error")

        async def on_close(self, connection: Connection) -> None:
            raise RuntimeError("close")

    transport = await room.join()
    transport.connection.receive("x")
    await room.turn()
    transport.finish()
    await room.turn()
    assert [str(error) for error in room.errors] == ["message", "error", "close"]
    assert not room.hub.connections


async def test_a_slow_callback_holds_the_peer_back(diary: Diary, room: Room) -> None:
    transport = await room.join()
    transport.connection.receive("wait")
    await room.turn()
    for number in range(INBOX_MESSAGES):
        assert transport.reading
        transport.connection.receive(str(number))
    assert not transport.reading
    # What is not read cannot be answered: no ping is sent that the peer's pong could not reach us for.
    room.step(60)
    assert not transport.aborted
    assert transport.pings == 0
    diary.gate.set()
    await room.turn()
    assert transport.reading
    assert len(diary.lines) == 1 + 2 * (1 + INBOX_MESSAGES)


async def test_messages_of_one_tick_leave_in_one_write(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    transport.connection.receive("a")
    transport.connection.receive("b")
    assert transport.written == []
    await room.turn()
    assert transport.written == [frame("a") + frame("b")]


async def test_binary_closes_with_1003_where_text_is_spoken(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    app.endpoint("/bytes", binary=True)(Echo)
    plain, binary = await room.join(), await room.join(path="/bytes")
    plain.connection.receive(b"\x00")
    binary.connection.receive(b"\x00")
    await room.turn()
    assert plain.closed is not None
    assert plain.closed[0] == CloseCode.UNSUPPORTED_DATA
    assert binary.written == [frame(b"\x00")]


async def test_close_sends_what_is_queued_first_and_nothing_after(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    assert transport.connection.send("last")
    transport.connection.close(4000, "é" * 100)
    assert transport.written == [frame("last")]
    assert transport.closed is not None
    assert transport.closed[0] == 4000
    assert len(transport.closed[1].encode()) <= 123
    assert not transport.connection.send("never")
    transport.connection.close(4001)
    transport.connection.receive("ignored")
    await room.turn()
    assert transport.closed[0] == 4000
    assert transport.written == [frame("last")]


async def test_a_peer_that_does_not_finish_closing_is_dropped(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    transport.connection.close()
    room.step(4)
    assert not transport.aborted
    room.step(2)
    assert transport.aborted


async def test_a_silent_peer_is_gone_within_45_seconds(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    silent, alive = await room.join(), await room.join()
    seconds = 0
    while not silent.aborted:
        room.step(1)
        seconds += 1
        alive.connection.receive_pong()
    assert 25 < seconds < 45
    assert not alive.aborted
    assert alive.pings == 1


async def test_pongs_are_no_activity(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    idle, busy = await room.join(), await room.join()
    for second in range(1_810):
        room.step(1)
        idle.connection.receive_pong()
        busy.connection.receive_pong()
        if second % 600 == 0:
            busy.connection.receive("x")
    assert idle.closed == (CloseCode.IDLE, "idle")
    assert busy.closed is None


async def test_an_expired_credential_closes_within_5_seconds(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join(lives=10)
    room.step(9)
    assert transport.closed is None
    room.step(5)
    assert transport.closed == (CloseCode.CREDENTIAL_EXPIRED, "credential expired")


async def test_a_dripped_message_is_closed_after_30_seconds(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    dripped, whole = await room.join(), await room.join()
    dripped.connection.partial(incomplete=True)
    whole.connection.partial(incomplete=True)
    room.step(20)
    whole.connection.partial(incomplete=False)
    for transport in (dripped, whole):
        transport.connection.receive_pong()
    room.step(7)
    for transport in (dripped, whole):
        transport.connection.receive_pong()
    room.step(5)
    assert dripped.closed == (CloseCode.POLICY_VIOLATION, "message took too long")
    assert whole.closed is None


async def test_pings_while_others_say_too_much_are_no_violation(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    total = Bucket(Rate(1, 1))
    total.take(room.clock.monotonic())
    transport.connection.standing = Standing(Rates.of(room.hub.limits), Bucket(Rate(100, 100)), total)
    for _ in range(20):
        transport.connection.receive_ping()
    assert transport.closed is None
    for _ in range(10):
        transport.connection.receive_ping()
    assert transport.closed == (CloseCode.POLICY_VIOLATION, "too many messages")


async def test_a_slow_consumer_is_dropped_by_number_of_messages(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    transport.connection.pause_writing()
    for number in range(256):
        transport.connection.send(str(number))
    await room.turn()
    assert not transport.aborted
    transport.connection.send("one too many")
    await room.turn()
    assert transport.aborted
    assert transport.connection.close_reason == "slow_consumer"


async def test_a_slow_consumer_is_dropped_by_bytes(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    transport.unsent = 1_048_000
    transport.connection.pause_writing()
    transport.connection.send("x" * 1_000)
    await room.turn()
    assert transport.aborted


async def test_a_write_without_progress_counts_as_slow(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    stuck, draining = await room.join(), await room.join()
    for transport in (stuck, draining):
        transport.unsent = 100_000
        transport.connection.pause_writing()
    for _ in range(8):
        room.step(1)
        draining.unsent -= 1_000
    assert stuck.aborted
    assert not draining.aborted


async def test_a_peer_that_reads_again_gets_what_waited(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    transport.connection.pause_writing()
    transport.connection.send("a")
    await room.turn()
    assert transport.written == []
    transport.connection.resume_writing()
    assert transport.written == [frame("a")]


async def test_state_belongs_to_the_connection(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    one, other = await room.join(), await room.join()
    one.connection.state.name = "ada"
    assert one.connection.state.name == "ada"
    assert not hasattr(other.connection.state, "name")


class TestLimitsOfOthers:
    @pytest.fixture
    def limits(self) -> LimitSettings:
        return LimitSettings(ping_seconds=5, pong_seconds=2)

    async def test_ping_times_are_settings(self, app: Sockade, room: Room) -> None:
        app.endpoint("/")(Echo)
        transport = await room.join()
        room.step(6)
        assert transport.pings == 1
        room.step(3)
        assert transport.aborted


def told(transport: NotedTransport) -> list[object]:
    """The control messages a client was sent."""
    return [json.loads(data[2:]) for data in transport.written if b'"sockade"' in data]


async def test_a_client_that_asked_for_control_messages_is_told_of_rejected_ones(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    asked, silent = await room.join(controls=True), await room.join()
    for transport in (asked, silent):
        transport.connection.receive("\x00")
    await room.turn()
    assert told(asked) == [{"sockade": {"rejected": "text_forbidden"}}]
    assert silent.written == []


async def test_a_flood_is_rejected_then_closed_and_the_third_one_is_a_ban(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    for _ in range(3):
        assert room.hub.limiter.judge_user("ada", room.clock.monotonic()) is None
        transport = await room.join()
        for _ in range(60):
            transport.connection.receive("x")
        assert transport.closed == (CloseCode.POLICY_VIOLATION, "too many messages")
        transport.finish()
        room.step(10)
    assert room.hub.limiter.judge_user("ada", room.clock.monotonic()) is not None
    assert room.hub.limiter.judge_address("127.0.0.1", room.clock.monotonic()) is not None


async def test_control_frames_nobody_asked_for_count_as_messages(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    pinging, ponging = await room.join("ada"), await room.join("bob")
    for _ in range(60):
        pinging.connection.receive_ping()
        ponging.connection.receive_pong()
    assert pinging.closed is not None
    assert ponging.closed is not None


async def test_expiry_is_announced_60_seconds_before(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join(lives=100, controls=True)
    for _ in range(39):
        room.step(1)
        transport.connection.standing = room.hub.limiter.standing("ada", room.clock.monotonic())
        transport.connection.receive_pong()
    await room.turn()
    assert told(transport) == []
    room.step(2)
    await room.turn()
    assert told(transport) in ([{"sockade": {"expires_in": seconds}}] for seconds in (59, 60))


async def test_a_renewed_session_goes_on_with_its_new_rights(app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join(session="s1", lives=10)
    other = await room.join(session="s2", lives=10)
    room.hub.renew_session(Identity("ada", role="guest", session=SessionId("s1")), 300)
    room.step(15)
    assert transport.closed is None
    assert transport.connection.identity.role == "guest"
    assert other.closed is not None


async def test_typed_messages_arrive_as_their_type(app: Sockade, room: Room) -> None:
    seen = []

    class Say(msgspec.Struct):
        text: str

    @app.endpoint("/", message=Say)
    class Typed:
        async def on_message(self, connection: Connection, message: Say) -> None:
            seen.append(message)

    transport = await room.join()
    transport.connection.receive('{"text":"hi"}')
    transport.connection.receive("hi")
    await room.turn()
    assert seen == [Say("hi")]


class Endings:
    """An endpoint whose callback raises what it is told to, and which notes how connections end."""

    def __init__(self, raised: Callable[[], BaseException]) -> None:
        self.raised = raised
        self.lines: list[str] = []

    async def on_message(self, connection: Connection, message: str) -> None:
        self.lines.append(message)
        raise self.raised()

    async def on_error(self, connection: Connection, error: BaseException) -> None:
        self.lines.append(type(error).__name__)
        raise self.raised()

    async def on_close(self, connection: Connection) -> None:
        self.lines.append("close")
        raise self.raised()


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, lambda: BaseExceptionGroup("", [SystemExit()])])
async def test_what_is_no_exception_costs_that_connection_alone_too(
    raised: Callable[[], BaseException], app: Sockade, room: Room
) -> None:
    """A callback that waits for what is cancelled, and one that calls what ends a process."""
    handler = Endings(raised)
    app.endpoint("/")(handler)
    transport = await room.join()
    for message in ("1", "2"):
        transport.connection.receive(message)
    await room.turn()
    assert transport.closed == (CloseCode.INTERNAL_ERROR, "internal error")
    transport.finish()
    await room.turn()
    assert handler.lines == ["1", type(raised()).__name__, "close"]
    assert len(room.errors) == 3
    assert transport.connection.task is not None
    assert transport.connection.task.done()


async def test_a_connection_whose_callbacks_are_cancelled_is_dropped(app: Sockade, room: Room) -> None:
    @app.endpoint("/")
    class Cancelled:
        async def on_message(self, connection: Connection, message: str) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    transport = await room.join()
    transport.connection.receive("x")
    await room.turn()
    assert transport.aborted
    assert not room.errors


async def test_last_callbacks_that_raise_before_they_can_be_awaited_are_reported(app: Sockade, room: Room) -> None:
    def failing(what: str) -> Any:
        async def written(self: object, connection: Connection, *error: object) -> None:
            """Do nothing."""

        @functools.wraps(written)
        def called(*arguments: object) -> None:
            raise RuntimeError(what)

        return called

    app.endpoint("/")(type("Broken", (), {f"on_{what}": failing(what) for what in ("message", "error", "close")}))
    transport = await room.join()
    transport.connection.receive("x")
    await room.turn()
    assert transport.closed == (CloseCode.INTERNAL_ERROR, "internal error")
    transport.finish()
    await room.turn()
    assert [str(error) for error in room.errors] == ["message", "error", "close"]


@pytest.mark.parametrize("type_", [Any, int | None])
async def test_null_is_a_message_like_any_other(type_: Any, app: Sockade, room: Room) -> None:
    heard: list[Any] = []

    @app.endpoint("/", message=type_)
    class Noted:
        async def on_message(self, connection: Connection, message: Any) -> None:
            heard.append(message)

        async def on_close(self, connection: Connection) -> None:
            heard.append("close")

    transport = await room.join()
    for text in ("null", "1"):
        transport.connection.receive(text)
    transport.finish()
    await room.turn()
    assert heard == [None, 1, "close"]


async def test_a_type_that_fails_is_the_application_s_failure(app: Sockade, room: Room) -> None:
    class Broken(Message):
        text: str

        def __post_init__(self) -> None:
            raise KeyError(self.text)

    app.endpoint("/", message=Broken)(Echo)
    transport = await room.join()
    transport.connection.receive('{"text":"a"}')
    assert transport.closed == (CloseCode.INTERNAL_ERROR, "internal error")
    assert [repr(error) for error in room.errors] == ["KeyError('a')"]


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2999, 5000, True, "1000", None])
async def test_a_connection_is_closed_with_a_code_that_may_be_sent(code: Any, app: Sockade, room: Room) -> None:
    app.endpoint("/")(Echo)
    transport = await room.join()
    with pytest.raises(UsageError, match="no connection is closed with"):
        transport.connection.close(code)
    with pytest.raises(UsageError, match="the reason of a close is a text"):
        transport.connection.close(1000, None)  # type: ignore[arg-type]
    assert transport.connection.is_open
    transport.connection.close(1000, "a\ud800")
    assert transport.closed == (1000, "a?")


@pytest.mark.parametrize(("code", "heard"), [(3000, ["1"]), (3003, ["1"]), (1008, ["1"]), (1012, ["1", "2", "3"])])
async def test_what_waits_of_someone_who_may_not_be_here_any_more_goes_nowhere(
    code: int, heard: list[str], app: Sockade, room: Room
) -> None:
    taken: list[str] = []
    go_on = asyncio.Event()

    @app.endpoint("/")
    class Slow:
        async def on_message(self, connection: Connection, message: str) -> None:
            taken.append(message)
            await go_on.wait()

    transport = await room.join()
    for message in ("1", "2", "3"):
        transport.connection.receive(message)
    await room.turn()
    transport.connection.close(code)
    go_on.set()
    await room.turn()
    assert taken == heard


async def test_what_has_a_buffer_is_sent_as_its_bytes(app: Sockade, room: Room) -> None:
    """Its size in items must not be taken for that of as many bytes, nor remembered for others."""
    app.endpoint("/", binary=True)(Echo)
    ada, bob = await room.join(), await room.join("bob")
    ada.connection.send(array.array("I", [7] * 8))  # type: ignore[arg-type]
    ada.connection.send(memoryview(b"abcd")[::2])  # type: ignore[arg-type]
    bob.connection.send(b"12345678")
    await room.turn()
    assert ada.written == [b"\x82\x20" + array.array("I", [7] * 8).tobytes() + b"\x82\x02ac"]
    assert bob.written == [b"\x82\x0812345678"]
    with pytest.raises(TypeError):
        ada.connection.send(5)  # type: ignore[arg-type]
