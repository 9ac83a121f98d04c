"""Heads that are remembered: whatever comes, it is taken apart exactly as the library takes it apart each time."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from sockade.doors import heads
from sockade.doors.heads import Heads
from sockade.doors.turns import Turns
from sockade.doors.websocket import PARSED_BYTES, Ledger, WebSocketDoor
from sockade.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from websockets.extensions import Extension

LIMITS = LimitSettings(message_bytes=1_024, incomplete_bytes=4_096, message_fragments=4)
OPCODES = st.sampled_from([0, 1, 2, 3, 8, 9, 10])
PAYLOADS = st.one_of(
    st.sampled_from([0, 1, 125, 126, 127, 1_024, 1_025]).map(lambda size: b"x" * size),
    st.text(max_size=20).map(str.encode),
)
"""Texts in UTF-8: of two errors in one read the parser finds its own first, and a test below has the other."""


class Noted:
    """Stands for the connection and for the TLS transport, and notes what each is told."""

    def __init__(self) -> None:
        self.is_open = True
        self.incomplete = False
        self.notes: list[Any] = []
        self.reads = True
        self.due: list[Callable[[], None]] = []
        loop = SimpleNamespace(call_soon=lambda call: self.due.append(call), call_exception_handler=self.notes.append)
        self.hub = SimpleNamespace(loop=loop, flush_due=False, flush=lambda: None)

    def turn(self) -> None:
        """Do what the loop has to do next."""
        due, self.due = self.due, []
        for call in due:
            call()

    def all_turns(self) -> None:
        """Do all that the loop has to do, and what comes of it."""
        for _ in range(1_000):
            if not self.due:
                return
            self.turn()
        raise AssertionError("turns without end")

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def abort(self) -> None:
        self.notes.append("abort")

    def lost(self, *_: object) -> None:
        self.notes.append("lost")

    def receive(self, message: str | bytes) -> None:
        if self.is_open:
            self.notes.append(message)

    def write(self, data: bytes) -> None:
        self.notes.append(("write", bytes(data)))

    def close(self) -> None:
        self.notes.append("close")

    def closing(self) -> None:
        if self.is_open:
            self.notes.append("closing")
        self.is_open = False

    def flush(self) -> None:
        self.notes.append("flush")

    def partial(self, incomplete: bool) -> None:
        self.incomplete = incomplete

    def receive_ping(self) -> None:
        self.notes.append("ping")

    def receive_pong(self) -> None:
        self.notes.append("pong")


class NothingRemembered(Heads):
    def learn(self, data: bytes) -> None:
        pass


def door(
    known: Heads, extensions: Sequence[Extension] = (), message_bytes: int = LIMITS.message_bytes
) -> tuple[WebSocketDoor, Noted]:
    noted = Noted()
    ledger = Ledger(known, Turns(noted.hub))  # type: ignore[arg-type]
    made = WebSocketDoor(noted, extensions, message_bytes, LIMITS, ledger, lambda: None)  # type: ignore[arg-type]
    made.connection = noted  # type: ignore[assignment]
    return made, noted


def hear(one: WebSocketDoor, data: bytes) -> None:
    """Let a door read and have a turn."""
    one.data_received(data)
    one.connection.turn()  # type: ignore[attr-defined]


def hear_all(one: WebSocketDoor, data: bytes) -> None:
    """Let a door read and have every turn it needs: the parser ends one behind the first frames it finds."""
    one.data_received(data)
    one.connection.all_turns()  # type: ignore[attr-defined]


def client_frame(
    opcode: int,
    payload: bytes,
    *,
    flags: int = 0x80,
    masked: bool = True,
    wide: bool = False,
    mask: bytes = b"\x01\x02\x03\x04",
) -> bytes:
    """Return a frame as a client sends it: whether or not it is permitted, and its size with more bytes than needed."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126 and not wide:
        head = bytes([flags | opcode, bit | size])
    else:
        head = struct.pack("!BBH", flags | opcode, bit | 126, size)
    return head + (mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if masked else payload)


FRAMES = st.builds(
    client_frame,
    OPCODES,
    PAYLOADS,
    flags=st.sampled_from([0x80, 0x80, 0x80, 0x80, 0x00, 0xC0]),
    masked=st.sampled_from([True] * 9 + [False]),
    wide=st.booleans(),
)
TEXTS = st.builds(client_frame, st.just(1), PAYLOADS)


