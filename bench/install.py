"""Installs the other servers into `.bench/`, which git ignores; they never become dependencies of Sockade.

Each kind is installed once, by the ordinary client of its registry, at the version named here; packages that Sockade
stands on too have the version that Sockade has. What was installed is written into the results. What cannot be
installed raises AbsentError with its reason, which the table shows in the server's place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.machine import installed as own

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".bench"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE_MODULES = FOLDER / "node_modules"
CENTRIFUGO = FOLDER / "bin" / "centrifugo"
CENTRIFUGO_MODULE = "github.com/centrifugal/centrifugo/v6@v6.9.1"
PIP = ("socketify==0.0.31", "picows==2.3.1", "py-spy==0.4.3", "uvicorn[standard]")
SHARED = ("starlette", "uvicorn", "websockets", "uvloop", "aiofastnet", "httptools")
NPM = ("ws@8.23.0", "socket.io@4.8.4")
SECONDS = 1_800
SHOWN = ("socketify", "picows", "starlette", "uvicorn", "node", "ws", "socket.io", "centrifugo")
"""Whose versions stand in the results."""


class AbsentError(Exception):
    """A server that cannot be had here; the message says why in a few words."""


def c_program(name: str) -> Path:
    """Compile a C program of the benchmark, unless it is newer than its sources."""
    sources = sorted((HERE / name).glob("*.c"))
    program = FOLDER / "bin" / name
    newest = max(file.stat().st_mtime for file in (HERE / name).iterdir())
    if program.exists() and program.stat().st_mtime > newest:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    need("cc", "a C compiler")
    try:
        run("cc", "-O2", "-o", program, *sources, "-lssl", "-lcrypto")
    except AbsentError as error:
        raise AbsentError(f"{name} does not compile; OpenSSL's headers (libssl-dev) are needed: {error}") from None
    return program


def python_packages() -> dict[str, str]:
    """Install the Python servers into an environment of their own; return name and version of each."""
    mark = FOLDER / "python" / ".installed"
    wanted = [*PIP, *(f"{name}=={own(name)}" for name in SHARED if own(name) != "not installed")]
    if not mark.exists() or mark.read_text() != repr(wanted):
        print("Installing the other servers into .bench/, once ...", file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", "--clear", FOLDER / "python")
        run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *wanted)
        mark.write_text(repr(wanted))
    listed = json.loads(run(PYTHON, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
    return {package["name"].lower(): package["version"] for package in listed}


def node_packages() -> dict[str, str]:
    """Install the Node servers; return name and version of each."""
    need("node", "Node")
    need("npm", "npm")
    mark = NODE_MODULES / ".installed"
    if not mark.exists() or mark.read_text() != repr(NPM):
        run("npm", "install", "--prefix", FOLDER, "--no-save", "--no-audit", "--no-fund", "--loglevel", "error", *NPM)
        mark.write_text(repr(NPM))
    found = {"node": run("node", "--version").strip().removeprefix("v")}
    for name in ("ws", "socket.io"):
        found[name] = json.loads((NODE_MODULES / name / "package.json").read_text())["version"]
    return found


def centrifugo() -> dict[str, str]:
    """Build Centrifugo, which takes a few minutes the first time; return its version."""
    if not CENTRIFUGO.exists():
        need("go", "Go")
        print("Building Centrifugo, once; that takes some minutes ...", file=sys.stderr, flush=True)
        run("go", "install", CENTRIFUGO_MODULE, GOBIN=str(CENTRIFUGO.parent))
    told = run("go", "version", "-m", CENTRIFUGO) if shutil.which("go") else ""
    found = re.search(r"^\s+mod\s+\S+centrifugo\S*\s+v?(\S+)", told, re.MULTILINE)
    return {"centrifugo": found[1] if found else CENTRIFUGO_MODULE.rpartition("@v")[2]}


def need(program: str, what: str) -> None:
    if shutil.which(program) is None:
        raise AbsentError(f"{what} is not installed")


def run(*words: str | Path, **environment: str) -> str:
    """Run a program and return what it wrote; AbsentError with the last line of its complaint if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(f"{Path(words[0]).name}: {type(error).__name__}") from None
    if done.returncode:
        raise AbsentError(f"{Path(words[0]).name} failed: {told(done.stderr)}")
    return done.stdout


def told(text: str) -> str:
    """Return the last line of a complaint, without the paths and addresses of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = re.sub(r"(https?://\S+|(?<!\w)/\S+/)", "", lines[-1]) if lines else "no reason given"
    return line[:160].strip()
