"""Finds the application that MODULE:APP names, or says in one sentence why it cannot."""

import importlib
import operator
import os
import sys
import traceback
from pathlib import Path, PurePath
from types import ModuleType

import sockade
from sockade import Sockade
from sockade.errors import UsageError

OUR_OWN = ("<", f"{Path(sockade.__file__).parent}{os.sep}")
"""Where frames are that say nothing of what is wrong with an application."""


def load_application(target: str) -> Sockade:
    """Import MODULE, with the working directory first on the path, and return APP.

    Raises UsageError with one sentence that says what to do.
    """
    name, _, attribute = target.partition(":")
    if name.endswith(".py"):
        file = PurePath(name)
        is_elsewhere = file.is_absolute() or ".." in file.parts
        meant = file.stem if is_elsewhere else ".".join(file.with_suffix("").parts)
        where = f" in {file.parent}" if is_elsewhere else ""
        raise UsageError(f"{target} names a file: write the module{where}, {meant}:{attribute or 'app'}.")
    if not name or not attribute or name.startswith("."):
        raise UsageError(f"{target!r} does not name an application: write MODULE:APP, such as chat:app.")
    module = _module(name)
    try:
        found = operator.attrgetter(attribute)(module)
    except AttributeError:
        known = [key for key, value in vars(module).items() if isinstance(value, Sockade)]
        hint = f"did you mean {name}:{known[0]}?" if known else "assign one, such as `app = Sockade()`."
        raise UsageError(f"The module {name} has no {attribute}: {hint}") from None
    if not isinstance(found, Sockade):
        raise UsageError(f"{target} is a {type(found).__name__}: name an instance of sockade.Sockade.")
    return found


def _module(name: str) -> ModuleType:
    if (folder := os.getcwd()) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(f"There is no module {missing} in {folder} or among the installed packages.") from None
        raise UsageError(f"The module {name} needs {missing}, which is not installed.") from None
    except (Exception, SystemExit) as error:  # SystemExit would end this program without a word, and as if it were ours
        raise UsageError(f"The module {name} cannot be imported: {_told(error)}.") from error


def _told(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    if not isinstance(error, UsageError):  # whose sentences stand by themselves
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(OUR_OWN)]
    if frames and not isinstance(error, SyntaxError):
        text += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return text
