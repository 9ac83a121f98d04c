"""TOML text into the settings: they load and can be judged, or every problem is a sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fuzz.inputs import Found, mutate_text
from sockade.configuration import KEYS, load
from sockade.errors import SettingsError
from sockade.exposure import problems, weakened
from sockade.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

VALUES = [
    "1", "-1", "0", "1e999", "nan", "true", '""', '"x"', '"*"', "[]", '["*"]', '["https://a.example"]', "{}", "{a=1}",
    '["10.0.0.0/8"]', '["10.0.0.1/8"]', '["0.0.0.0/0"]', '"0.0.0.0"', '"::1"', "99999999999999999999", '"a/b"',
    "1979-05-27", "[[1]]", "'\\u0000'", '"\\u0000"', '"\\u202e"', "[1, 'a', {}]", '"none"', '"https://a.example/x"',
]  # fmt: skip
DEFAULTS = {
    key: json.dumps(default)
    for key in KEYS
    if isinstance(
        default := getattr(getattr(Settings(), key.partition(".")[0]), key.partition(".")[2], None),
        bool | int | float | str,
    )
}
TOKENS = ["[", "]", "=", '"', "'", "\n", "#", ".", "[server]", "[[server]]", "[limits]\n", '"""', "\\u", "server.port"]


def generate(random: Random) -> str:
    """Return a file's text."""
    lines = []
    for key in random.sample(KEYS, random.randrange(1, 8)):
        table, _, name = key.partition(".")
        if random.random() < 0.1:
            name = mutate_text(random, name)
        default = DEFAULTS.get(key)
        value = default if default is not None and random.random() < 0.8 else random.choice(VALUES)
        lines.append(f"[{table}]\n{name} = {value}\n")
    # A table may stand only once: most files should get further than that.
    seen: dict[str, str] = {}
    for line in lines:
        head, _, rest = line.partition("\n")
        seen[head] = seen.get(head, "") + rest
    text = "".join(f"{head}\n{rest}" for head, rest in seen.items())
    return mutate_text(random, text, TOKENS) if random.random() < 0.4 else text


async def run(random: Random, count: int, data_dir: Path) -> int:
    """Try that many files and return how many loaded. Raises Found."""
    loaded = 0
    path = data_dir / "sockade.toml"
    for _ in range(count):
        text = generate(random)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            settings = load(path)
            problems(settings)
            weakened(settings)
            loaded += 1
        except SettingsError as error:
            if not error.problems or any("\n" in problem for problem in error.problems):
                raise Found(f"{text!r}: {error.problems!r}") from error
        except Exception as error:
            raise Found(f"{text!r}: {error!r}") from error
    return loaded
