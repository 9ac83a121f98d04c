"""The options that several commands take, and the settings they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from sockade.configuration import load
from sockade.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; without it ./sockade.toml if it is there."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Where users, keys and the local certificate are kept."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def settings_from(config: Path | None, data_dir: Path | None) -> Settings:
    """Return the settings for a command that takes these two options. Raises SettingsError."""
    return load(config, {"server.data_dir": data_dir})
