"""Keeps what was read from files up to date while connections stay open: the TLS context, and the address lists.

New connections see a new certificate; open ones keep theirs. New address lists hold for open connections too, which
is the caller's to carry out. What cannot be used, and what a start would refuse, is refused with an error in the log,
once, and the old stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sockade.doors.certificates import pair_for, server_context
from sockade.errors import StartError
from sockade.exposure import files, networks_in
from sockade.files import FileState, states_of
from sockade.guard.addresses import AddressRules, NetworkSet

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection
    from pathlib import Path

    from sockade.clock import Clock
    from sockade.settings import AddressSettings, Network, Settings

RELOAD_SECONDS = 2.0
"""How often the files are looked at."""
RENEWAL_SECONDS = 60.0
"""How often it is looked whether the local certificate has come near its end, though its files are what they were."""

States = tuple[FileState | None, ...]

logger = logging.getLogger("sockade.reload")


class CurrentContext:
    """The TLS context of new connections.

    Raises:
        StartError: at the start, when the pair or the CA for clients cannot be used.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.pair = pair_for(settings, clock.wall())
        self._used = self._state()
        self._refused: States | None = None
        self._judge_at = clock.wall() + RENEWAL_SECONDS
        self.context: ssl.SSLContext = server_context(settings, self.pair)

    def refresh(self) -> None:
        """Renew the local pair when it is due, and load whatever changed."""
        state, now = self._state(), self._clock.wall()
        if state == self._used and now < self._judge_at:
            self._refused = None
            return
        try:
            self._judge_at = now + RENEWAL_SECONDS
            self.pair = pair_for(self._settings, now)
            # Looked at before it is read: what changes in between is seen the next time.
            state = self._state()
            if state == self._used:
                self._refused = None
                return
            self._judge(now)
            context = server_context(self._settings, self.pair)
            if self._state() != state:
                return  # It goes on changing: what was judged may be another file than what was read.
            self.context = context
        except (StartError, OSError) as error:
            # It is tried again each time: the fault may be this machine's, not the file's.
            if self._refused is None or state != self._refused:
                self._refused = state or ()
                logger.error("the new certificate is refused, the old one stays: %s", error)
        else:
            self._used, self._refused = state, None
            logger.info("certificate replaced; new connections use it")

    def _judge(self, now: float) -> None:
        """Raise StartError for what a start would refuse: secure or refuse holds for as long as the server runs."""
        tls, moment = self._settings.tls, datetime.fromtimestamp(now, UTC)
        wrong = list(files.client_ca(tls.client_ca, moment))
        if tls.certificate is not None and tls.key is not None:
            wrong += [*files.certificate(tls.certificate, moment), *files.key(tls.key, tls.certificate)]
        if wrong:
            raise StartError(" ".join(wrong))

    def _state(self) -> States:
        return states_of(self.pair.certificate, self.pair.key, self._settings.tls.client_ca)


class CurrentAddresses:
    """The address lists, of the settings and of their files together.

    Raises:
        StartError: at the start, when a file cannot be used.
    """

    def __init__(self, settings: AddressSettings) -> None:
        self._settings = settings
        self._used = self._state()
        self._refused: States | None = None
        self.rules = rules_of(settings)

    def refresh(self, *, anew: bool = False) -> bool:
        """Read the files again if they changed, or in any case with `anew`; tell whether there are other rules now."""
        # Looked at before they are read: what changes in between is seen the next time.
        state = self._state()
        if state == self._used and not anew:
            self._refused = None
            return False
        try:
            self.rules = rules_of(self._settings)
        except StartError as error:
            # They are tried again each time: the fault may be the folder's or this machine's, not the files'.
            if anew or state != self._refused:
                self._refused = state
                logger.error("the new address lists are refused, the old ones stay: %s", error)
            return False
        self._used, self._refused = state, None
        logger.info("address lists replaced; they hold for open connections too")
        return True

    def _state(self) -> States:
        return states_of(self._settings.allow_file, self._settings.deny_file)


def rules_of(settings: AddressSettings) -> AddressRules:
    """Read the files and return the rules. Raises StartError."""
    allow = [*settings.allow, *_read(settings.allow_file, "allow_file")]
    deny = [*settings.deny, *_read(settings.deny_file, "deny_file")]
    limited = bool(settings.allow) or settings.allow_file is not None
    return AddressRules(NetworkSet(allow) if limited else None, NetworkSet(deny), NetworkSet(settings.trusted_proxies))


def _read(path: Path | None, key: str) -> tuple[Network, ...]:
    found = networks_in(path, key) if path is not None else ()
    if isinstance(found, str):
        raise StartError(found)
    return found


class Reloading:
    """Looks at the files every two seconds, or at once when told to."""

    def __init__(
        self, tls: Collection[CurrentContext], addresses: CurrentAddresses, changed: Callable[[], None]
    ) -> None:
        """Keep all of them up to date; `changed` is called when there are other address rules."""
        self._tls = tls
        self._addresses = addresses
        self._changed = changed
        self._told = asyncio.Event()

    def hurry(self) -> None:
        """Read everything now: what SIGHUP asks for."""
        self._told.set()

    async def run(self) -> None:
        """Do so until cancelled. Files are read in a thread: a list may be long and a disk slow."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), RELOAD_SECONDS)
            told = self._told.is_set()
            self._told.clear()
            try:
                for tls in self._tls:
                    await asyncio.to_thread(tls.refresh)
                if await asyncio.to_thread(self._addresses.refresh, anew=told):
                    self._changed()
            except Exception:
                logger.exception("cannot look for changed files")
