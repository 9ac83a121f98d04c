"""A server whose disk fails when told to, and what of its file a power cut leaves."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sockade.brokers.sqlite import FILE_NAME
from tests.running import RunningServer

SOURCE = Path(__file__).with_suffix(".c")


def build(folder: Path) -> Path:
    """Compile what stands between the server and the disk."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.fail("the tests of failing disks need Linux and a C compiler: on Debian, apt-get install gcc libc6-dev")
    library = folder / "failing_disk.so"
    words = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{SOURCE.name} does not compile: {done.stderr}")
    return library


class DiskServer(RunningServer):
    """A server process, and the disk under the file of its channels."""

    def __init__(self, folder: Path, library: Path, config: str, app: str, *, module_path: str) -> None:
        super().__init__(folder, config, app, module_path=module_path)
        self.library = library
        self.file = self.data_dir.resolve() / FILE_NAME
        self.fault = folder / "fault"
        self.copy = folder / "copy"
        self.copy.mkdir()
        self.set_fault("ok")

    @property
    def environment(self) -> dict[str, str]:
        disk = {"LD_PRELOAD": self.library, "DISK_FILE": self.file, "DISK_FAULT": self.fault, "DISK_COPY": self.copy}
        return {**super().environment, **{name: str(value) for name, value in disk.items()}}

    def set_fault(self, word: str) -> None:
        """Let the disk fail in one way, or with `ok` in none."""
        new = self.fault.with_name("fault.new")
        new.write_text(word)
        new.replace(self.fault)

    def cut_power(self) -> None:
        """Kill the process, and leave of its file what had got to the disk."""
        self.stop(signal.SIGKILL)
        for path in self.data_dir.glob(f"{FILE_NAME}*"):
            path.unlink()
        for name, suffix in (("database", ""), ("log", "-wal")):
            if (self.copy / name).exists():
                shutil.copy(self.copy / name, f"{self.file}{suffix}")
