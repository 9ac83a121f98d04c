"""What `sockade serve` says once it listens: at most 12 lines, in colour on a terminal."""

import textwrap
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.text import Text

from sockade.cli.streams import printable

if TYPE_CHECKING:
    from sockade.process import Started

WIDTH = 100
LABEL = 11
MOST_LINES = 12
STYLES = {"Open": "bold cyan", "Connect": "bold cyan", "Sign in": "bold cyan", "Weakened": "yellow"}


def show(started: "Started", stream: TextIO, *, command: str = "sockade", options: str = "") -> None:
    """Write the panel.

    `command` is what runs Sockade from here; `options` lead its commands to the same data.
    """
    rows = [(label, printable(text)) for label, text in panel(started, command, options)]
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        for label, text in rows:
            style = STYLES.get(label, "") if label != "Weakened" or started.weakened else ""
            # Unwrapped, so that a link stays one link.
            console.print(Text.assemble((f"{label:<{LABEL}}", "dim"), (text, style)), soft_wrap=True)
    else:
        stream.writelines(f"{label:<{LABEL}}{text}".rstrip() + "\n" for label, text in rows)
    stream.flush()


def panel(started: "Started", command: str, options: str) -> list[tuple[str, str]]:
    """Return (label, text) for each line."""
    rows = [("Sockade", f"is listening at {started.url}. Ctrl-C stops it.")]
    if started.pages:
        rows.append(("Open", started.url))
    else:
        rows += _list("Connect", " ".join(started.endpoints), 2, rest="…")
    if started.link:
        rows.append(("Sign in", started.link))
    rows.append(("Data", str(started.data_dir)))
    if started.api:
        rows.append(("Server API", started.api))
    rows += _list("Protected", ", ".join(started.protected), 2)
    rows += _list("Weakened", " ".join(started.weakened) or "nothing", 3)
    if started.local_ca:
        rows.append(("Trust", f"browsers warn until they know the local CA: {command} cert trust{options}"))
    # Without a page nobody is handed a cookie: clients show a token.
    token = "" if started.pages else f", then {command} token new NAME{options}"
    rows.append(("Next", f"{command} user add NAME{options}{token}"))
    return rows


def _list(label: str, text: str, most: int, rest: str = "… (sockade check shows all)") -> list[tuple[str, str]]:
    lines = textwrap.wrap(
        text,
        WIDTH - LABEL,
        max_lines=most,
        placeholder=f" {rest}",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [(label if number == 0 else "", line) for number, line in enumerate(lines)]
