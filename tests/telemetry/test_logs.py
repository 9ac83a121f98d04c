import errno
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sockade.settings import LogSettings
from sockade.telemetry import logs
from sockade.telemetry.escape import UNSAFE, escape
from sockade.telemetry.lines import WAITING_LINES, LineWriter
from sockade.telemetry.redact import redact
from tests.endless import ends

HOSTILE = "a\r\nb\x1b[2J\x00\x7f\x85\u2028\u202e\u200b"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    names = ["", logs.AUDIT, *logs.QUIET, *logs.SILENT]
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    root.setLevel(level)
    structlog.reset_defaults()


def written(stream: io.StringIO, settings: LogSettings, *records: object) -> str:
    logging.getLogger().handlers.clear()  # pytest's own would raise where ours must not.
    writer = logs.set_up(settings, stream)
    for record in records:
        record()  # type: ignore[operator]
    writer.close()
    return stream.getvalue()


def hello() -> None:
    structlog.get_logger("sockade.test").info("hello", who=HOSTILE)


def test_without_a_terminal_each_record_is_one_line_of_json() -> None:
    text = written(io.StringIO(), LogSettings(), hello, hello)
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 2
    assert lines[0]["message"] == "hello"
    assert lines[0]["log.level"] == "info"
    assert lines[0]["log.logger"] == "sockade.test"


def test_times_are_utc_in_iso_format_and_stand_first() -> None:
    (line,) = written(io.StringIO(), LogSettings(), hello).splitlines()
    assert line.startswith('{"@timestamp":')
    moment = json.loads(line)["@timestamp"]
    assert moment.endswith("Z")
    assert datetime.fromisoformat(moment).utcoffset() is not None


def test_a_terminal_gets_readable_lines_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = written(Terminal(), LogSettings(), hello)
    assert "\x1b[" in text
    assert not text.startswith("{")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in written(Terminal(), LogSettings(), hello)


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_format_can_be_chosen(form: str) -> None:
    stream = Terminal() if form == "json" else io.StringIO()
    text = written(stream, LogSettings(format=form), hello)  # type: ignore[arg-type]
    assert text.startswith("{") is (form == "json")
    assert "\x1b" not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_are_escaped_in_every_value_and_name(form: str) -> None:
    """Case 83."""

    def forge() -> None:
        structlog.get_logger("sockade.test").info(HOSTILE, **{HOSTILE: HOSTILE})
        logging.getLogger("uvicorn.error").warning("%s", HOSTILE)

    text = written(io.StringIO(), LogSettings(format=form), forge)  # type: ignore[arg-type]
    assert len(text.splitlines()) == 2
    seen = text
    for line in text.splitlines() if form == "json" else ():
        seen += "".join(f"{name}{value}" for name, value in json.loads(line).items())
    assert UNSAFE.findall(seen.replace("\n", "")) == []
    assert "a\\x0d\\x0ab\\x1b[2J\\x00\\x7f\\x85\\u2028\\u202e\\u200b" in seen


@given(st.text())
def test_escaped_text_is_one_line_whatever_came(text: str) -> None:
    found = escape(text)
    assert not UNSAFE.search(found)
    assert len(found.splitlines()) <= 1
    found.encode()


TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
SECRET = "qA" * 21 + "_"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2hoYXNo"


@pytest.mark.parametrize("shown", [TOKEN, f"ticket.{SECRET}", f"__Host-sockade={SECRET};", HASH, f"{TOKEN[:40]}."])
def test_what_has_the_shape_of_a_credential_is_written_nowhere(shown: str) -> None:
    """Case 82."""

    def leak() -> None:
        structlog.get_logger("sockade.test").info(f"said {shown}", origin=f"https://x/?a={shown}")
        try:
            raise ValueError(shown)
        except ValueError:
            logging.getLogger("sockade.test").exception("failed with %s", shown)

    text = written(io.StringIO(), LogSettings(), leak)
    assert text.count("***") == 4
    assert not any(part in text for part in (TOKEN[22:40], SECRET, "aGFzaGhhc2hoYXNo"))


@pytest.mark.parametrize(
    "text", ["b7Zr8wQk2LmN", "/data/keys/signing.1700000000." + "k" * 43 + ".pem", "ab" * 32, "x" * 44]
)
def test_ids_digests_and_names_of_files_are_no_credentials(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text", ["eyJ" * 500_000, "eyJ" * 500_000 + "." + "a" * 1_000, "$argon2" * 200_000, "x" * 1_500_000]
)
def test_looking_for_credentials_in_a_text_made_of_their_beginnings_comes_to_an_end(text: str) -> None:
    """In steps that grow with the square of the length it would not, while a test waits."""
    with ends():
        assert len(redact(text)) <= len(text)


def test_long_values_are_cut() -> None:
    assert escape("x" * 10_000) == "x" * 512 + "…"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_cannot_forge_a_record(form: str) -> None:
    def fail() -> None:
        try:
            raise ValueError("x\n2026-01-01T00:00:00Z [info ] forged\x1b[2J")
        except ValueError:
            logging.getLogger("sockade.test").exception("failed")

    lines = written(io.StringIO(), LogSettings(format=form), fail).splitlines()  # type: ignore[arg-type]
    assert "\x1b" not in "".join(lines)
    if form == "json":
        assert len(lines) == 1
        assert "ValueError" in json.loads(lines[0])["error.stack_trace"]
    else:
        assert all(line.startswith("    | ") for line in lines[1:])
        assert any("forged" in line for line in lines[1:])


def test_levels_hold_except_for_the_audit_log() -> None:
    def both() -> None:
        hello()
        structlog.get_logger(logs.AUDIT).info("event")

    assert "event" in (text := written(io.StringIO(), LogSettings(level="error"), both))
    assert "hello" not in text


