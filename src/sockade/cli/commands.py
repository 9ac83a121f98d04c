"""The commands of `sockade` together. They are imported by `main`, which says what becomes of an error."""

import typer

from sockade.cli import cert, token, user
from sockade.cli.bench import bench
from sockade.cli.check import check
from sockade.cli.doctor import doctor
from sockade.cli.init import init
from sockade.cli.serve import serve
from sockade.cli.version import version

app = typer.Typer(
    name="sockade",
    help="A secure-by-default real-time server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve)
app.command()(init)
app.command()(check)
app.add_typer(user.app)
app.add_typer(token.app)
app.add_typer(cert.app)
app.command()(doctor)
app.command()(bench)
app.command()(version)