@given(st.lists(st.one_of(TEXTS, FRAMES), max_size=12), st.lists(st.integers(1, 300), max_size=30))
@example([client_frame(1, b"x" * 1_024)] * (PARSED_BYTES // 1_024), [])
def test_every_stream_is_taken_apart_as_without_memory(frames: list[bytes], cuts: list[int]) -> None:
    remembering, nothing = Heads(LIMITS.message_bytes), NothingRemembered(LIMITS.message_bytes)
    for known in (remembering, remembering):  # the second time every head is known
        (one, seen), (other, expected) = door(known), door(nothing)
        for piece in pieces(b"".join(frames), cuts):
            hear_all(one, piece)
            hear_all(other, piece)
            assert seen.notes == expected.notes
            assert (one._held > 0, seen.incomplete) == (other._held > 0, expected.incomplete)


def pieces(data: bytes, cuts: Iterable[int]) -> Iterable[bytes]:
    for cut in cuts:
        if data:
            yield data[:cut]
            data = data[cut:]
    if data:
        yield data


def test_no_part_of_a_frame_is_taken_for_a_frame() -> None:
    """A payload is masked with what the client likes: on the wire it can be frames that nobody sent."""
    smuggled = client_frame(1, b"smuggled")
    payload = smuggled * 3
    frame = client_frame(2, payload, mask=b"\0\0\0\0")
    for cut in range(1, len(frame)):
        one, noted = door(Heads(LIMITS.message_bytes))
        hear(one, smuggled)
        hear(one, frame[:cut])
        hear(one, frame[cut:])
        assert noted.notes == ["smuggled", payload]


def test_a_whole_message_amid_the_fragments_of_another_is_an_error_as_ever() -> None:
    """RFC 6455 §5.4."""
    whole = client_frame(1, b"whole")
    one, noted = door(Heads(LIMITS.message_bytes))
    for data in (whole, client_frame(1, b"first", flags=0x00), whole):
        hear(one, data)
    close = ("write", b"\x88\x1f\x03\xeaexpected a continuation frame")
    assert noted.notes == ["whole", "closing", close, "close"]


def test_a_head_that_was_seen_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, client_frame(1, b"a" * 128))

    def parse(*_: object, **__: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(Frame, "parse", parse)
    hear(one, client_frame(1, b"b" * 128) * 2)
    assert noted.notes == ["a" * 128, "b" * 128, "b" * 128]
    for piece in pieces(client_frame(1, b"c" * 128) * 20, [100] * 30):
        hear(one, piece)
    assert noted.notes[3:] == ["c" * 128] * 20


def test_a_pong_that_was_seen_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, client_frame(Opcode.PONG, b""))
    monkeypatch.delattr(Frame, "parse")
    hear(one, client_frame(Opcode.PONG, b""))
    assert noted.notes == ["pong", "pong"]


def test_a_known_frame_that_drips_has_the_deadline_of_its_first_byte() -> None:
    frame = client_frame(1, b"a" * 128)
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, frame)
    told: list[bool] = []
    noted.partial = told.append  # type: ignore[method-assign]
    for piece in pieces(frame + frame[:20], [10] * 30):
        hear(one, piece)
    assert told == [True, False, True]


def test_a_close_amid_a_known_frame_leaves_the_rest_of_it_to_the_parser() -> None:
    frame = client_frame(1, b"a" * 128)
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, frame)
    hear(one, frame[:50])
    one.close(1000, "")
    hear(one, frame[50:] + client_frame(Opcode.CLOSE, b"\x03\xe8"))
    assert noted.notes == ["a" * 128, "closing", ("write", b"\x88\x02\x03\xe8"), "close"]
    assert one._protocol.close_rcvd == Close(1000, "")
    assert one._held == one._ledger.incomplete == 0


def test_what_is_not_utf_8_ends_everything_behind_a_known_head_too() -> None:
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, client_frame(1, b"good"))
    hear(one, client_frame(1, b"\xff\xff\xff\xff") + client_frame(1, b"more"))
    hear(one, client_frame(1, b"more"))
    assert noted.notes == ["good", "closing", ("write", b"\x88\x0f\x03\xefinvalid UTF-8"), "close"]


def test_a_connection_that_says_nothing_new_needs_no_protocol_to_its_end() -> None:
    known = Heads(LIMITS.message_bytes)
    known.learn(client_frame(1, b"abc"))
    one, noted = door(known)
    hear(one, client_frame(1, b"abc"))
    one.ping()
    one.eof_received()
    one.connection_lost(None)
    assert noted.notes == ["abc", ("write", b"\x89\x00"), "flush", "lost"]
    assert one._made is None


