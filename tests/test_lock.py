import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sockade.errors import StartError
from sockade.lock import hold


def test_a_directory_is_held_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with hold(data):
        assert data.stat().st_mode & 0o777 == 0o700
        with pytest.raises(StartError, match="in use by another server"), hold(data):
            pass
    with hold(data):
        pass


FORKING = """
import os, sys, time
from pathlib import Path
from sockade.lock import hold

with hold(Path(sys.argv[1])):
    if (child := os.fork()) == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
print(child)
"""


def test_a_process_that_was_forked_meanwhile_holds_nothing_afterwards(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKING, tmp_path], stdout=subprocess.PIPE, text=True, check=True)
    try:
        with hold(tmp_path):
            pass
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"cannot be used \(.*\): mend"), hold(tmp_path / "file"):
        pass
