"""`sockade serve`: run the server."""

import logging
import shlex
import shutil
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from sockade.cli import panel
from sockade.cli.application import load_application
from sockade.cli.options import ConfigOption, DataDirOption
from sockade.cli.streams import discard
from sockade.configuration import load

if TYPE_CHECKING:
    from sockade.process import Started


PANEL_SECONDS = 1.0
"""How long the panel may take before the server goes on without it."""


def serve(
    application: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", help="The application; without it the built-in chat.")
    ] = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(metavar="P", help="TCP port.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Serve an application, or the built-in chat."""
    settings = load(config, {"server.host": host, "server.port": port, "server.data_dir": data_dir})
    served = load_application(application) if application else None
    # The server and what it stands on are heavy: the other commands start without them.
    from sockade.process import run
    from sockade.telemetry.logs import set_up

    log = set_up(settings.log)
    options = _options(config, data_dir)
    try:
        status = run(settings, served, lambda started: _announce(started, options))
    finally:
        log.close()
    raise typer.Exit(status)


def _announce(started: "Started", options: str) -> None:
    """Show the panel, from a thread of its own: on a terminal that was stopped, or in a pipe that is full, it waits."""
    showing = Thread(target=_show, args=(started, options), name="sockade-panel", daemon=True)
    showing.start()
    showing.join(PANEL_SECONDS)
    if showing.is_alive():
        logging.getLogger("sockade.server").warning("the start panel waits until standard output is read")


def _show(started: "Started", options: str) -> None:
    try:
        panel.show(started, sys.stdout, command=_command(), options=options)
    except (OSError, UnicodeError) as error:
        # Nobody reads it, or the disk it goes to is full: no reason not to serve.
        logging.getLogger("sockade.server").warning("the start panel cannot be shown: %s", error)
        discard(sys.stdout)


def _command() -> str:
    # `make serve` runs it out of an environment that is not on the path.
    return "sockade" if shutil.which("sockade") else shlex.quote(sys.argv[0])


def _options(config: Path | None, data_dir: Path | None) -> str:
    """Return the options that lead other commands to the same data."""
    given = {"--config": config, "--data-dir": data_dir}
    return "".join(f" {name} {shlex.quote(str(path))}" for name, path in given.items() if path is not None)