@pytest.mark.parametrize("spoken", [False, True])
def test_a_larger_limit_holds_whether_or_not_there_is_a_protocol_yet(spoken: bool) -> None:
    one, noted = door(Heads(LIMITS.message_bytes), message_bytes=3)
    if spoken:
        hear(one, client_frame(1, b"abc"))
    one.allow(LIMITS.message_bytes)
    for _ in range(2):
        hear(one, client_frame(1, b"abcd"))
    assert noted.notes == ["abc"] * spoken + ["abcd"] * 2
    assert one._at_head


def test_a_head_over_the_limit_is_never_known() -> None:
    known = Heads(LIMITS.message_bytes)
    known.learn(client_frame(1, b"x" * (LIMITS.message_bytes + 1)))
    known.learn(client_frame(1, b"x" * 10, masked=False))
    known.learn(client_frame(1, b"x" * 10, flags=0xC0))
    assert not known.known


def test_only_whole_messages_are_known() -> None:
    known = Heads(LIMITS.message_bytes)
    for opcode, flags in ((Opcode.TEXT, 0x00), (Opcode.CONT, 0x80), (Opcode.PING, 0x80), (Opcode.CLOSE, 0x80)):
        known.learn(client_frame(opcode, b"\x03\xe8", flags=flags))
    assert set(known.known.values()) == {None}


def test_memory_of_heads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "REMEMBERED", 3)
    known = Heads(LIMITS.message_bytes)
    for size in range(20):
        known.learn(client_frame(1, b"x" * size))
    assert len(known.known) == 3


def test_frames_that_may_be_compressed_are_the_parsers() -> None:
    """A known head must not keep data from the extension: with it the same bytes are another message."""
    known = Heads(LIMITS.message_bytes)
    known.learn(client_frame(1, b"abc"))
    one, noted = door(known, [PerMessageDeflate(True, True, 15, 15)])
    assert not one._at_head
    hear(one, client_frame(1, b"abc"))
    assert not one._at_head
    assert noted.notes == ["abc"]


@pytest.mark.parametrize("cut", range(1, 136))
def test_what_follows_a_whole_message_counts_as_held(cut: int) -> None:
    whole = client_frame(1, b"a" * 128)
    one, noted = door(Heads(LIMITS.message_bytes))
    for _ in range(2):
        hear(one, whole + whole[:cut])
        assert one._held == one._ledger.incomplete > 0
        assert one._held >= cut - 8
        assert noted.incomplete
        hear(one, whole[cut:])
        assert one._held == one._ledger.incomplete == 0
        assert not noted.incomplete
    assert noted.notes == ["a" * 128] * 4


def turns(count: int) -> tuple[WebSocketDoor, Noted]:
    """Return a door that just read many messages at once, whose heads it knows, and had its first turn."""
    one, noted = door(Heads(LIMITS.message_bytes))
    hear(one, client_frame(1, b"000"))
    noted.notes.clear()
    hear(one, b"".join(client_frame(1, f"{number:03}".encode()) for number in range(count)))
    return one, noted


def test_who_sends_much_at_once_is_heard_in_turns_and_in_order() -> None:
    _, noted = turns(100)
    seen = [len(noted.notes)]
    while noted.due:
        assert not noted.reads
        noted.turn()
        seen.append(len(noted.notes))
    assert seen == [32, 64, 96, 100]
    assert noted.notes == [f"{number:03}" for number in range(100)]
    assert noted.reads


def test_a_burst_that_is_allowed_by_default_has_one_turn() -> None:
    burst = LimitSettings().message_burst
    _, noted = turns(burst)
    assert (len(noted.notes), noted.due) == (burst, [])


def test_who_is_paused_is_not_heard_until_it_may_go_on() -> None:
    one, noted = turns(40)
    one.pause_reading()
    noted.turn()
    assert (len(noted.notes), noted.due) == (32, [])
    one.resume_reading()
    noted.turn()
    assert len(noted.notes) == 40
    assert noted.reads


