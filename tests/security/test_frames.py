"""Cases 58 to 63, from outside, byte by byte over TLS: what frames may be, and how much and how long."""

from __future__ import annotations

import contextlib
import re
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import ROOMY, RunningServer
from tests.security.sockets import memory_mib
from tests.security.wire import BINARY, CLOSE, CONT, PING, TEXT, Wire, close_frame, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.report import Observe

LIMIT = 65_536
FRAGMENTS = 128
MESSAGE_SECONDS, PING_SECONDS, PONG_SECONDS, CLOSE_SECONDS = 2.0, 6.0, 2.0, 5.0
SWEEP = 1.5
"""Deadlines are looked at once a second."""
SHORT = (
    f"[limits]\n{ROOMY}message_seconds = {MESSAGE_SECONDS}\n"
    f"ping_seconds = {PING_SECONDS}\npong_seconds = {PONG_SECONDS}\n"
)
APP = """
from sockade import Connection, Sockade

app = Sockade()

@app.endpoint("/")
class Room:
    async def on_message(self, connection: Connection, message: str) -> None:
        if message == "close me":
            connection.close(1000, "as asked")
        connection.broadcast(message)
"""


class Served:
    """A server and one who hears what is delivered."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.token = server.token()

    def open(self, **options: object) -> Wire:
        return Wire(self.server, self.token, **options)  # type: ignore[arg-type]

    def close_code(self, *frames: bytes, **options: object) -> int | None:
        """Send frames on a connection of their own, and return the code it is closed with."""
        with self.open(**options) as wire:
            wire.send(*frames)
            return wire.close_code()


def serve(folder: Path, config: str) -> Iterator[Served]:
    (folder / "frames_under_test.py").write_text(APP)
    server = RunningServer(folder / "server", config, "frames_under_test:app", module_path=str(folder))
    server.start()
    try:
        yield Served(server)
        assert server.process.poll() is None
    finally:
        server.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("frames"), SHORT)


@pytest.fixture(scope="module")
def deflating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("deflate"), f"{SHORT}compression = true\nincomplete_bytes = {LIMIT}\n")


BROKEN = {
    "unmasked": frame(TEXT, b"x", masked=False),
    "first reserved bit": frame(TEXT, b"x", reserved=4),
    "second reserved bit": frame(TEXT, b"x", reserved=2),
    "third reserved bit": frame(TEXT, b"x", reserved=1),
    "unknown data opcode 3": frame(3, b"x"),
    "unknown data opcode 7": frame(7, b"x"),
    "unknown control opcode 11": frame(11),
    "unknown control opcode 15": frame(15),
    "control frame of 126 bytes": frame(PING, b"x" * 126),
    "fragmented control frame": frame(PING, b"x", fin=False),
    "continuation of nothing": frame(CONT, b"x"),
    "last continuation, then another": frame(TEXT, b"x", fin=False) + frame(CONT, b"y") + frame(CONT, b"z"),
    "a message within a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "a binary within a text": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False),
    "close frame of one byte": frame(CLOSE, b"\x03"),
    "close frame over 125 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    **{f"close code {code}": close_frame(code) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_frame_that_breaks_the_protocol_is_1002(served: Served, name: str) -> None:
    """Case 58."""
    assert served.close_code(BROKEN[name]) == 1002


BAD_TEXT = {
    "no UTF-8": [b"\xff"],
    "overlong": [b"\xc0\x80"],
    "surrogate": [b"\xed\xa0\x80"],
    "beyond Unicode": [b"\xf4\x90\x80\x80"],
    "cut off": [b"abc\xe2\x82"],
    "cut off, then something else": [b"\xe2\x82", b"abc"],
    "bad in the last of three": [b"abc", b"d\xc3", b"\x28"],
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_that_is_no_utf_8_is_1007_however_it_is_split(served: Served, name: str) -> None:
    """Case 58."""
    parts = BAD_TEXT[name]
    last = len(parts) - 1
    frames = [frame(CONT if place else TEXT, part, fin=place == last) for place, part in enumerate(parts)]
    with served.open() as hearer:
        assert served.close_code(*frames) == 1007
        with served.open() as sender:
            sender.send(frame(TEXT, b"next"))
            assert hearer.message() == b"next"


def test_a_character_split_over_fragments_is_one_character(served: Served) -> None:
    """Case 58."""
    with served.open() as hearer, served.open() as sender:
        sender.send(
            *[frame(CONT if place else TEXT, bytes([byte]), fin=place == 2) for place, byte in enumerate("€".encode())]
        )
        assert hearer.message() == "€".encode()


def test_a_close_reason_that_is_no_utf_8_is_1007(served: Served) -> None:
    """Case 58."""
    assert served.close_code(close_frame(1000, b"\xff")) == 1007


@pytest.mark.parametrize("frames", [[frame(BINARY, b"x")], [frame(BINARY, b"x", fin=False), frame(CONT, b"y")]])
def test_binary_where_text_is_spoken_is_1003(served: Served, frames: list[bytes]) -> None:
    """Case 58."""
    assert served.close_code(*frames) == 1003


@pytest.mark.parametrize("declared", [LIMIT + 1, 1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_length_over_the_limit_is_1009_from_the_header_alone(served: Served, declared: int) -> None:
    """Case 59."""
    assert served.close_code(frame(TEXT, declared=declared)) == 1009


def test_a_length_over_what_is_left_of_the_message_is_1009(served: Served) -> None:
    """Case 59."""
    assert served.close_code(frame(TEXT, b"x" * 60_000, fin=False), frame(CONT, declared=LIMIT - 60_000 + 1)) == 1009


def test_declared_lengths_cost_no_memory(served: Served, observe: Observe) -> None:
    """Case 59."""
    reset_peak(served.server)
    before = peak_mib(served.server)
    codes = []
    for _ in range(100):
        with served.open() as wire:
            with contextlib.suppress(OSError):
                wire.send(frame(TEXT, declared=1 << 40), b"x" * 100_000)
            codes.append(wire.close_code())
    grown = peak_mib(served.server) - before
    observe("0 MiB for 100 TiB declared", f"{grown:.1f} MiB")
    # What is sent behind the header may overtake the close frame's way out as a reset.
    assert set(codes) <= {1009, None}
    assert grown < 8


def test_128_fragments_are_a_message_and_129_are_1009(served: Served, observe: Observe) -> None:
    """Case 60."""

    def fragments(count: int) -> list[bytes]:
        return [frame(CONT if place else TEXT, b"x", fin=place == count - 1) for place in range(count)]

    with served.open() as hearer, served.open() as sender:
        sender.send(*fragments(FRAGMENTS))
        assert hearer.message() == b"x" * FRAGMENTS
    found = served.close_code(*fragments(FRAGMENTS + 1))
    observe("129 fragments: 1009", f"{found}")
    assert found == 1009
    # Empty ones count as well.
    assert served.close_code(frame(TEXT, fin=False), *[frame(CONT, fin=False)] * FRAGMENTS) == 1009


def close_code_within(wire: Wire, seconds: float) -> int | None:
    """Read for a while; return the close code if one comes."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        wire.sock.settimeout(left)
        with contextlib.suppress(TimeoutError):
            found = wire.receive()
            if found.opcode == CLOSE:
                return int.from_bytes(found.payload[:2], "big")
    return None


