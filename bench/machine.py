"""What it runs on: cores, descriptors, and what a reader of the figures needs to know, without names or paths."""

from __future__ import annotations

import os
import platform
import resource
import ssl
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SERVER_CORE, DRIVER_CORE = 0, 1
OWN = ("uvloop", "aiofastnet", "websockets", "msgspec", "uvicorn")


def pinned(core: int, *words: str | Path) -> list[str]:
    """Return a command that runs on one core, where there is a second one for the other side."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), *map(str, words)]


def raise_descriptors() -> int:
    """Allow as many descriptors as may be had, here and in every process started from here; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def facts() -> dict[str, str]:
    """Return what the figures depend on: the machine's kind and the versions, not its name."""
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {'.'.join(platform.release().split('-')[0].split('.')[:2])}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION.removesuffix(")").partition(" (")[0],
        **{name: installed(name) for name in OWN},
    }


def processor() -> str:
    """Return the processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()} ({platform.machine()})"


def installed(name: str) -> str:
    """Return a package's version, or that it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
