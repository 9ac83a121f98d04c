"""What clients say on an admitted connection: decoded into commands, or refused with the one error there is for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fuzz.inputs import Found, mutate_text
from sockade.guard.commands import Unclean, read_commands
from sockade.guard.text import clean
from sockade.protocol.codec import DecodeError
from sockade.protocol.commands import METHODS, Command

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

FIELDS = [
    "channel",
    "token",
    "data",
    "recover",
    "epoch",
    "offset",
    "limit",
    "reverse",
    "since",
    "__proto__",
    "id",
    "subs",
]
SCALARS = ["", "room:1", "x" * 300, 0, -1, 1, 2**63, 2**64, 1.5, 1e308, True, None, "\u0000", "\u202e"]
TOKENS = ["{", "}", "[", "]", ",", ":", '"', "NaN", "Infinity", "-", "1e9999", "\\ud800", "[" * 40, '{"a":' * 40, "\n"]


GOOD = [
    '{"id":1,"connect":{"token":"x","name":"js"}}',
    '{"id":2,"subscribe":{"channel":"room:1","recover":true,"offset":7,"epoch":"e"}}',
    '{"id":3,"publish":{"channel":"room:1","data":{"text":"hello"}}}',
    '{"id":4,"history":{"channel":"room:1","limit":10,"reverse":true}}',
    '{"id":5,"presence":{"channel":"room:1"}}',
    '{"id":6,"unsubscribe":{"channel":"room:1"}}',
    '{"id":7,"refresh":{"token":"x"}}',
    '{"send":{"data":[1,2.5,null]}}',
    "{}",
]


def value(random: Random, depth: int = 3) -> object:
    """Return any JSON value."""
    kind = random.random()
    if depth and kind < 0.2:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and kind < 0.4:
        return {random.choice(FIELDS): value(random, depth - 1) for _ in range(random.randrange(4))}
    return random.choice(SCALARS)


def generate(random: Random) -> str:
    """Return one message."""
    lines = []
    for _ in range(random.choice((1, 1, 1, 2, 70))):
        if random.random() < 0.6:
            lines.append(random.choice(GOOD))
            continue
        body = {random.choice(FIELDS): value(random) for _ in range(random.randrange(4))}
        if random.random() < 0.5:
            body = {name: content for name, content in body.items() if name in ("channel", "data") and content}
        command: dict[str, object] = {"id": random.choice([1, 2, 2**32 - 1, 2**32, 0, "1", None])}
        command |= dict.fromkeys(random.sample(METHODS, random.choice((1, 1, 1, 0, 2))), body)
        lines.append(json.dumps(command, ensure_ascii=random.random() < 0.5))
    text = "\n".join(lines)
    return mutate_text(random, text, TOKENS) if random.random() < 0.5 else text


async def run(random: Random, count: int, data_dir: Path) -> int:
    """Try that many messages and return how many held commands. Raises Found."""
    decoded = 0
    for _ in range(count):
        text = generate(random)
        try:
            clean(text)
            commands = read_commands(text)
            assert all(isinstance(command, Command | Unclean) for command in commands)
            decoded += 1
        except DecodeError:
            continue
        except Exception as error:
            raise Found(f"{text!r}: {error!r}") from error
    return decoded
