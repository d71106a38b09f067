"""Where the nodes of a job meet: torch's TCPStore, and words in it that are signed."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import PrefixStore, Store, TCPStore

from launcher.plan import Seat
from trainer import __version__
from trainer.errors import ConfigError, NodeLostError
from trainer.rundir import read_json

STORE_TIMEOUT = timedelta(seconds=60)
NOTHING = "nothing"
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Meeting:
    """Where the nodes' store is: host and port of node 0, the name below which this job's keys stand, and what words are signed with."""

    host: str
    port: int
    name: str
    secret: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def seal(self, key: str, value: object) -> str:
        """A word, signed for its key."""
        text = json.dumps(value)
        return f"{self._signature(key, text.encode())} {text}"

    def unseal(self, key: str, data: bytes) -> Any:
        """What was said, as plain types.

        Raises:
            NodeLostError: somebody else has said it.
        """
        signature, _, text = data.partition(b" ")
        try:
            if not hmac.compare_digest(signature, self._signature(key, text).encode()):
                raise ValueError
            return json.loads(text)
        except ValueError as fault:
            raise NodeLostError(f"{key}: what the nodes' store says is no word of theirs; who else can reach that port?") from fault

    def _signature(self, key: str, text: bytes) -> str:
        return hmac.new(self.secret.encode(), b"%s\0%s" % (key.encode(), text), hashlib.sha256).hexdigest()

    def connect(self) -> Store:
        """A connection of one's own: one that waits for an answer holds up all who share it."""
        return PrefixStore(self.name, TCPStore(self.host, self.port, is_master=False, wait_for_workers=False, timeout=STORE_TIMEOUT))


@dataclass(frozen=True)
class Guest:
    """What a node says of itself when it arrives."""

    host: str
    address: str
    nodes: int
    workers: int
    ostinato: str = __version__
    pytorch: str = str(torch.__version__)


def peek(store: Store, key: str) -> bytes | None:
    """A key's bytes; None: it has none. Reading a key that somebody deletes meanwhile would wait for it, and comparing does not."""
    found = bytes(store.compare_set(key, NOTHING, NOTHING))
    return None if found == NOTHING.encode() else found


def open_store(seat: Seat) -> tuple[TCPStore, Meeting]:
    """Serve the nodes' store, as node 0; it lives as long as the object that is returned.

    Raises:
        ConfigError: nothing can listen there.
    """
    host, _, port = seat.endpoint.rpartition(":")
    # Where the others read in a file where it is, nobody has typed it.
    said = f"node {seat.rank} ({seat.host or host})" if seat.meeting else f"command line: --rdzv-endpoint={seat.endpoint}"
    listener = _listen(host, int(port), said)
    port_number = listener.getsockname()[1]
    address = listener.getsockname()[0]
    name = f"ostinato-{secrets.token_hex(16)}" if seat.meeting else "ostinato"
    secret = secrets.token_hex(32) if seat.meeting else ""
    mine = "127.0.0.1" if address == "0.0.0.0" else address
    server = TCPStore(
        mine, port_number, is_master=True, wait_for_workers=False, timeout=STORE_TIMEOUT, master_listen_fd=listener.detach(), use_libuv=True
    )
    return server, Meeting(host, port_number, name, secret)


def _listen(host: str, port: int, said: str) -> socket.socket:
    """A socket on the one address that the others know this node by.

    On all addresses where that one is not this machine's own (behind a NAT), or where its name means itself here and something else
    elsewhere (Debian's 127.0.1.1).
    """
    try:
        address = socket.gethostbyname(host)
    except OSError as fault:
        raise ConfigError(f"{said}: {host} cannot be found ({fault.strerror or fault})") from fault
    if address.startswith("127.") and address != "127.0.0.1":
        address = "0.0.0.0"
    for place in dict.fromkeys((address, "0.0.0.0")):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place, port))
            listener.listen(1024)
            return listener
        except OSError as fault:
            listener.close()
            if place == "0.0.0.0" or fault.errno != errno.EADDRNOTAVAIL:
                raise ConfigError(f"{said}: cannot listen there ({fault.strerror})") from fault
    raise AssertionError("unreachable")


def find_store(seat: Seat, end: float, meanwhile: Callable[[], None]) -> Meeting:
    """Node 0's store, as soon as it answers.

    Raises:
        NodeLostError: it has not answered by `end`.
    """
    meeting: Meeting | None = None
    while time.monotonic() < end:
        if seat.meeting:
            with suppress(OSError, ValueError, TypeError):
                meeting = Meeting(**read_json(Path(seat.meeting)))
        else:
            host, _, port = seat.endpoint.rpartition(":")
            meeting = Meeting(host, int(port), "ostinato")
        if meeting is not None:
            with suppress(OSError), socket.create_connection((meeting.host, meeting.port), timeout=2.0):
                return meeting
        meanwhile()
        time.sleep(LOOK_AGAIN_S)
    where = seat.meeting or seat.endpoint
    raise NodeLostError(
        f"node {seat.rank} of {seat.size}: node 0 has not answered at {where} in time; is it running, and is the port open?"
    )
