"""`sockade`: what an error means for the exit status.

0 fine; 1 findings; 2 usage; 3 could not start; 130 interrupted. A mistake is told in one sentence on standard error,
never as a traceback.
"""

import signal
import sys

from sockade.cli.streams import open_standard_streams, printable
from sockade.errors import SettingsError, SockadeError, UsageError

USAGE = 2
NOT_STARTED = 3
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; without `arguments` those of the process, which then ends."""
    status = _run(arguments)
    if status == INTERRUPTED and arguments is None:
        # A second Ctrl-C would end the process as if nobody had heard the first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def _run(arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    try:
        open_standard_streams()
        if words[:1] == ["serve"]:
            # It asks a server to read its files again; one that is starting reads them anyway. Not SIG_IGN, which
            # programs started by application code would inherit.
            signal.signal(signal.SIGHUP, lambda _number, _frame: None)
        # They take a moment to import, in which an interrupt is to be one like any other.
        from sockade.cli.commands import app

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
    except UnicodeEncodeError:
        return _tell(USAGE, "An argument is not text in UTF-8.")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _tell(status: int, *sentences: str) -> int:
    for sentence in sentences:
        print(f"sockade: {printable(sentence)}", file=sys.stderr)  # noqa: T201
    return status
