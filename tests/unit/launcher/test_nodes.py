"""The nodes of a job meet, compare, hear each other, and notice when one is gone."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from launcher import nodes, pulse
from launcher.meeting import Guest, Meeting, find_store
from launcher.nodes import Crew
from launcher.plan import Seat
from launcher.roll_call import meet
from launcher.seats import Place
from launcher.slurm_task import _job
from tests.support.jobs import DIGITS
from trainer.errors import ConfigError, NodeLostError
from trainer.prepare import prepare
from trainer.rundir import make_private


def seats(tmp_path: Path, size: int) -> list[Seat]:
    """Places in a job that meets through a file, as on a cluster."""
    return [Seat(rank, size, "127.0.0.1:0", str(tmp_path / "meeting.json"), f"n{rank}") for rank in range(size)]


def together(*work: Callable[[], object]) -> list[object]:
    """What each returned or raised, at the same time."""

    def safe(one: Callable[[], object]) -> object:
        try:
            return one()
        except Exception as fault:
            return fault

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(safe, work))


def met(tmp_path: Path, size: int, workers: int = 1) -> list[Crew]:
    found = together(*(lambda seat=seat: meet(seat, workers, within_s=20) for seat in seats(tmp_path, size)))  # type: ignore[misc]
    assert all(isinstance(crew, Crew) for crew in found), found
    return [crew for crew in found if isinstance(crew, Crew)]


def test_a_job_of_one_node_opens_no_port_and_needs_nobody() -> None:
    crew = meet(Seat(), 2, within_s=1)
    assert crew.server is None
    assert crew.gather("x", 3, within_s=1) == [3]
    assert not crew.said("x")
    crew.part()


def test_three_nodes_meet_and_hear_each_other(tmp_path: Path) -> None:
    crews = met(tmp_path, 3)
    assert [crew.name_of(2) for crew in crews] == ["node 2 (n2)"] * 3
    assert together(*(lambda crew=crew: crew.gather("sum", crew.rank * 2, within_s=20) for crew in crews)) == [[0, 2, 4]] * 3  # type: ignore[misc]
    crews[0].finish(4)
    assert crews[1].hear("end", "order-0") == ("end", 4)
    together(*(crew.part for crew in crews))


def test_a_stranger_who_reaches_the_port_learns_no_secret_and_can_say_nothing(tmp_path: Path) -> None:
    crews = met(tmp_path, 2)
    facts = json.loads((tmp_path / "meeting.json").read_text())
    assert (tmp_path / "meeting.json").stat().st_mode & 0o077 == 0
    assert facts["secret"] not in repr(crews[0].meeting)
    stranger = TCPStore(facts["host"], facts["port"], is_master=False, wait_for_workers=False)
    crews[0].tell("order-0", {"attempt": 0})
    crews[1].hear("order-0")  # it is there
    keys = {key.decode() if isinstance(key, bytes) else key: stranger.get(key) for key in stranger.list_keys()}
    assert f"{facts['name']}/order-0" in keys
    assert all(facts["secret"] not in key and facts["secret"].encode() not in value for key, value in keys.items())
    order = keys[f"{facts['name']}/order-0"]
    for forged in (b"75", b'{"attempt": 0}', order, Meeting("", 0, "").seal("end", 75).encode()):
        stranger.set(f"{facts['name']}/end", forged)
        stranger.get(f"{facts['name']}/end")  # it is there
        with pytest.raises(NodeLostError, match="end: what the nodes' store says is no word of theirs"):
            crews[1].hear("end", "order-0")
        with pytest.raises(NodeLostError, match="no word of theirs"):
            crews[1].said("end")
    assert stranger.delete_key(f"{facts['name']}/end")
    assert crews[1].hear("end", "order-0") == ("order-0", {"attempt": 0})
    together(*(crew.part for crew in crews))


def test_a_stranger_cannot_beat_for_a_node_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 0.05)
    monkeypatch.setattr(nodes, "LOST_AFTER_A_FAULT_S", 0.5)
    first, second = met(tmp_path, 2)
    facts = json.loads((tmp_path / "meeting.json").read_text())
    stranger = TCPStore(facts["host"], facts["port"], is_master=False, wait_for_workers=False)
    second._pulse.done.set()  # type: ignore[union-attr]
    first.suspect(True)
    end, count = time.monotonic() + 20, 0
    while first.lost is None and time.monotonic() < end:
        stranger.set(f"{facts['name']}/beat/1", str(count := count + 1))
        time.sleep(0.05)
    assert first.lost == "node 1 (n1) does not answer any more"
    together(first.part, second.part)


def test_a_node_that_lives_and_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    first, second = met(tmp_path, 2)
    with pytest.raises(NodeLostError, match=r"node 1 .n1. lives and says nothing; the same command goes on"):
        first.gather("ended-0", 1, within_s=0.5)
    together(first.part, second.part)


class Left(Exception):
    pass


def leaving_after(seconds: float) -> Callable[[], None]:
    end = time.monotonic() + seconds

    def meanwhile() -> None:
        if time.monotonic() > end:
            raise Left

    return meanwhile


def test_a_node_that_left_while_others_were_missing_can_be_typed_again(tmp_path: Path) -> None:
    first, second, third = seats(tmp_path, 3)

    def twice() -> object:
        with pytest.raises(Left):
            meet(second, 1, within_s=30, meanwhile=leaving_after(0.5))
        return meet(second, 1, within_s=30)

    def late() -> object:
        time.sleep(2)
        return meet(third, 1, within_s=30)

    crews = together(lambda: meet(first, 1, within_s=30), twice, late)
    assert all(isinstance(crew, Crew) for crew in crews), crews
    together(*(crew.part for crew in crews if isinstance(crew, Crew)))


def test_a_node_that_crashed_while_others_were_missing_is_no_part_of_the_job_until_it_is_typed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 0.1)
    first, second, third = seats(tmp_path, 3)
    crashed: list[Crew] = []

    def crash_and_come_again() -> object:
        meeting = find_store(second, time.monotonic() + 20, lambda: None)
        crashed.append(Crew(1, 3, meeting))
        Place(crashed[0]).take(lambda: None)
        crashed[0].tell("guest/1", asdict(Guest("ghost", "127.0.0.1", 3, 1)))
        return meet(replace(second, host="again"), 1, within_s=30)

    def late() -> object:
        time.sleep(2)
        return meet(third, 1, within_s=30)

    crews = together(lambda: meet(first, 1, within_s=30), crash_and_come_again, late)
    assert all(isinstance(crew, Crew) and crew.name_of(1) == "node 1 (again)" for crew in crews), crews
    together(*(crew.part for crew in crews if isinstance(crew, Crew)))


def test_a_node_that_gave_up_a_moment_earlier_is_not_called_missing(tmp_path: Path) -> None:
    first, _, third = seats(tmp_path, 3)
    found = together(lambda: meet(first, 1, within_s=8), lambda: meet(third, 1, within_s=5))
    assert all(isinstance(fault, NodeLostError) and "node 1 of 3 has not come to" in str(fault) for fault in found), found


def test_a_ghost_does_not_begin_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 0.05)
    first, second, third = seats(tmp_path, 3)

    def crash() -> object:
        crew = Crew(1, 3, find_store(second, time.monotonic() + 20, lambda: None))
        Place(crew).take(lambda: None)
        crew.tell("guest/1", asdict(Guest("ghost", "127.0.0.1", 3, 1)))
        return crew

    def late() -> object:
        time.sleep(2)
        return meet(third, 1, within_s=3)

    found = together(lambda: meet(first, 1, within_s=5), crash, late)
    assert isinstance(found[0], NodeLostError)
    assert str(found[0]).startswith("node 1 of 3 has not come to")


def test_of_two_machines_with_one_number_one_is_refused_while_they_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 0.2)
    first, second, third = seats(tmp_path, 3)

    def late() -> object:
        time.sleep(3)
        return meet(third, 1, within_s=30)

    found = together(lambda: meet(first, 1, within_s=30), lambda: meet(second, 1, within_s=30), lambda: meet(second, 1, within_s=30), late)
    refused = [one for one in found if isinstance(one, ConfigError)]
    assert [str(one) for one in refused] == ["command line: --node-rank=1: another machine has this number already; each needs its own"]
    assert sum(isinstance(one, Crew) for one in found) == 3, found
    together(*(crew.part for crew in found if isinstance(crew, Crew)))


@pytest.mark.parametrize("ours", [b"\x80\x04N.", b"no json"])
def test_a_word_that_is_none_is_said_to_be_that(tmp_path: Path, ours: bytes) -> None:
    crews = met(tmp_path, 2)
    assert crews[0].store is not None
    crews[0].store.set("order-0", ours)
    with pytest.raises(NodeLostError, match="order-0: what the nodes' store says is no word of theirs"):
        crews[1].hear("order-0")
    together(*(crew.part for crew in crews))


def test_numbers_that_do_not_fit_are_told_to_both(tmp_path: Path) -> None:
    first, second = seats(tmp_path, 2)
    found = together(lambda: meet(first, 1, within_s=20), lambda: meet(second, 3, within_s=20))
    for fault in found:
        assert isinstance(fault, ConfigError)
        assert str(fault).startswith("command line: --nproc-per-node: 3 on node 1 (n1), 1 on node 0 (n0)")


def test_a_node_that_never_comes_is_named(tmp_path: Path) -> None:
    first, second, _ = seats(tmp_path, 3)
    found = together(lambda: meet(first, 1, within_s=5.0), lambda: meet(second, 1, within_s=5.0))
    assert all(isinstance(fault, NodeLostError) and "node 2 of 3 has not come to" in str(fault) for fault in found), found
    with pytest.raises(NodeLostError, match="node 0 has not answered"):
        meet(Seat(1, 2, "", str(tmp_path / "nowhere.json")), 1, within_s=0.3)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--rdzv-endpoint={place}: cannot listen there .Address already in use."):
            meet(Seat(0, 2, place), 1, within_s=1)
    with pytest.raises(ConfigError, match="cannot be found"):
        meet(Seat(0, 2, "no-such-host.invalid:29400"), 1, within_s=1)


def test_nodes_whose_names_in_slurm_are_no_hosts_meet_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare(DIGITS, [f"run.root={tmp_path}", "run.name=r"], world_size=2).run
    make_private(folder.slurm)
    facts = {"nodes": 2, "workers_per_node": 1}
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")  # where this machine's own name is no host's either
    made = []
    for node in range(2):
        monkeypatch.setenv("SLURMD_NODENAME", f"gpu{node}.invalid")
        made.append(_job(facts, folder, node).seat)
    crews = together(*(lambda seat=seat: meet(seat, 1, within_s=20) for seat in made))  # type: ignore[misc]
    assert all(isinstance(crew, Crew) and crew.name_of(1) == "node 1 (gpu1.invalid)" for crew in crews), crews
    together(*(crew.part for crew in crews if isinstance(crew, Crew)))


def test_a_node_that_cannot_be_found_at_all_is_named_and_not_an_option_that_nobody_has_typed(tmp_path: Path) -> None:
    seat = Seat(0, 2, "gpu0.invalid:0", str(tmp_path / "meeting.json"), "gpu0")
    with pytest.raises(ConfigError, match=r"^node 0 .gpu0.: gpu0\.invalid cannot be found"):
        meet(seat, 1, within_s=1)


def test_who_waits_can_be_called_away(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    with pytest.raises(Enough):
        meet(seats(tmp_path, 2)[0], 1, within_s=20, meanwhile=enough)


def test_a_node_that_says_nothing_any_more_is_lost_sooner_when_something_is_amiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT_S", 0.05)
    monkeypatch.setattr(nodes, "LOST_AFTER_A_FAULT_S", 0.5)
    first, second = met(tmp_path, 2)
    second._pulse.done.set()  # type: ignore[union-attr]
    assert first.lost is None
    first.suspect(True)
    with pytest.raises(NodeLostError, match=r"node 1 .n1. does not answer any more; the same command goes on"):
        first.hear("ended-0/1")
    assert not first.all_said("gone", within_s=5)
    together(first.part, second.part)
    assert first._pulse is not None
    first._pulse.join(timeout=30)
    assert not first._pulse.is_alive()
