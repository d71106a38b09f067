from pathlib import Path

import pytest

from launcher.health import RankState, Watch, odd_ranks, report
from launcher.stacks import Frame, main_thread, telling, waits_for_peers
from trainer.config.schema import SupervisionSection
from trainer.rundir import RunDir, write_json

WAITING = (Frame("/x/site-packages/torch/autograd/graph.py", 841, "_engine_run_backward"), Frame("/w/trainer/step.py", 190, "_leaf"))
IN_COLLECTIVE = (
    Frame("/x/site-packages/torch/distributed/distributed_c10d.py", 3000, "all_reduce"),
    Frame("/project/net.py", 9, "forward"),
)
IN_MODEL = (
    Frame("/x/site-packages/torch/nn/modules/linear.py", 125, "forward"),
    Frame("/project/net.py", 12, "forward"),
    Frame("/w/trainer/step.py", 180, "_leaf"),
)

DUMP = """Thread 0x00007f0f8effd6c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
  File "/w/trainer/heartbeat.py", line 90 in run

Current thread 0x00007f10b6a5d740 (most recent call first):
  File "/project/net.py", line 12 in forward
  File "/x/site-packages/torch/nn/modules/module.py", line 1750 in _call_impl
  File "/w/trainer/step.py", line 180 in _leaf
"""


def test_the_main_thread_is_the_last_one_of_a_dump():
    assert main_thread(DUMP)[0] == Frame("/project/net.py", 12, "forward")
    assert main_thread("") == []


def test_the_users_line_tells_more_than_torchs_and_ours():
    assert telling(IN_MODEL) == Frame("/project/net.py", 12, "forward")
    assert telling(WAITING) == Frame("/w/trainer/step.py", 190, "_leaf")
    assert telling(()) is None


def test_who_is_in_a_collective_or_in_autograds_engine_waits():
    assert waits_for_peers(WAITING)
    assert waits_for_peers(IN_COLLECTIVE)
    assert not waits_for_peers(IN_MODEL)
    assert not waits_for_peers(())


@pytest.mark.parametrize(
    ("states", "odd"),
    [
        ([RankState(0, "backward", 5, frames=WAITING), RankState(1, "forward", 5, frames=IN_MODEL)], [1]),
        ([RankState(0, "backward", 5, frames=WAITING), RankState(1, "backward", 5, halted=True, frames=WAITING)], [1]),
        # one rank left a collective out: all wait, two here and one there
        ([RankState(r, "forward", 5, frames=IN_COLLECTIVE) for r in (0, 2)] + [RankState(1, "backward", 5, frames=WAITING)], [1]),
        # two ranks in two collectives: the one behind
        ([RankState(0, "backward", 5, frames=WAITING), RankState(1, "forward", 5, frames=IN_COLLECTIVE)], [1]),
        ([RankState(r, "backward", 5, frames=WAITING) for r in range(3)], [0, 1, 2]),
        ([RankState(0, "backward", 5, frames=WAITING), RankState(1)], [1]),
    ],
    ids=["busy", "halted", "left out", "behind", "nobody", "never began"],
)
def test_the_odd_rank_is_the_one_that_the_others_wait_for(states, odd):
    assert odd_ranks(states) == odd


def test_the_report_names_rank_phase_step_and_line_in_few_lines():
    states = [RankState(r, "backward", 5, frames=WAITING) for r in (0, 2, 3)] + [RankState(1, "forward", 5, frames=IN_MODEL)]
    stuck = report(states, 300.4)
    assert stuck.rank == 1
    assert stuck.lines == (
        "stuck: no worker has moved for 300 s",
        "rank 1 is stuck: in forward, after step 5, at /project/net.py:12, in forward",
        "  ranks 0, 2, 3 wait: in backward, after step 5, at /w/trainer/step.py:190, in _leaf",
    )


def test_a_loader_workers_line_is_told_with_its_ranks():
    states = [RankState(0, "load", 5, frames=IN_MODEL, loader=Frame("/project/data.py", 7, "__getitem__"))]
    assert "its loader worker is at /project/data.py:7" in report(states, 9).lines[1]


def beat(run: RunDir, rank: int, moved: float, *, begun: bool = True, attempt: int = 0) -> None:
    facts = {"rank": rank, "attempt": attempt, "moved": moved, "phase": "forward", "step": 3, "begun": begun}
    write_json(run.heartbeat(rank), facts)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.heartbeats.mkdir(parents=True)
    return run


POLICY = SupervisionSection(stuck_after_s=10.0, start_within_s=100.0)


def test_a_job_is_stuck_when_no_worker_moves_and_not_while_one_does(run):
    watch = Watch(run, 0, range(2), POLICY, since=0.0)
    beat(run, 0, 50.0)
    beat(run, 1, 52.0)
    assert watch.overdue_s(61.0) is None
    assert watch.overdue_s(62.5) == 10.5


def test_until_the_first_update_the_longer_limit_holds(run):
    watch = Watch(run, 0, range(2), POLICY, since=0.0)
    assert watch.overdue_s(99.0) is None
    beat(run, 0, 60.0, begun=False)
    assert watch.overdue_s(150.0) is None
    assert watch.overdue_s(161.0) == 101.0


def test_heartbeats_of_an_earlier_attempt_do_not_count(run):
    watch = Watch(run, 1, range(1), POLICY, since=200.0)
    beat(run, 0, 100.0, attempt=0)
    assert watch.overdue_s(250.0) is None
    assert watch.overdue_s(301.0) == 101.0


def test_a_torn_heartbeat_is_none(run):
    run.heartbeat(0).write_text('{"rank": 0, "mo')
    assert Watch(run, 0, range(1), POLICY, since=0.0).overdue_s(50.0) is None


def test_a_users_file_below_a_folder_called_torch_is_the_users():
    assert telling([IN_MODEL[0], Frame("/project/torch/net.py", 3, "forward")]) == Frame("/project/torch/net.py", 3, "forward")


def test_a_heartbeat_in_the_launchers_own_folder_counts_where_the_runs_disk_takes_none(run, tmp_path):
    watch = Watch(run, 0, range(1), POLICY, since=0.0)
    beat(run, 0, 50.0)
    nearby = RunDir(tmp_path / "nearby")
    nearby.path.mkdir()
    watch.beats = nearby.path
    write_json(nearby.path / "beat-0.json", {"attempt": 0, "moved": 80.0, "begun": True, "phase": "forward", "step": 9})
    assert watch.overdue_s(85.0) is None
    assert watch.moving(82.0) == {0}