@pytest.mark.parametrize("what", ["bytes of a frame", "fragments", "fragments with pings between them"])
def test_a_dripped_message_is_closed_at_its_deadline_however_much_comes(
    served: Served, what: str, observe: Observe
) -> None:
    """Case 61."""
    pieces = {
        "bytes of a frame": [frame(TEXT, declared=1_000), *[b"x"] * 1_000],
        "fragments": [frame(TEXT, b"x", fin=False), *[frame(CONT, b"x", fin=False)] * 120],
        "fragments with pings between them": [
            frame(TEXT, b"x", fin=False),
            *[frame(CONT, b"x", fin=False) + frame(PING)] * 120,
        ],
    }[what]
    with served.open() as wire:
        began = time.monotonic()
        code = None
        for piece in pieces:
            with contextlib.suppress(OSError):
                wire.send(piece)
            if (code := close_code_within(wire, 0.1)) is not None:
                break
        took = time.monotonic() - began
    observe(f"1008 after {MESSAGE_SECONDS:g} s", f"{code} after {took:.1f} s")
    assert code == 1008
    assert MESSAGE_SECONDS - SWEEP < took < MESSAGE_SECONDS + 2 * SWEEP


def test_a_peer_that_does_not_answer_pings_is_gone(served: Served, observe: Observe) -> None:
    """Case 62."""
    with served.open() as wire:
        began = time.monotonic()
        assert wire.receive().opcode == PING
        code, _ = wire.ended()
        took = time.monotonic() - began
    observe(f"gone {PING_SECONDS + PONG_SECONDS:g} s after the last sign (25 s and 8 s by default)", f"{took:.1f} s")
    assert code is None
    assert took < PING_SECONDS + PONG_SECONDS + 2 * SWEEP


