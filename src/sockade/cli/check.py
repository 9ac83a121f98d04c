"""`sockade check`: every problem of the settings at once, and what is weaker than its default."""

import json

import typer

from sockade.cli.options import ConfigOption, DataDirOption, JsonOption
from sockade.cli.streams import printable
from sockade.configuration import judge
from sockade.exposure import weakened

FINDINGS = 1


def check(config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Check the settings without starting; exit status 1 if the server would refuse them."""
    found, settings = judge(config, {"server.data_dir": data_dir})
    weak = weakened(settings) if settings is not None else []
    if as_json:
        typer.echo(json.dumps({"problems": found, "weakened": weak}, indent=2))
    else:
        _tell(found, weak)
    raise typer.Exit(FINDINGS if found else 0)


def _tell(found: list[str], weak: list[str]) -> None:
    for sentence in found:
        typer.echo(f"problem   {printable(sentence)}")
    for sentence in weak:
        typer.echo(f"weakened  {printable(sentence)}")
    if not found:
        typer.echo("The settings are fine.")
