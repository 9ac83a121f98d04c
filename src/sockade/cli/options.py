"""The options that several commands take, and the settings they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from sockade.configuration import load
from sockade.settings import Settings


def _path(text: str) -> Path:
    """Return the path that an option names. To Python the empty one is the working directory, which nobody named."""
    if not text:
        raise typer.BadParameter("it is empty: name a file or folder.")
    return Path(text)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", parser=_path, metavar="FILE", help="Settings file; without it ./sockade.toml if it is there."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", parser=_path, metavar="DIR", help="Where users, keys and the local certificate are kept."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def settings_from(config: Path | None, data_dir: Path | None) -> Settings:
    """Return the settings for a command that takes these two options. Raises SettingsError."""
    return load(config, {"server.data_dir": data_dir})
