"""How the nodes of a job come together: each finds node 0's store, takes its number there, and waits until all have come."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from launcher.meeting import Guest, find_store, open_store
from launcher.nodes import GOODBYE_S, POLL_S, Crew
from launcher.plan import Seat
from launcher.seats import Place, Register
from trainer.errors import ConfigError, NodeLostError
from trainer.rundir import write_json


def meet(seat: Seat, workers: int, *, within_s: float, meanwhile: Callable[[], None] = lambda: None) -> Crew:
    """Wait for the other nodes of a job.

    Args:
        seat: this node's place.
        workers: the workers of each node.
        within_s: how long to wait.
        meanwhile: called while it waits; what it raises ends the wait.

    Raises:
        ConfigError: the nodes were started with numbers or software that do not fit.
        NodeLostError: not all have come in time; the text says which.
    """
    if seat.size == 1:
        return Crew()
    end = time.monotonic() + within_s
    server = None
    if seat.rank == 0:
        server, meeting = open_store(seat)
        if seat.meeting:
            write_json(Path(seat.meeting), asdict(meeting))
    else:
        meeting = find_store(seat, end, meanwhile)
    crew = Crew(seat.rank, seat.size, meeting)
    crew.server = server  # it lives as long as the crew
    guests = _roll_call(crew, seat, workers, end, meanwhile)
    crew.guests = guests
    crew.tell(f"seen/{seat.rank}", True)
    try:
        for rank, guest in enumerate(guests):
            _compare(guests[0], guest, f"node {rank} ({guest.host})")
    except ConfigError:
        if crew.leads:  # with it goes the store, in which the others read the same
            crew.all_said("seen", GOODBYE_S)
        raise
    crew.begin()
    return crew


def _roll_call(crew: Crew, seat: Seat, workers: int, end: float, meanwhile: Callable[[], None]) -> tuple[Guest, ...]:
    """Wait until all are there, each with a number of its own; whoever leaves before that gives its number back."""
    with crew.answering():
        place = Place(crew)
        place.take(meanwhile)
        try:
            return _wait_for_all(crew, seat, workers, place, end, meanwhile)
        except BaseException:
            place.leave()
            raise


def _wait_for_all(crew: Crew, seat: Seat, workers: int, place: Place, end: float, meanwhile: Callable[[], None]) -> tuple[Guest, ...]:
    store, meeting = place.store, place.meeting
    register = Register(store, seat.size)
    if not crew.leads:
        crew.tell(f"guest/{crew.rank}", asdict(Guest(_own_name(seat), _own_address(meeting.host), seat.size, workers)))
    present: list[int] = []
    while time.monotonic() < end:
        place.keep()
        present = register.present()
        if crew.leads and len(present) == seat.size - 1:
            me = Guest(_own_name(seat), _own_address(_guest(crew, 1).address), seat.size, workers)
            crew.tell("guest/0", asdict(me))
        if crew.said("guest/0"):
            return tuple(_guest(crew, rank) for rank in range(seat.size))
        meanwhile()
        time.sleep(POLL_S)
    crew.tell(f"waited/{crew.rank}", True)  # who gives up a moment earlier is none of those that are missing
    away = [rank for rank in range(1, seat.size) if rank not in present]
    missing = ", ".join(str(rank) for rank in [rank for rank in away if not crew.said(f"waited/{rank}")] or away)
    raise NodeLostError(
        f"node {missing} of {seat.size} has not come to {meeting} in time; every node needs the same command, and its own rank"
    )


def _guest(crew: Crew, rank: int) -> Guest:
    key = f"guest/{rank}"
    found = crew.look(key)
    if found is None:
        raise NodeLostError(f"node {rank} has gone again; start the same command on every node")
    try:
        return Guest(**found[0])
    except TypeError as fault:
        raise NodeLostError(f"{key}: another version of ostinato, or none, has come to the nodes' store") from fault


def _own_name(seat: Seat) -> str:
    return seat.host or socket.gethostname()


def _own_address(other: str) -> str:
    """This machine's address on the way to another one: a datagram socket that is connected sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((other, 9))
        return str(way.getsockname()[0])


def _compare(leader: Guest, guest: Guest, name: str) -> None:
    """Refuse nodes that cannot work on one job."""
    for what, mine, theirs in (
        ("--nnodes", leader.nodes, guest.nodes),
        ("--nproc-per-node", leader.workers, guest.workers),
        ("ostinato", leader.ostinato, guest.ostinato),
        ("torch", leader.pytorch, guest.pytorch),
    ):
        if mine != theirs:
            raise ConfigError(f"command line: {what}: {theirs} on {name}, {mine} on node 0 ({leader.host}); one job needs one")
