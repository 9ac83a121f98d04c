"""One server process from its start to its end: ports, signals, what the operator is told, chores, and the drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockade.assembly import loop_factory, taken
from sockade.doors.descriptors import make_room, shortage
from sockade.doors.ports import bind
from sockade.errors import SettingsError, StartError
from sockade.exposure import problems
from sockade.identity.api_keys import read_api_key
from sockade.lock import hold
from sockade.messaging.hub import SWEEP_SECONDS
from sockade.protocol.codes import CloseCode
from sockade.protocol.events import Event
from sockade.server import Administration, Server
from sockade.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from sockade.messaging.application import Sockade
    from sockade.settings import Settings

INTERRUPTED = 130
"""128 + SIGINT: what shells expect of a program that was interrupted."""
END_SECONDS = 15.0
"""How long the process may take to end once everyone has had their time; closing the databases takes the most."""
TROUBLE_SECONDS = 60.0
"""How often the log says that a chore still fails."""

logger = logging.getLogger("sockade.server")


@dataclass(frozen=True, slots=True)
class Started:
    """What the operator is told once the port is open."""

    url: str
    pages: bool
    """Whether a browser finds a page there: the built-in chat's, and no other application's."""
    endpoints: tuple[str, ...]
    """The addresses that clients connect to."""
    link: str | None
    """A sign-in link, where there is a page to open it and nobody could sign in with a password."""
    api: str | None
    """The address of the server API, where there is a key for it."""
    data_dir: Path
    protected: tuple[str, ...]
    weakened: tuple[str, ...]
    local_ca: bool


def run(settings: Settings, application: Sockade | None, announce: Callable[[Started], None]) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status; without an application, the built-in chat.

    Raises:
        StartError: the settings are refused, or a port, certificate or database cannot be had, or another server has
            the data directory.
    """
    if found := problems(settings):
        raise SettingsError(found)
    if short := shortage(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        raise StartError(short)
    key = read_api_key(settings.api_key_path)
    with ExitStack() as stack:
        stack.enter_context(hold(settings.server.data_dir))
        sockets = taken(stack, bind(settings.server.host, settings.server.port))
        make_room(sockets[0], settings.limits.connections + settings.limits.unauthenticated)
        administration = None
        if key is not None:
            admin = settings.admin
            administration = Administration(key, taken(stack, bind(admin.host, admin.port, "admin")))
        process = Process(Server(settings, application, sockets, administration))
        stack.callback(process.watchdog.stop)
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory(settings)))
        return runner.run(process.serve(announce))


class Process:
    """A server while it runs, and when it ends."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.watchdog = Watchdog()
        self.status = 0

    async def serve(self, announce: Callable[[Started], None]) -> int:
        """Provision, serve until told to stop, and drain; return the exit status."""
        server = self.server
        self.loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        # Before anything is begun: what asyncio itself does on a second interrupt leaves threads without their loop.
        self.loop.add_signal_handler(signal.SIGTERM, stop.set)
        self.loop.add_signal_handler(signal.SIGINT, self.interrupt, stop)
        async with AsyncExitStack() as stack:
            if not await unless(stop, server.provision(stack)):
                return self.status
            self.loop.add_signal_handler(signal.SIGHUP, server.reloading.hurry)
            server.listen()
            server.audit.record(Event.STARTUP, detail=f"port {server.port}")
            announce(await self.started())
            # What is there by now stays: it need not be looked through each time the collector looks for circles.
            gc.collect()
            gc.freeze()
            tasks = [*self.keep_house(), asyncio.create_task(server.reloading.run())]
            await stop.wait()
            self.watchdog.start(server.settings.server.drain_seconds + END_SECONDS, self.loop, lambda: self.status)
            for task in tasks:
                task.cancel()
            await self.drain()
        return self.status

    def interrupt(self, stop: asyncio.Event) -> None:
        """Stop on Ctrl-C, and at once on the second."""
        if stop.is_set():
            for listener in self.server.listeners:
                listener.drop_all()
        self.status = INTERRUPTED
        stop.set()

    async def started(self) -> Started:
        """Return what the operator is told."""
        server = self.server
        link = None
        # The store is asked in any case: its connections are open before there is anybody who would wait for them.
        if await server.authority.needs_first_link() and server.pages:
            secret, _ = await server.authority.create_link(role="admin")
            link = f"{server.url}/#link={secret.reveal()}"
        limits = server.settings.limits
        return Started(
            url=server.url,
            pages=server.pages,
            endpoints=tuple(f"wss{server.url.removeprefix('https')}{path}" for path in sorted(server.policy.paths)),
            link=link,
            api=server.api_url,
            data_dir=server.settings.server.data_dir,
            protected=(
                "TLS 1.2 and 1.3",
                f"{', '.join(sorted(server.policy.carriers))} verified before the socket opens",
                "origin and host checked",
                f"at most {limits.connections_per_address} connections an address",
            ),
            weakened=server.weakened,
            local_ca=server.tls.pair.authority is not None,
        )

    def keep_house(self) -> list[asyncio.Task[None]]:
        """Begin what is done once a second. None of it waits for another: a disk that hangs holds up no deadline."""
        server = self.server
        chores: list[tuple[Callable[[], Awaitable[None] | None], str]] = [
            (server.hub.sweep, "cannot look at the deadlines of connections"),
            (server.authority.poll, "cannot look for ended sessions"),
            (server.database.mend, "cannot try the database again"),
        ]
        if server.node is not None:
            chores.append((server.node.sweep, "cannot look after channels"))
            chores.append((server.node.look_at_tops, "cannot look at the tops of channels"))
        return [asyncio.create_task(repeat(chore, trouble)) for chore, trouble in chores]

    async def drain(self) -> None:
        """Take nothing new, tell everyone to come back later, and wait for them within the limit."""
        server = self.server
        server.draining = server.admission.draining = True
        for listener in server.listeners:
            listener.stop()
        for connection in list(server.http_state.connections):
            connection.shutdown()
        seconds = server.settings.server.drain_seconds
        end = self.loop.time() + seconds
        await server.hub.drain(CloseCode.SERVICE_RESTART, "the server is restarting", seconds * 0.9)
        for listener in server.listeners:
            await listener.wait_empty(end - self.loop.time())
            listener.drop_all()
        await asyncio.sleep(0)
        server.audit.record(Event.SHUTDOWN)
        server.audit.flush()


async def unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do some work, and tell whether it was done; where `stop` is set before that, it is cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return False
    working.result()
    return True


async def repeat(chore: Callable[[], Awaitable[None] | None], trouble: str) -> None:
    """Do something once a second, and go on when it failed; the log says why, and again while it goes on failing."""
    told, tell_at = "", 0.0
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            done = chore()
            if done is not None:
                await done
            told = ""
        except Exception as error:
            # A traceback each second would fill the disk, which may be what is wrong.
            reason, now = repr(error), asyncio.get_running_loop().time()
            if reason != told or now >= tell_at:
                told, tell_at = reason, now + TROUBLE_SECONDS
                logger.exception(trouble)
