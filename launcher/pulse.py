"""Each node of a job notices when another is gone."""

from __future__ import annotations

import threading
import time

from launcher.meeting import Meeting, peek
from trainer.errors import NodeLostError

BEAT_S = 1.0
LOST_AFTER_S = 30.0


class Pulse(threading.Thread):
    """Says once a second that this node lives, and looks whether the others do: node 0 at all of them, they at node 0."""

    def __init__(self, rank: int, size: int, meeting: Meeting) -> None:
        super().__init__(name="pulse", daemon=True)
        self.rank, self.meeting, self.store = rank, meeting, meeting.connect()
        self.watched = [other for other in range(size) if other != rank] if rank == 0 else [0]
        self.seen: dict[int, tuple[bytes, float]] = {}
        self.lost: int | None = None
        self.patience_s = LOST_AFTER_S
        self.done = threading.Event()

    def run(self) -> None:
        """Beat until the parting, or until a node is lost."""
        count = 0
        start = time.monotonic()
        while not self.done.wait(BEAT_S) and self.lost is None:
            count += 1
            try:
                self.store.set(f"beat/{self.rank}", self.meeting.seal(f"beat/{self.rank}", count))
                for other in self.watched:
                    self._note(other, self._beat_of(other), start)
            except RuntimeError:
                if not self.done.is_set():
                    self.lost = 0

    def _beat_of(self, other: int) -> bytes:
        """What a node has said last; nothing new, where it was somebody else."""
        key = f"beat/{other}"
        value = peek(self.store, key) or b""
        try:
            self.meeting.unseal(key, value)
        except NodeLostError:
            return self.seen.get(other, (b"", 0.0))[0]
        return value

    def _note(self, other: int, value: bytes, start: float) -> None:
        now = time.monotonic()
        before, since = self.seen.get(other, (b"", start))
        if value != before:
            self.seen[other] = value, now
        elif now - since > self.patience_s:
            self.lost = other
