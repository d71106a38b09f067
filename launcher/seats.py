"""While the nodes of a job gather: each has a number of its own, and node 0 sees who is there."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from torch.distributed import Store

from launcher import pulse
from launcher.meeting import peek
from launcher.nodes import POLL_S, Crew
from trainer.errors import ConfigError

# In beats: when a number is free again whose owner says nothing, and how fresh those must be with whom a job begins.
SEAT_EXPIRES_BEATS = 10
PRESENT_BEATS = 5


class Place:
    """A node's number while the nodes gather: whoever has it says so once a second, and it is free again when nothing is said."""

    def __init__(self, crew: Crew) -> None:
        assert crew.store is not None and crew.meeting is not None
        self.store, self.meeting, self.rank, self.key = crew.store, crew.meeting, crew.rank, f"seat/{crew.rank}"
        self.owner, self.count, self.since = secrets.token_hex(8), 0, time.monotonic()
        self.value = self._next()

    def _next(self) -> str:
        self.count += 1
        return self.meeting.seal(self.key, [self.owner, self.count])

    def take(self, meanwhile: Callable[[], None]) -> None:
        """Take the number, or wait until it is seen whether its owner lives.

        Raises:
            ConfigError: it does.
        """
        before = self._replace("", self.value)
        while before != self.value:
            if peek(self.store, "guest/0") is not None:  # the job has begun
                self._refuse()
            meanwhile()
            time.sleep(POLL_S)
            now = self._replace("", self.value)
            if now == before and time.monotonic() - self.since > SEAT_EXPIRES_BEATS * pulse.BEAT_S:
                now = self._replace(before, self.value)
            if now not in (before, self.value):
                self._refuse()
            before = now
        self.since = time.monotonic()

    def keep(self) -> None:
        """Say that it is still taken.

        Raises:
            ConfigError: somebody else has it now.
        """
        if time.monotonic() - self.since > pulse.BEAT_S:
            before, self.value, self.since = self.value, self._next(), time.monotonic()
            if self._replace(before, self.value) != self.value:
                self._refuse()

    def leave(self) -> None:
        """Give it back, unless the job has begun with it."""
        with suppress(RuntimeError):
            if self._replace(self.value, self.value) == self.value and peek(self.store, "guest/0") is None:
                self.store.delete_key(f"guest/{self.rank}")
                self.store.delete_key(self.key)

    def _replace(self, before: str, after: str) -> str:
        return bytes(self.store.compare_set(self.key, before, after)).decode(errors="replace")

    def _refuse(self) -> None:
        raise ConfigError(f"command line: --node-rank={self.rank}: another machine has this number already; each needs its own")


class Register:
    """Node 0's: who has come, and is still there."""

    def __init__(self, store: Store, size: int) -> None:
        self.store, self.size = store, size
        self.seen: dict[int, tuple[bytes | None, float]] = {}

    def present(self) -> list[int]:
        """The nodes that have come and wait."""
        found, now = [], time.monotonic()
        for rank in range(1, self.size):
            value = peek(self.store, f"seat/{rank}")
            before, since = self.seen.get(rank, (None, now))
            self.seen[rank] = (value, now if value != before else since)
            fresh = now - self.seen[rank][1] < PRESENT_BEATS * pulse.BEAT_S
            if value is not None and fresh and peek(self.store, f"guest/{rank}") is not None:
                found.append(rank)
        return found
