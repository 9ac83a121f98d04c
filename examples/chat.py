"""A broadcast chat: everyone hears everyone else. Run it with `sockade serve examples.chat:app`."""

from sockade import Connection, Sockade

app = Sockade()


@app.endpoint("/")
class Chat:
    async def on_open(self, connection: Connection) -> None:
        connection.broadcast(f"{connection.identity.user} is here")

    async def on_message(self, connection: Connection, message: str) -> None:
        connection.broadcast(message)

    async def on_close(self, connection: Connection) -> None:
        connection.broadcast(f"{connection.identity.user} has left")

    async def on_error(self, connection: Connection, error: Exception) -> None:
        print(f"{connection.identity.user}: {error!r}")
