"""What several nodes report of one attempt is one verdict."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path

from launcher.attempts import Report, merged, unless_finished, verdict_on
from launcher.failure import Verdict, WorkerEnd
from launcher.health import RankState, Stall
from launcher.stacks import Frame
from trainer.errors import DONE, LOST, STOPPED, STUCK, TRAINING_FAILED
from trainer.rundir import RunDir

WELL = tuple(WorkerEnd(rank, 0, value=DONE) for rank in (0, 1))


def test_a_report_survives_the_way_to_node_0() -> None:
    state = RankState(3, "load", 7, frames=(Frame("x.py", 3, "read"),), loader=Frame("y.py", 4, "wait"))
    report = Report((WorkerEnd(3, -9, by_launcher=True, outcome={"exit_code": 5}),), Stall(2.5, (state,)), stop=True)
    assert Report.of(json.loads(json.dumps(asdict(report)))) == report


def test_the_first_cause_is_found_on_whichever_node_it_was() -> None:
    there = Report((WorkerEnd(2, -signal.SIGKILL), WorkerEnd(3, -signal.SIGTERM)))
    here = Report(tuple(WorkerEnd(rank, -signal.SIGKILL, by_launcher=True) for rank in (0, 1)))
    verdict = verdict_on(merged([here, there]), 30.0)
    assert (verdict.exit_code, verdict.rank, verdict.restart) == (LOST, 2, True)


def test_what_each_node_has_seen_of_a_hang_is_one_picture() -> None:
    def stall(idle_s: float, *ranks: int) -> Report:
        states = tuple(RankState(rank, "step", 5, halted=rank == 3) for rank in ranks)
        return Report(tuple(WorkerEnd(rank, -9, by_launcher=True) for rank in ranks), Stall(idle_s, states))

    found = merged([stall(2.0, 0, 1), stall(3.0, 2, 3)])
    assert found.stall is not None
    assert [state.rank for state in found.stall.states] == [0, 1, 2, 3]
    verdict = verdict_on(found, 30.0)
    assert (verdict.exit_code, verdict.rank) == (STUCK, 3)
    assert "3 s" in verdict.lines[0]


def test_who_was_asked_on_one_node_was_asked_on_all() -> None:
    late = merged([Report(WELL), Report((WorkerEnd(2, -9, by_launcher=True),), too_late=True, stop=True)])
    assert late.stop
    verdict = verdict_on(late, 30.0)
    assert verdict.exit_code == STOPPED
    assert "supervision.grace_s" in verdict.lines[0]
    assert verdict_on(merged([Report(WELL), Report((WorkerEnd(2, -9),), abandoned=True)]), 30.0).exit_code == LOST
    assert verdict_on(merged([Report(WELL), Report((WorkerEnd(2, 0, value=DONE),))]), 30.0).exit_code == DONE


def test_a_machine_that_vanishes_after_the_end_makes_a_finished_run_no_lost_one(tmp_path: Path) -> None:
    run, lost = RunDir(tmp_path / "r"), Verdict(LOST, ("node 1 does not answer any more",), restart=True)
    run.create()
    run.event("started", attempt=0)
    assert unless_finished(run, lost) == lost
    run.event("finished", attempt=0)
    assert unless_finished(run, lost) == Verdict(DONE)
    failed = Verdict(TRAINING_FAILED, ("rank 1: ValueError",))
    assert unless_finished(run, failed) == failed
