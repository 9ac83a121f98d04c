"""The contract between a connection and whatever carries its frames: the WebSocket door, or a test's list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Transport(Protocol):
    """Carries one connection's frames.

    Frames given to `write` leave in that order. No method blocks, and none raises after the peer is gone.
    """

    @property
    def write(self) -> Callable[[bytes], None]:
        """What sends frames that are already serialized; the same for as long as the connection is open."""
        ...

    def unsent_bytes(self) -> int:
        """Return how many bytes wait here for the kernel to take them."""
        ...

    def ping(self) -> None:
        """Send a ping frame."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake (RFC 6455 §7.1.2); the connection is told when the peer is gone."""
        ...

    def abort(self) -> None:
        """Drop the TCP connection at once, with whatever was not sent."""
        ...

    def pause_reading(self) -> None:
        """Take nothing more from the peer for now."""
        ...

    def resume_reading(self) -> None:
        """Take from the peer again."""
        ...
