"""The nodes of one job: their launchers meet, and say to each other what is to be done and how it ended.

Node 0 serves torch's TCPStore, keys and bytes, on one port of the address that the others know it by. Whoever reaches the port can read
and delete there. So all that is said is JSON, and never unpickled; and where a shared folder tells the nodes where to meet, it also tells
them a secret with which each word is signed. A job of one node opens no port.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
from torch.distributed import TCPStore

from launcher.meeting import Guest, Meeting, peek
from launcher.pulse import LOST_AFTER_S, Pulse
from trainer.errors import NodeLostError

POLL_S = 0.05
LOST_AFTER_A_FAULT_S = 10.0
GOODBYE_S = 5.0


class Crew:
    """The launchers of a job's nodes, seen from one of them.

    Args:
        rank: this node's number; 0 decides for all.
        size: how many there are.
        meeting: where they met; None: a job of one node.
        guests: what each node said of itself.
    """

    def __init__(self, rank: int = 0, size: int = 1, meeting: Meeting | None = None, guests: tuple[Guest, ...] = ()) -> None:
        self.rank, self.size, self.meeting, self.guests = rank, size, meeting, guests
        self.server: TCPStore | None = None
        self.store = meeting.connect() if meeting else None
        self._pulse: Pulse | None = None

    @property
    def leads(self) -> bool:
        """Whether this is node 0."""
        return self.rank == 0

    @property
    def lost(self) -> str | None:
        """What is to be said of a node that does not answer any more; None: all do."""
        lost = self._pulse.lost if self._pulse is not None else None
        return None if lost is None else f"{self.name_of(lost)} does not answer any more"

    def name_of(self, rank: int) -> str:
        """``node 1 (n2)``."""
        return f"node {rank} ({self.guests[rank].host})"

    @property
    def interface(self) -> str | None:
        """The network interface by which the others reach this node."""
        if not self.guests:
            return None
        return interface_of(self.guests[self.rank].address)

    def begin(self) -> None:
        """From now on each node notices when another is gone."""
        if self.meeting is not None:
            self._pulse = Pulse(self.rank, self.size, self.meeting)
            self._pulse.start()

    def tell(self, key: str, value: object) -> None:
        """Say something to all nodes; who speaks of one key twice replaces it."""
        if self.store is not None and self.meeting is not None:
            with self.answering():
                self.store.set(key, self.meeting.seal(key, value))

    def said(self, key: str) -> bool:
        """Whether any of the nodes has said this.

        Raises:
            NodeLostError: somebody else has.
        """
        return self.look(key) is not None

    def hear(self, *keys: str, meanwhile: Callable[[], None] = lambda: None) -> tuple[str, Any]:
        """Wait until one of these is said; what and with which value.

        Raises:
            NodeLostError: a node that is waited for is gone.
        """
        while True:
            for key in keys:
                if (found := self.look(key)) is not None:
                    return key, found[0]
            self._check()
            meanwhile()
            time.sleep(POLL_S)

    def gather(self, key: str, value: Any, *, within_s: float, meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
        """Every node's value, in order of their ranks; each calls it.

        Raises:
            NodeLostError: a node is gone before it has said its, or lives and does not say it.
        """
        if self.store is None:
            return [value]
        self.tell(f"{key}/{self.rank}", value)
        end = time.monotonic() + within_s
        found = []
        for rank in range(self.size):

            def in_time(rank: int = rank) -> None:
                meanwhile()
                if time.monotonic() > end:
                    raise NodeLostError(f"{self.name_of(rank)} lives and says nothing; the same command goes on from the newest checkpoint")

            found.append(self.hear(f"{key}/{rank}", meanwhile=in_time)[1])
        return found

    def look(self, key: str) -> tuple[Any] | None:
        """What was said, if it was."""
        if self.store is None or self.meeting is None:
            return None
        with self.answering():
            data = peek(self.store, key)
        return None if data is None else (self.meeting.unseal(key, data),)

    def all_said(self, key: str, within_s: float) -> bool:
        """Whether every node has said this in time; each says ``key/rank``. A node alone has nobody to wait for."""
        if self.store is None:
            return True
        end = time.monotonic() + within_s
        while not all(self.said(f"{key}/{rank}") for rank in range(self.size)):
            if time.monotonic() > end or self.lost:
                return False
            time.sleep(POLL_S)
        return True

    def suspect(self, fault: bool) -> None:
        """Whether something is amiss already: then a node that says nothing is given up sooner."""
        if self._pulse is not None:
            self._pulse.patience_s = LOST_AFTER_A_FAULT_S if fault else LOST_AFTER_S

    def finish(self, exit_code: int) -> None:
        """Node 0: it is over, for all nodes."""
        with suppress(NodeLostError):
            self.tell("end", exit_code)

    def part(self) -> None:
        """The last word: node 0 stays until the others have heard it."""
        if self.store is None:
            return
        if self._pulse is not None:
            self._pulse.done.set()
        with suppress(NodeLostError, RuntimeError):
            self.tell(f"gone/{self.rank}", True)
            if self.leads:
                self.all_said("gone", GOODBYE_S)

    def _check(self) -> None:
        if self.lost:
            raise NodeLostError(f"{self.lost}; the same command goes on from the newest checkpoint")

    def answering(self) -> _Answering:
        """Within it, a store that is gone is node 0 that is gone."""
        return _Answering(self)


class _Answering:
    """Turns what torch's store says when its server is gone into our own error."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, RuntimeError) and not isinstance(fault, NodeLostError):
            names = self.crew.name_of(0) if self.crew.guests else "node 0"
            raise NodeLostError(f"{names} does not answer any more; the same command goes on from the newest checkpoint") from fault


def interface_of(address: str) -> str | None:
    """The network interface that has this address; None: none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in addresses):
            return name
    return None
