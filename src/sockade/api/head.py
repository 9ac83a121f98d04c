"""Makes the head of an ASGI request the value that the guard judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.guard.handshake import Head

if TYPE_CHECKING:
    from starlette.types import Scope


def head_of(scope: Scope) -> Head:
    """Return the head of an HTTP request."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    query = scope.get("query_string", b"").decode("latin-1")
    target = scope["path"] + (f"?{query}" if query else "")
    return Head(scope["method"], target, scope.get("http_version", "1.1"), headers)
