"""The application that Sockade serves in the benchmark: what the other servers do, and no more."""

from __future__ import annotations

from sockade import Connection, Sockade

app = Sockade()


@app.endpoint("/")
class FanOut:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.broadcast(message)


@app.endpoint("/echo")
class Echo:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.send(message)
