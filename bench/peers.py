"""Which servers are measured, how each is started, and how its clients speak.

Everyone has its own defaults, without compression. Sockade has every check on; its limits are raised as far as one
address with so many clients needs, and no further.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import install
from bench.servers import Server, hs256_token, sockade_token

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SERVERS = HERE / "servers"
SECRET = "only the benchmark's own clients know it"
CHANNELS = "/connection/websocket"

ROOMY = """
[limits]
connections = 30000
connections_per_address = 30000
connections_per_user = 30000
handshakes_per_minute = 10000000
messages_per_second = 1000000
message_burst = 1000000
message_bytes_per_second = 1000000000
message_bytes_burst = 1000000000
total_messages_per_second = 10000000
user_factor = 1000
[credentials]
access_token_seconds = 900
"""
# One user for all: what a user's connections share must not be what is measured.
STRICT = """
[limits]
connections_per_address = 30000
connections_per_user = 30000
handshakes_per_minute = 10000000
user_factor = 1000
[credentials]
access_token_seconds = 900
"""


@dataclass(frozen=True)
class Peer:
    """One server: `command` returns the words that start it, `prepare` installs it and returns versions."""

    name: str
    command: Callable[[Server], list[str | Path]]
    prepare: Callable[[], dict[str, str]] = dict
    token: Callable[[Server], str] | None = None
    paths: dict[str, str] = field(default_factory=lambda: {"fanout": "/", "echo": "/echo", "room": "/room/"})
    options: dict[str, str | int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""


def script(interpreter: str | Path, name: str) -> Callable[[Server], list[str | Path]]:
    """Return how a script of `servers/` is started: PORT CERTIFICATE KEY."""
    return lambda server: [interpreter, SERVERS / name, str(server.port), server.certificate, server.certificate]


def floor_command(server: Server) -> list[str | Path]:
    return [install.c_program("floor"), str(server.port), server.certificate, server.certificate]


def sockade_command(server: Server, settings: str, config: str, program: list[str | Path]) -> list[str | Path]:
    """Return how Sockade is started, with `settings` in its table `[server]`."""
    file = server.folder / "sockade.toml"
    file.write_text(f"[server]\n{settings}\n{config}")
    serve = ["serve", "sockade_app:app", "--config", file, "--data-dir", server.folder / "data"]
    return [sys.executable, *program, *serve, "--port", str(server.port)]


def sockade(name: str, settings: str = "", config: str = ROOMY, program: list[str | Path] | None = None) -> Peer:
    """Return Sockade under a name, with other settings."""
    return Peer(
        name,
        lambda server: sockade_command(server, settings, config, program or ["-m", "sockade"]),
        token=sockade_token,
        environment={"PYTHONPATH": os.pathsep.join(filter(None, (str(SERVERS), os.environ.get("PYTHONPATH", ""))))},
    )


def centrifugo_command(server: Server) -> list[str | Path]:
    allowed = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
    history = {"history_size": 100, "history_ttl": "300s"}
    config = {
        "http_server": {
            "address": "127.0.0.1",
            "port": server.port,
            "tls": {"enabled": True, "cert_pem": str(server.certificate), "key_pem": str(server.certificate)},
        },
        "client": {"token": {"hmac_secret_key": SECRET}},
        "channel": {"namespaces": [{"name": "plain", **allowed}, {"name": "memory", **allowed, **history}]},
    }
    file = server.folder / "config.json"
    file.write_text(json.dumps(config))
    return [install.CENTRIFUGO, "--config", file]


def python(name: str, file: str, note: str = "", **options: int) -> Peer:
    return Peer(name, script(install.PYTHON, file), install.python_packages, note=note, options=dict(options))


SOCKET_IO = {name: f"/socket.io/?EIO=4&transport=websocket{query}" for name, query in
             (("fanout", ""), ("echo", "&echo=1"), ("room", "&room="))}  # fmt: skip

FLOOR = Peer("floor", floor_command, note="C, OpenSSL")
PROTOTYPE = Peer("prototype", script(sys.executable, "prototype_server.py"), note="no checks, nothing joined")
SOCKADE = sockade("sockade")
ON_CHANNELS = {"dialect": "channel"}
SOCKADE_CHANNELS = replace(SOCKADE, paths={"fanout": CHANNELS, "publish": CHANNELS}, options=ON_CHANNELS)
CENTRIFUGO = Peer(
    "centrifugo",
    centrifugo_command,
    install.centrifugo,
    token=lambda server: hs256_token(SECRET),
    paths={"fanout": CHANNELS, "publish": CHANNELS},
    options={**ON_CHANNELS, "in_connect": 1},
    note="memory engine",
)
ASYNCIO = sockade("sockade asyncio", 'loop = "asyncio"\nfast = false')
UVLOOP = sockade("sockade uvloop", 'loop = "uvloop"\nfast = false')
LARGE_BUFFERS = sockade("sockade large buffers", "read_buffer_bytes = 17000\nwrite_buffer_bytes = 17000")
UNGUARDED = sockade("sockade message checks off", program=[SERVERS / "unguarded.py"])
STRICT_SOCKADE = sockade("sockade default rates", config=STRICT)

# Its `publish` reaches the sender as well.
UWEBSOCKETS = python("uWebSockets", "socketify_server.py", "socketify", to_sender=1)
PICOWS = python("picows", "picows_server.py")
WS = Peer("ws", script("node", "ws_server.cjs"), install.node_packages, note="Node",
          environment={"NODE_PATH": str(install.NODE_MODULES)})  # fmt: skip
PLAIN = [
    FLOOR,
    PROTOTYPE,
    SOCKADE,
    UWEBSOCKETS,
    PICOWS,
    WS,
    Peer("socket.io", script("node", "socketio_server.cjs"), install.node_packages, note="Node",
         paths=SOCKET_IO, options={"dialect": "socketio"}, environment={"NODE_PATH": str(install.NODE_MODULES)}),
    python("websockets", "websockets_server.py"),
    python("starlette", "starlette_server.py", "uvicorn"),
]  # fmt: skip
EVERYONE = [*PLAIN, CENTRIFUGO, ASYNCIO, UVLOOP, LARGE_BUFFERS, UNGUARDED, STRICT_SOCKADE]