def test_a_peer_that_answers_pings_stays(served: Served) -> None:
    """Case 62."""
    with served.open() as wire:
        began = time.monotonic()
        while time.monotonic() - began < PING_SECONDS + PONG_SECONDS + 2 * SWEEP:
            found = wire.receive()
            assert found.opcode == PING
            wire.send(frame(10, found.payload))


def test_what_comes_behind_a_close_is_ignored_and_tcp_ends(served: Served, observe: Observe) -> None:
    """Case 62."""
    with served.open() as hearer, served.open() as wire:
        wire.send(close_frame(1000), frame(TEXT, b"late"), frame(CLOSE, b"\x03"))
        code, took = wire.ended()
        assert code == 1000
        with served.open() as sender:
            sender.send(frame(TEXT, b"next"))
            assert hearer.message() == b"next"
    observe("TCP gone within 5 s of the client's Close", f"{took:.2f} s")
    assert took < CLOSE_SECONDS


def test_who_does_not_answer_a_close_is_cut_off_and_what_they_send_is_ignored(served: Served, observe: Observe) -> None:
    """Case 62."""
    with served.open() as hearer, served.open() as wire:
        wire.send(frame(TEXT, b"close me"))
        assert hearer.message() == b"close me"
        assert wire.receive().opcode == CLOSE
        began = time.monotonic()
        wire.sock.settimeout(0.2)
        while time.monotonic() - began < CLOSE_SECONDS + 2 * SWEEP:
            try:
                wire.send(frame(TEXT, b"late"))
                wire.receive()
            except TimeoutError:
                continue
            except (EOFError, OSError):
                break
        took = time.monotonic() - began
        with served.open() as sender:
            sender.send(frame(TEXT, b"next"))
            assert hearer.message() == b"next"
    observe("TCP gone within 5 s of the server's Close", f"{took:.1f} s")
    assert took < CLOSE_SECONDS + SWEEP


UNREAD_BYTES = 64 * 1024 * 1024
"""More than the systems of both sides keep for one connection, and far less than TLS takes through within 5 s."""


def test_who_goes_on_sending_behind_a_close_is_read_no_more(served: Served, observe: Observe) -> None:
    """Case 62."""
    late, sent = frame(TEXT, b"x" * 60_000), 0
    with served.open() as wire:
        wire.send(frame(TEXT, b"close me"))
        while wire.receive().opcode != CLOSE:
            pass
        with contextlib.suppress(OSError):
            while sent < UNREAD_BYTES:
                wire.send(late)
                sent += len(late)
    observe("read no more, and TCP gone within 5 s", f"cut off after {sent / 1024**2:.1f} MiB")
    assert sent < UNREAD_BYTES


