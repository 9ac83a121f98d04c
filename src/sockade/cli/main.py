"""`sockade`: the commands together, and what an error means for the exit status.

0 fine; 1 findings; 2 usage; 3 could not start; 130 interrupted. A mistake is told in one sentence on standard error,
never as a traceback.
"""

import sys

import typer

from sockade.cli import cert, token, user
from sockade.cli.bench import bench
from sockade.cli.check import check
from sockade.cli.doctor import doctor
from sockade.cli.init import init
from sockade.cli.serve import serve
from sockade.cli.streams import open_standard_streams
from sockade.cli.version import version
from sockade.errors import SettingsError, SockadeError, UsageError

USAGE = 2
NOT_STARTED = 3
INTERRUPTED = 130

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


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    open_standard_streams()
    try:
        app(args=arguments, prog_name="sockade")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except UsageError as error:
        return _tell(USAGE, str(error))
    except SettingsError as error:
        return _tell(NOT_STARTED, *error.problems)
    except SockadeError as error:
        return _tell(NOT_STARTED, str(error))
    except OSError as error:
        return _tell(NOT_STARTED, f"{error.filename or 'The system'} cannot be used ({error.strerror or error}).")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _tell(status: int, *sentences: str) -> int:
    for sentence in sentences:
        print(f"sockade: {sentence}", file=sys.stderr)  # noqa: T201
    return status
