"""`sockade version`: which Sockade this is."""

from importlib.metadata import version as installed

import typer


def version() -> None:
    """Show the version."""
    typer.echo(f"sockade {installed('sockade')}")
