"""`sockade init`: a settings file to start from, the data directory, its local certificate and the API key."""

import json
from pathlib import Path

import typer

from sockade.cli.options import ConfigOption, DataDirOption
from sockade.clock import SystemClock
from sockade.configuration import CONFIG_NAME, load
from sockade.doors.certificates import pair_for
from sockade.errors import SettingsError
from sockade.exposure import problems
from sockade.identity.api_keys import make_api_key

TEMPLATE = """\
# Settings of Sockade. Every line left out or commented out has the safe default shown.
# `sockade check` tells what is wrong; environment variables (SOCKADE_SERVER__PORT) come before this file.

[server]
# host = "127.0.0.1"      # off loopback a certificate is required
# port = 8443
{data_dir}
# names = ["chat.example.com"]

[tls]
# certificate = "fullchain.pem"
# key = "privkey.pem"

[origins]
# allowed = ["https://app.example.com"]   # pages of other origins that may connect

[admin]
# port = 8444             # the server API, for backends that have the key in the data directory's api.key

[log]
# level = "info"
"""


def init(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Write a settings file, and make the data directory with its local certificate and an API key."""
    path = config or Path(CONFIG_NAME)
    if path.exists():
        typer.echo(f"{path} is there already and stays as it is.")
    else:
        # The file's own folder is where its relative paths start.
        chosen = f"data_dir = {_quoted(data_dir.absolute())}" if data_dir else '# data_dir = ".sockade"'
        _write(path, TEMPLATE.format(data_dir=chosen).encode())
        typer.echo(f"{path} written.")
    settings = load(path, {"server.data_dir": data_dir})
    if found := problems(settings):
        raise SettingsError(found)
    pair = pair_for(settings, SystemClock().wall())
    settings.server.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    typer.echo(f"Data directory {settings.server.data_dir} is ready, with the certificate {pair.certificate}.")
    if settings.admin.api_key_file is None and make_api_key(settings.api_key_path, SystemClock().secret()):
        typer.echo(f"API key for backends written to {settings.api_key_path}, readable by you alone.")
    typer.echo("Next: sockade user add NAME, then sockade serve.")


def _quoted(path: Path) -> str:
    # A text of JSON is one of TOML, which has DEL escaped as well.
    return json.dumps(str(path), ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(path: Path, content: bytes) -> None:
    """Write a new file, as a whole or not at all: half of one would stay as it is the next time."""
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            path.unlink()
            raise
