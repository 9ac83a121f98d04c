"""The one ordered list of checks that a handshake passes before anything is looked up.

A new check is one file and one line here. The order matters: what is cheap and says nothing about us comes first,
and a foreign Origin is refused before any credential is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.guard.credentials import check_url, find_credential
from sockade.guard.host import check_host
from sockade.guard.origin import check_origin
from sockade.guard.upgrade import check_path, check_request, check_websocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockade.guard.handshake import Handshake, Refuse
    from sockade.guard.identity import Credential
    from sockade.guard.policy import Policy

CHECKS: tuple[Callable[[Handshake, Policy], Refuse | None], ...] = (
    check_host,
    check_origin,
    check_request,
    check_websocket,
    check_path,
    check_url,
)


def screen(handshake: Handshake, policy: Policy) -> Credential | Refuse:
    """Return the credential to verify, or the first refusal."""
    for check in CHECKS:
        refusal = check(handshake, policy)
        if refusal is not None:
            return refusal
    return find_credential(handshake, policy)
