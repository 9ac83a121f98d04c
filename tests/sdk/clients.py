"""The official SDKs behind one face, so that one test drives each of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    StreamPosition,
    SubscriptionEventHandler,
)
from centrifuge.exceptions import ReplyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.running import RunningServer

HERE = Path(__file__).parent
SECONDS = 30


class SdkError(Exception):
    """A command got an error reply."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Sdk(ABC):
    """One client: commands return what the SDK returned, and its events pile up in `events`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def note(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})
        self._news.set()

    def seen(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the events of a kind with these fields."""
        wanted = {"event": event, **fields}.items()
        return [one for one in self.events if all(one.get(key) == value for key, value in wanted)]

    async def wait(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until so many events of a kind have come, and return the last of them."""
        try:
            async with asyncio.timeout(SECONDS):
                while len(found := self.seen(event, **fields)) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {event} {fields} among {self.events}") from None
        return found[count - 1]

    def heard(self, channel: str) -> list[Any]:
        """Return the data of every publication of a channel so far."""
        return [one["data"] for one in self.seen("publication", channel=channel)]

    @abstractmethod
    async def start(self) -> None:
        """Be ready to connect at once: what begins with a token of seconds has none to spare for a process."""

    @abstractmethod
    async def open(self, **options: Any) -> None: ...

    @abstractmethod
    async def subscribe(self, channel: str, **options: Any) -> None: ...

    @abstractmethod
    async def do(self, what: str, **fields: Any) -> Any: ...

    @abstractmethod
    async def give(self, token: str) -> None: ...

    @abstractmethod
    async def end(self) -> None: ...


class JavaScript(Sdk):
    """`centrifuge` of npm, in a Node process of its own."""

    def __init__(self, server: RunningServer, headers: dict[str, str], path: str = "") -> None:
        super().__init__()
        self._words = [
            "node",
            str(HERE / "client.mjs"),
            f"wss://localhost:{server.port}/connection/websocket{path}",
            str(server.data_dir / "ca.pem"),
            json.dumps(headers),
        ]
        self._given: list[str] = []
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26
        )
        self._reader = asyncio.create_task(self._read())
        await self.do("ready")
        for token in self._given:
            await self.do("give", token=token)

    async def open(self, **options: Any) -> None:
        if not hasattr(self, "_process"):
            await self.start()
        await self.do("open", options=options)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            found = json.loads(line)
            if "event" in found:
                self.note(**found)
            elif "error" in found:
                self._answers.pop(found["id"]).set_exception(SdkError(**found["error"]))
            else:
                self._answers.pop(found["id"]).set_result(found["result"])

    async def subscribe(self, channel: str, **options: Any) -> None:
        await self.do("subscribe", channel=channel, options=options)

    async def do(self, what: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": what, **fields}).encode() + b"\n")
        return await asyncio.wait_for(answer, SECONDS)

    async def give(self, token: str) -> None:
        if hasattr(self, "_process"):
            await self.do("give", token=token)
        else:
            self._given.append(token)

    async def end(self) -> None:
        if hasattr(self, "_process"):
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()
            await self._reader


class Python(Sdk):
    """`centrifuge-python` of PyPI, in this process."""

    def __init__(self, server: RunningServer, headers: dict[str, str], path: str = "") -> None:
        super().__init__()
        self._server = server
        self._headers = headers
        self._path = path
        self._tokens: asyncio.Queue[str] = asyncio.Queue()
        self._subscriptions: dict[str, Any] = {}

    async def start(self) -> None:
        """This process runs already."""

    async def open(self, *, tokens: bool = False, subprotocols: list[str] | None = None, **options: Any) -> None:
        headers = dict(self._headers)
        if subprotocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(subprotocols)
        self._client = Client(
            f"wss://localhost:{self._server.port}/connection/websocket{self._path}",
            events=self._handler(ClientEventHandler, CLIENT_EVENTS),
            headers=headers,
            ssl_context=self._server.tls,
            proxy=None,
            min_reconnect_delay=0.02,
            max_reconnect_delay=0.2,
            **({"get_token": self._token("connection")} if tokens else {}),
            **options,
        )
        await self._client.connect()

    def _token(self, kind: str) -> Callable[..., Awaitable[str]]:
        async def get(channel: str | None = None) -> str:
            self.note("token", kind=kind, channel=channel)
            return await self._tokens.get()

        return get

    def _handler(self, kind: type[Any], events: tuple[str, ...], channel: str | None = None) -> Any:
        """Return a handler that notes each event, as the JavaScript SDK would name and fill it."""

        def noting(event: str) -> Callable[[Any, Any], Awaitable[None]]:
            async def on(_: Any, context: Any) -> None:
                fields = dict(vars(context))
                if "pub" in fields:
                    publication = fields.pop("pub")
                    fields |= {"data": publication.data, "offset": publication.offset}
                    if publication.info is not None:
                        fields["info"] = vars(publication.info)
                elif "info" in fields:
                    fields["info"] = vars(fields["info"])
                names = {"was_recovering": "wasRecovering", "stream_position": "streamPosition"}
                fields = {names.get(name, name): value for name, value in fields.items()}
                self.note(event, **({"channel": channel} if channel is not None else {}) | fields)

            return on

        return type("Handler", (kind,), {f"on_{event}": noting(event) for event in events})()

    async def subscribe(self, channel: str, *, tokens: bool = False, **options: Any) -> None:
        subscription = self._client.new_subscription(
            channel,
            events=self._handler(SubscriptionEventHandler, SUBSCRIPTION_EVENTS, channel),
            min_resubscribe_delay=0.02,
            **({"get_token": self._token("subscription")} if tokens else {}),
            **options,
        )
        self._subscriptions[channel] = subscription
        await subscription.subscribe()

    async def do(self, what: str, **fields: Any) -> Any:
        try:
            return await getattr(self, f"_do_{what}")(**fields)
        except ReplyError as error:
            raise SdkError(error.code, str(error)) from error
        except CentrifugeError as error:
            raise SdkError(0, repr(error)) from error

    async def _do_publish(self, channel: str, data: Any) -> None:
        await self._client.publish(channel, data)

    async def _do_rpc(self, method: str, data: Any) -> dict[str, Any]:
        return vars(await self._client.rpc(method, data))

    async def _do_history(self, channel: str, options: dict[str, Any]) -> dict[str, Any]:
        since = options.pop("since", None)
        found = await self._client.history(channel, since=StreamPosition(**since) if since else None, **options)
        return {**vars(found), "publications": [vars(one) for one in found.publications]}

    async def _do_presence(self, channel: str) -> dict[str, Any]:
        found = await self._client.presence(channel)
        return {"clients": {name: vars(info) for name, info in found.clients.items()}}

    async def _do_presence_stats(self, channel: str) -> dict[str, Any]:
        found = await self._client.presence_stats(channel)
        return {"numClients": found.num_clients, "numUsers": found.num_users}

    async def _do_unsubscribe(self, channel: str) -> None:
        await self._subscriptions[channel].unsubscribe()

    async def _do_again(self, channel: str) -> None:
        await self._subscriptions[channel].subscribe()

    async def _do_cut(self) -> None:
        self._client._conn.transport.abort()

    async def _do_close(self) -> None:
        await self._client.disconnect()

    async def _do_reopen(self) -> None:
        await self._client.connect()

    async def give(self, token: str) -> None:
        self._tokens.put_nowait(token)

    async def end(self) -> None:
        if not hasattr(self, "_client"):
            return
        opening = self._client._open_task
        await self._client.disconnect()
        # The SDK opens and closes connections in tasks that nobody waits for: the test's loop must not end before.
        async with asyncio.timeout(SECONDS):
            while tasks := [task for task in (*self._client._background_tasks, opening) if task and not task.done()]:
                await asyncio.wait(tasks)


CLIENT_EVENTS = (
    "connecting",
    "connected",
    "disconnected",
    "error",
    "subscribing",
    "subscribed",
    "unsubscribed",
    "publication",
    "join",
    "leave",
)
SUBSCRIPTION_EVENTS = ("subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error")