# Compression.

OFFER = "permessage-deflate"
DEFLATED = 4
"""RFC 7692 §6: the first reserved bit says that a message is compressed."""


def deflate(data: bytes, *, final: bool = True) -> bytes:
    """Return data as a compressed message carries it (RFC 7692 §7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4] if final else packed


def test_compression_is_off_unless_it_is_switched_on(served: Served) -> None:
    """Case 63."""
    with served.open(extensions=OFFER) as wire:
        assert "sec-websocket-extensions" not in wire.response
    assert served.close_code(frame(TEXT, deflate(b"x"), reserved=DEFLATED), extensions=OFFER) == 1002


def test_compressed_messages_are_accepted_without_context_and_relayed_as_they_were(deflating: Served) -> None:
    """Case 63."""
    with deflating.open() as hearer, deflating.open(extensions=OFFER) as sender:
        assert "server_no_context_takeover" in sender.response
        assert "client_no_context_takeover" in sender.response
        for text in (b"hello " * 100, b"again", b""):
            sender.send(frame(TEXT, deflate(text), reserved=DEFLATED))
            assert hearer.message() == text
        hearer.send(frame(TEXT, b"a" * 1_000))
        assert sender.message() == b"a" * 1_000


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "x-webkit-deflate-frame",
    ],
)
def test_bad_parameters_are_declined(deflating: Served, offer: str) -> None:
    """Case 63."""
    with deflating.open(extensions=offer) as wire:
        assert "sec-websocket-extensions" not in wire.response


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(TEXT, b"\xff\xff\xff\xff", reserved=DEFLATED)], 1007),
        ([frame(TEXT, deflate(b"x")[:-1] + b"\x06", reserved=DEFLATED)], 1007),
        ([frame(TEXT, deflate(b"\xff\xfe"), reserved=DEFLATED)], 1007),
        ([frame(TEXT, deflate(b"x", final=False), fin=False, reserved=DEFLATED), frame(CONT, b"x", reserved=4)], 1002),
        ([frame(PING, deflate(b"x"), reserved=DEFLATED)], 1002),
        ([frame(TEXT, deflate(b"x" * (LIMIT + 1)), reserved=DEFLATED)], 1009),
    ],
)
def test_bad_data_closes_with_its_code(deflating: Served, frames: list[bytes], code: int) -> None:
    """Case 63."""
    assert deflating.close_code(*frames, extensions=OFFER) == code


def test_a_bomb_is_1009_and_costs_no_more_than_the_limit(deflating: Served, observe: Observe) -> None:
    """Case 63."""
    size = 48 << 20
    bomb = deflate(bytes(size))
    assert len(bomb) < LIMIT
    assert deflating.close_code(frame(TEXT, bomb, reserved=DEFLATED), extensions=OFFER) == 1009
    reset_peak(deflating.server)
    before = peak_mib(deflating.server)
    for _ in range(20):
        assert deflating.close_code(frame(TEXT, bomb, reserved=DEFLATED), extensions=OFFER) == 1009
    grown = peak_mib(deflating.server) - before
    observe("under 8 MiB for 20 bombs of 48 MiB", f"{grown:.1f} MiB at the peak")
    assert grown < 8


def test_what_fragments_decompress_to_counts_as_held(deflating: Served) -> None:
    """Case 63."""
    part = frame(TEXT, deflate(b"x" * 40_000, final=False), fin=False, reserved=DEFLATED)
    assert len(part) < 200
    with deflating.open(extensions=OFFER) as first:
        first.send(part, frame(PING, b"taken"))
        assert first.receive().payload == b"taken"
        assert deflating.close_code(part, extensions=OFFER) == 1013


def reset_peak(server: RunningServer) -> None:
    """Let the highest memory use be counted anew."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def peak_mib(server: RunningServer) -> float:
    """Return the highest resident memory of a server since `reset_peak`, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    return int(found[1]) / 1_024 if found else memory_mib(server)