@pytest.mark.parametrize("known", [True, False])
def test_who_is_paused_by_a_message_is_heard_no_further(monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    """What is not heard is not counted either: who waits for a slow answer keeps to the rate."""
    one, noted = turns(0)
    hear(one, client_frame(1, b"000" if known else b"zero"))
    receive = noted.receive

    def receive_and_pause(message: Any) -> None:
        receive(message)
        if message == "003":
            one.pause_reading()

    monkeypatch.setattr(noted, "receive", receive_and_pause)
    read(one, b"".join(client_frame(1, b"%03d" % number) for number in range(1, 9)))
    noted.turn()
    assert (noted.notes[1:], noted.due, noted.reads) == (["001", "002", "003"], [], False)
    one.resume_reading()
    noted.turn()
    assert noted.notes[-1] == "008"
    assert noted.reads


def test_who_is_paused_by_the_last_message_stays_paused() -> None:
    one, noted = turns(40)
    noted.receive = lambda message: one.pause_reading() if message == "039" else None  # type: ignore[method-assign]
    noted.turn()
    assert not noted.reads


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
def test_what_was_read_is_heard_before_the_end(end: str) -> None:
    one, noted = turns(100)
    one.pause_reading()
    if end == "eof_received":
        one.eof_received()
        assert len(noted.notes) == 101
        assert noted.notes[-1] == "flush"
    else:
        one.connection_lost(None)
        assert len(noted.notes) == 101
        assert noted.notes[-1] == "lost"
    noted.turn()
    assert len(noted.notes) <= 101


def read(one: WebSocketDoor, data: bytes) -> None:
    one.get_buffer(-1)[: len(data)] = data
    one.buffer_updated(len(data))


def test_a_large_read_waits_for_its_turn_and_nothing_more_is_read() -> None:
    one, noted = turns(1)
    read(one, client_frame(1, b"000") * 1_000)
    assert (noted.reads, len(noted.notes)) == (False, 1)
    noted.turn()
    assert (noted.reads, len(noted.notes)) == (False, 33)
    noted.all_turns()
    assert (noted.reads, len(noted.notes)) == (True, 1_001)
    read(one, b"\x81")
    assert noted.reads


def test_many_small_reads_before_a_turn_are_a_large_one() -> None:
    one, noted = turns(0)
    hear(one, client_frame(1, b"x" * 1_000))
    for _ in range(9):
        read(one, client_frame(1, b"x" * 1_000))
    assert (noted.reads, len(noted.due), len(noted.notes)) == (False, 1, 1)
    noted.turn()
    assert (noted.reads, len(noted.notes)) == (True, 10)


def test_frames_of_unknown_heads_have_turns_too() -> None:
    one, noted = turns(0)
    read(one, client_frame(9, b"") * 3_000)
    heard = []
    while noted.due:
        noted.turn()
        heard.append(noted.notes.count("ping"))
    assert heard[0] == PARSED_BYTES // 6
    assert heard[-1] == 3_000
    assert noted.reads


def test_a_message_of_many_pieces_has_one_turn() -> None:
    one, noted = door(Heads(LIMITS.message_bytes), message_bytes=3 * PARSED_BYTES)
    read(one, client_frame(1, b"x" * 3 * PARSED_BYTES))
    noted.turn()
    assert (noted.notes, noted.due) == (["x" * 3 * PARSED_BYTES], [])


@pytest.mark.parametrize("paused", [False, True])
def test_the_answer_to_a_close_is_looked_for_in_what_may_have_been_under_way(*, paused: bool) -> None:
    one, noted = turns(0)
    if paused:
        one.pause_reading()
    one.close(1008, "")
    if paused:
        one.resume_reading()
    late = client_frame(1, b"late")
    for _ in range(LIMITS.message_bytes // len(late)):
        read(one, late)
        noted.turn()
        assert noted.reads
    read(one, client_frame(8, b"\x03\xf0"))
    noted.turn()
    assert noted.notes[-1] == "close"
    assert "late" not in noted.notes


def test_who_goes_on_behind_a_close_is_read_no_more() -> None:
    one, noted = turns(0)
    one.close(1008, "")
    late = client_frame(1, b"late")
    for _ in range(LIMITS.message_bytes // len(late) + 1):
        assert noted.reads
        read(one, late)
        noted.turn()
    assert (noted.reads, one._waiting) == (False, b"")
    assert noted.notes == ["closing", ("write", b"\x88\x02\x03\xf0")]


@pytest.mark.parametrize("end", ["turn", "eof_received", "connection_lost"])
def test_a_connection_that_breaks_is_ended_and_nothing_more_of_it_is_heard(end: str) -> None:
    error = RuntimeError("broken")

    def receive(message: str | bytes) -> None:
        raise error

    one, noted = door(Heads(LIMITS.message_bytes))
    noted.receive = receive  # type: ignore[method-assign]
    one.data_received(client_frame(1, b"one") + client_frame(1, b"two"))
    if end == "turn":
        noted.turn()
    elif end == "eof_received":
        one.eof_received()
    else:
        one.connection_lost(None)
    told, aborted, *more = noted.notes
    assert (told["exception"], aborted) == (error, "abort")
    assert more == {"turn": [], "eof_received": ["flush"], "connection_lost": ["lost"]}[end]
    assert not one._waiting
