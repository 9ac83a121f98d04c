"""`sockade cert`: show the certificates, make them trusted, renew the local one."""

from pathlib import Path

import typer

from sockade.cli.options import ConfigOption, DataDirOption, settings_from
from sockade.clock import SystemClock
from sockade.doors.certificates import (
    CA_NAME,
    Description,
    Pair,
    describe,
    ensure_local_pair,
    local_pair,
    names_of,
    trust_commands,
    uses_local_pair,
)
from sockade.errors import StartError, UsageError
from sockade.settings import Settings

app = typer.Typer(name="cert", help="Show, trust and renew certificates.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show the certificates in use, and the local CA."""
    settings = settings_from(config, data_dir)
    if settings.tls.certificate is not None:
        _tell(settings.tls.certificate, describe(settings.tls.certificate))
    if not uses_local_pair(settings):
        return
    pair = local_pair(settings.server.data_dir)
    if not pair.certificate.exists():
        raise StartError("There is no local certificate yet: run sockade init or sockade serve.")
    for path in (pair.certificate, pair.authority):
        if path is not None:
            _tell(path, describe(path))


@app.command()
def trust(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show the commands that make this machine trust the local CA."""
    settings = settings_from(config, data_dir)
    _local(settings)
    authority = settings.server.data_dir / CA_NAME
    typer.echo(f"The local CA is {authority.absolute()}; it can vouch for this machine's names alone.")
    typer.echo("Run the command for your system:\n")
    for where, command in trust_commands(authority):
        typer.echo(f"{where}:\n    {command}")
    typer.echo("\nFirefox: Settings, Certificates, Authorities, Import.")
    typer.echo(f"One command only: curl --cacert {authority} …")


@app.command()
def renew(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Make the local certificate anew; the CA, and the trust in it, stays."""
    settings = settings_from(config, data_dir)
    pair = _local(settings, renew=True)
    _tell(pair.certificate, describe(pair.certificate))


def _local(settings: Settings, *, renew: bool = False) -> Pair:
    if not uses_local_pair(settings):
        raise UsageError("tls.certificate is set, so there is no local certificate: see to it where it came from.")
    return ensure_local_pair(settings.server.data_dir, names_of(settings), SystemClock().wall(), renew=renew)


def _tell(path: Path, found: Description) -> None:
    typer.echo(str(path))
    for label, text in (
        ("subject", found.subject),
        ("issuer", found.issuer),
        ("names", ", ".join(found.names) or "none"),
        ("valid", f"{found.not_before:%Y-%m-%d %H:%M} to {found.not_after:%Y-%m-%d %H:%M} UTC"),
        ("sha-256", found.sha256),
    ):
        typer.echo(f"  {label:<8} {text}")
