"""A connection's straight line: screen, verify, admit, and only then the 101.

Nothing that is not admitted ever reaches the frame parser or application code. Whatever breaks on the way refuses.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

from websockets.exceptions import InvalidHandshake

from sockade.doors.heads import Heads
from sockade.doors.negotiation import SUBPROTOCOL, Negotiator
from sockade.doors.refusals import origin_of, record_refusal, refusal_response
from sockade.doors.turns import Turns
from sockade.doors.websocket import Ledger, WebSocketDoor
from sockade.guard.admit import Counts, Quotas, admit
from sockade.guard.handshake import Admit, Refuse
from sockade.guard.identity import NOBODY, Carrier
from sockade.guard.screen import screen
from sockade.messaging.connection import Connection
from sockade.protocol.events import Event
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sockade.clock import Clock
    from sockade.guard.handshake import Handshake
    from sockade.guard.identity import Identity
    from sockade.guard.policy import Policy
    from sockade.identity.authority import Authority
    from sockade.messaging.application import Sockade
    from sockade.messaging.hub import Hub
    from sockade.protocol.events import AuditLog
    from sockade.settings import LimitSettings

FIRST_MESSAGE_BYTES = 4_096
"""The longest message of who has not said yet who they are."""
WAITING_BYTES = 65_536
"""How much of what is sent may wait in the transport before that counts as not taken. With TLS the loops let half a
megabyte wait, and a peer that reads nothing would stay until it answers no ping."""

logger = logging.getLogger("sockade.websockets")


class Admission:
    """Decides upgrade requests, and opens the connections that are admitted."""

    def __init__(
        self,
        policy: Policy,
        limits: LimitSettings,
        application: Sockade,
        authority: Authority,
        hub: Hub,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._application = application
        self._authority = authority
        self._hub = hub
        self._audit = audit
        self._clock = clock
        self._limiter = hub.limiter
        self._quotas = Quotas(user=limits.connections_per_user, total=limits.connections)
        self._ledger = Ledger(Heads(limits.message_bytes), Turns(hub))
        self._negotiator = Negotiator(compression=limits.compression)
        self.draining = False

    async def decide(self, handshake: Handshake) -> Admit | Refuse:
        """Return whether a handshake may become a connection."""
        try:
            if self.draining:
                return Refuse(Reason.DRAINING, "the server is stopping", retry_after=1)
            refusal = self._limiter.judge_address(handshake.address, self._clock.monotonic())
            if refusal is not None:
                return refusal
            credential = screen(handshake, self._policy)
            if isinstance(credential, Refuse):
                return credential
            identity = await self._authority.verify(credential, origin=handshake.head.one("origin"))
            if isinstance(identity, Refuse):
                return identity
        except Exception:
            logger.exception("admission failed; refusing %s", handshake.id)
            return Refuse(Reason.INTERNAL, "admission failed")
        # From here to `open` nothing awaits: the counts still hold when the connection is registered.
        if identity.session is not None and self._authority.is_ended(identity.session):
            return Refuse(Reason.REVOKED, "ended while it was verified")
        if credential.carrier is Carrier.FIRST_MESSAGE:
            # Whose connection it is one more of, is not known yet: `_confirm` asks.
            everybody = Counts(user=0, total=len(self._hub.connections))
            return admit(handshake, identity, self._clock.wall(), everybody, self._quotas)
        return self._admit(handshake, identity)

    def _admit(self, handshake: Handshake, identity: Identity) -> Admit | Refuse:
        """Apply what depends on the user: bans and quotas."""
        refusal = self._limiter.judge_user(identity.user, self._clock.monotonic())
        return refusal or admit(handshake, identity, self._clock.wall(), self._hub.counts(identity.user), self._quotas)

    def _confirm(
        self,
        connection: Connection,
        door: WebSocketDoor,
        handshake: Handshake,
        entered: Callable[[], None],
        identity: Identity,
    ) -> Identity | Refuse:
        """Admit a connection whose first message proved an identity: what is otherwise decided before the 101."""
        if identity.session is not None and self._authority.is_ended(identity.session):
            return Refuse(Reason.REVOKED, "ended while it was verified")
        decision = self._admit(handshake, identity)
        if isinstance(decision, Refuse):
            record_refusal(self._audit, decision, handshake.id, handshake.address, origin_of(handshake))
            return decision
        connection.confirm = None
        connection.standing = self._limiter.standing(identity.user, self._clock.monotonic())
        door.allow(self._limits.message_bytes)
        self._hub.identify(connection, identity)
        self._entered(connection, handshake, entered)
        return identity

    def _entered(self, connection: Connection, handshake: Handshake, entered: Callable[[], None]) -> None:
        """Note that somebody is in: who it is, is known by now."""
        entered()
        self._audit.record(
            Event.CONNECTION_OPENED,
            connection=handshake.id,
            address=handshake.address,
            origin=origin_of(handshake),
            user=connection.identity.user,
            session=connection.identity.session or "",
            detail=handshake.head.path,
        )

    def refuse(self, transport: asyncio.Transport, handshake: Handshake, refusal: Refuse) -> None:
        """Answer with the refusal, log it, and end the TCP connection."""
        record_refusal(self._audit, refusal, handshake.id, handshake.address, origin_of(handshake))
        transport.write(refusal_response(refusal, handshake.id))
        transport.close()

    def open(
        self,
        transport: asyncio.Transport,
        handshake: Handshake,
        admitted: Admit,
        entered: Callable[[], None],
        gone: Callable[[], None],
    ) -> WebSocketDoor | Refuse:
        """Send the 101 and register the connection.

        `entered` is called when it is known who it is, now or with the first message; `gone` when its TCP connection
        has ended.
        """
        head = handshake.head
        try:
            agreement = self._negotiator.agree(head)
        except InvalidHandshake:
            return Refuse(Reason.BAD_REQUEST, "malformed offers of subprotocols or extensions")
        except Exception:
            logger.exception("negotiation failed; refusing %s", handshake.id)
            return Refuse(Reason.INTERNAL, "negotiation failed")
        is_known = admitted.identity.user != NOBODY
        most = self._limits.message_bytes if is_known else min(FIRST_MESSAGE_BYTES, self._limits.message_bytes)
        door = WebSocketDoor(transport, agreement.extensions, most, self._limits, self._ledger, gone)
        # The lifetime counts on the monotonic clock from here: no change of the system's clock moves it.
        lifetime = admitted.expires_at - self._clock.wall()
        connection = Connection(
            handshake.id,
            admitted.identity,
            self._application.endpoints[head.path],
            handshake.address,
            door,
            self._hub,
            self._clock.monotonic() + lifetime,
            controls=agreement.subprotocol == SUBPROTOCOL,
        )
        door.connection = connection
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        transport.write(agreement.response)
        transport.set_protocol(door)
        if is_known:
            self._entered(connection, handshake, entered)
        else:
            connection.confirm = functools.partial(self._confirm, connection, door, handshake, entered)
        self._hub.register(connection)
        return door