@pytest.mark.parametrize("name", logs.QUIET)
def test_libraries_tell_only_what_is_wrong(name: str) -> None:
    def speak() -> None:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")

    text = written(io.StringIO(), LogSettings(level="debug"), speak)
    assert "trouble" in text
    assert "chatter" not in text


def test_the_access_log_of_uvicorn_is_silent() -> None:
    text = written(
        io.StringIO(), LogSettings(level="debug"), lambda: logging.getLogger("uvicorn.access").critical("GET /")
    )
    assert text == ""


def test_setting_up_twice_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up(LogSettings(), first)
    assert len(written(second, LogSettings(), hello).splitlines()) == 1
    assert first.getvalue() == ""


def test_numbers_stay_numbers() -> None:
    text = written(
        io.StringIO(), LogSettings(), lambda: structlog.get_logger("x").info("m", n=1, f=0.5, b=True, none=None, o=[1])
    )
    found = json.loads(text)
    assert (found["n"], found["f"], found["b"], found["none"], found["o"]) == (1, 0.5, True, None, "[1]")


def test_a_record_that_cannot_be_written_harms_nobody() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    text = written(io.StringIO(), LogSettings(), lambda: logging.getLogger("sockade.test").warning("%s", Hostile()))
    assert json.loads(text)["message"] == "a record of 'sockade.test' could not be written"


class Stuck(io.StringIO):
    """A reader that stops reading until it is let go."""

    def __init__(self) -> None:
        import threading

        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go.wait(10)
        return super().write(text)


def test_a_reader_that_stops_does_not_stop_the_writer_and_what_is_lost_is_counted() -> None:
    stream = Stuck()
    writer = LineWriter(stream, waiting_lines=3)
    writer.write("first")
    assert stream.reached.wait(10)
    for number in range(10):
        writer.write(str(number))
    stream.go.set()
    writer.close()
    lines = stream.getvalue().splitlines()
    assert lines == ["first", "0", "1", "2", "7 log lines were dropped because nobody read them"]


def test_what_the_log_says_of_itself_is_a_line_like_the_others() -> None:
    stream = Stuck()
    writer = logs.set_up(LogSettings(format="json"), stream)
    writer.write("{}")
    assert stream.reached.wait(10)
    for _ in range(WAITING_LINES + 7):
        writer.write("{}")
    stream.go.set()
    writer.close()
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert last["message"] == "7 log lines were dropped because nobody read them"
    assert (last["log.level"], last["log.logger"]) == ("error", "sockade.log")


class FullForAWhile(io.StringIO):
    """A disk that is full until three lines were refused; of the first it takes the half."""

    refused = 0

    def __init__(self) -> None:
        super().__init__()
        self.more_refused = threading.Semaphore(0)

    def write(self, text: str) -> int:
        if self.refused < 3:
            if not self.refused:
                super().write(text[: len(text) // 2])
            self.refused += 1
            self.more_refused.release()
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_lines_that_could_not_be_written_are_counted_when_there_is_room_again() -> None:
    stream = FullForAWhile()
    writer = LineWriter(stream)
    for number in range(3):
        writer.write(f"lost {number}")
        assert stream.more_refused.acquire(timeout=10)
    for text in ("one", "two"):
        writer.write(text)
    writer.close()
    notice = "up to 3 log lines are missing here, for they could not be written"
    assert stream.getvalue().splitlines() == ["los", notice, "one", "two"]


def test_closing_does_not_wait_for_ever() -> None:
    stream = Stuck()
    writer = LineWriter(stream)
    writer.write("x")
    writer.close(0.01)
    stream.go.set()
    writer.close()
    assert stream.getvalue() == "x\n"


def test_a_closed_stream_harms_nobody() -> None:
    stream = io.StringIO()
    stream.close()
    writer = LineWriter(stream)
    writer.write("x")
    writer.close()
    writer.write("y")


class Passing(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return True


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_of_the_audit_log_is_the_same_however_it_is_made(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"event.action": "x", "user.name": HOSTILE, "long": "y" * 600, "sockade.log.left_out": 3}

    def short_and_long_way() -> None:
        logs.log_audit("né" + HOSTILE, fields)
        logs.log_audit("né" + HOSTILE, {})
        passing = Passing()
        logging.getLogger(logs.AUDIT).addFilter(passing)
        logs.log_audit("né" + HOSTILE, fields)
        logs.log_audit("né" + HOSTILE, {})
        logging.getLogger(logs.AUDIT).removeFilter(passing)

    monkeypatch.setenv("NO_COLOR", "1")
    lines = written(io.StringIO(), LogSettings(format=form), short_and_long_way).splitlines()  # type: ignore[arg-type]
    without_time = [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", line) for line in lines]
    assert len(lines) == 4
    assert without_time[:2] == without_time[2:]


@pytest.mark.parametrize("where", ["root", "audit", "off"])
def test_whoever_listens_to_the_audit_log_hears_it(where: str) -> None:
    heard: list[logging.LogRecord] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    def listen_and_log() -> None:
        logger = logging.getLogger("" if where == "root" else logs.AUDIT)
        handler = Listening()
        logger.addHandler(handler)
        if where == "off":
            logging.disable(logging.CRITICAL)
        try:
            logs.log_audit("hello", {"n": 1})
        finally:
            logger.removeHandler(handler)
            logging.disable(logging.NOTSET)

    lines = written(io.StringIO(), LogSettings(), listen_and_log).splitlines()
    assert len(lines) == len(heard) == (where != "off")


def test_lines_in_quick_succession_are_all_written_in_order() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream)
    for number in range(1_000):
        writer.write(str(number))
    writer.close()
    assert stream.getvalue().split() == [str(number) for number in range(1_000)]
