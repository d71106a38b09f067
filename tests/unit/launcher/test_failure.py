import signal

import pytest

from launcher.failure import MAX_LINES, WorkerEnd, judge
from trainer.errors import DONE, LOST, STOPPED, TRAINING_FAILED


def outcome(code, error=None, time=0.0):
    return {"exit_code": code, "error": error, "time": time}


def test_all_done_is_done():
    verdict = judge([WorkerEnd(0, 0, value=0), WorkerEnd(1, 0, value=0)])
    assert (verdict.exit_code, verdict.lines, verdict.ended_well) == (DONE, (), True)


def test_workers_that_stopped_on_request_are_no_failure():
    assert judge([WorkerEnd(0, 0, value=75), WorkerEnd(1, 0, value=75)]).exit_code == STOPPED
    assert judge([WorkerEnd(0, 75, outcome=outcome(75)), WorkerEnd(1, 0, value=75)]).exit_code == STOPPED


def test_the_earliest_error_is_the_cause_and_the_later_ones_its_victims():
    verdict = judge(
        [
            WorkerEnd(0, 4, outcome=outcome(4, "RuntimeError: Connection closed by peer", time=10.25)),
            WorkerEnd(1, 4, outcome=outcome(4, "ValueError: bad label 12", time=10.20)),
        ]
    )
    assert (verdict.exit_code, verdict.rank) == (TRAINING_FAILED, 1)
    assert verdict.lines == ("rank 1: ValueError: bad label 12", "after it ended rank 0")


def test_a_killed_worker_comes_before_the_peers_that_noticed():
    verdict = judge([WorkerEnd(0, 4, outcome=outcome(4, "Connection closed by peer", time=1.0)), WorkerEnd(1, -signal.SIGKILL)])
    assert verdict.exit_code == LOST
    assert verdict.lines[0] == "rank 1 was killed by SIGKILL (out of memory?)"


def test_a_peer_that_the_launcher_killed_is_not_the_cause():
    verdict = judge([WorkerEnd(0, -signal.SIGKILL, by_launcher=True), WorkerEnd(1, 4, outcome=outcome(4, "ValueError: x", time=5.0))])
    assert (verdict.exit_code, verdict.rank) == (TRAINING_FAILED, 1)
    assert judge([WorkerEnd(0, -signal.SIGKILL, by_launcher=True), WorkerEnd(1, -signal.SIGKILL)]).rank == 1


def test_a_peer_that_the_agent_terminated_or_that_aborted_is_not_the_cause():
    for number in (signal.SIGTERM, signal.SIGABRT):
        verdict = judge([WorkerEnd(0, -number), WorkerEnd(1, 4, outcome=outcome(4, "ValueError: x", time=5.0))])
        assert (verdict.exit_code, verdict.rank) == (TRAINING_FAILED, 1)


def test_a_worker_that_left_without_a_word_keeps_an_exit_code_of_ours_and_any_other_is_a_failed_training():
    assert judge([WorkerEnd(0, 3)]).exit_code == 3
    assert judge([WorkerEnd(0, 17)]).exit_code == TRAINING_FAILED
    assert judge([WorkerEnd(0, 17)]).lines == ("rank 0 ended with exit code 17 and left no reason",)
    assert "no usable checkpoint" in judge([WorkerEnd(0, 3)]).lines[0]


def test_exit_code_0_without_a_value_and_without_an_outcome_is_a_failure():
    verdict = judge([WorkerEnd(0, 0)])
    assert (verdict.exit_code, verdict.rank) == (TRAINING_FAILED, 0)
    assert verdict.lines[0].startswith("rank 0 ended without a word")
    assert judge([WorkerEnd(0, 0, outcome=outcome(0))]).exit_code == DONE
    # Its peers notice, or hang until they are killed: they are not the cause.
    peers = [WorkerEnd(0, 4, outcome=outcome(4, "Connection closed by peer", time=1.0)), WorkerEnd(2, -signal.SIGKILL, by_launcher=True)]
    assert judge([*peers, WorkerEnd(1, 0)]).rank == 1


def test_an_end_of_which_the_system_says_nothing_is_no_success():
    verdict = judge([WorkerEnd(0, None), WorkerEnd(1, 0, value=0)])
    assert (verdict.exit_code, verdict.rank) == (LOST, 0)
    assert verdict.lines == ("rank 0 is gone, and the system does not say how it ended",)
    assert judge([WorkerEnd(0, None), WorkerEnd(1, 4, outcome=outcome(4, "ValueError: x"))]).rank == 1


def test_a_request_that_met_workers_which_did_not_listen_yet_is_a_stop():
    verdict = judge([WorkerEnd(0, -signal.SIGTERM), WorkerEnd(1, -signal.SIGTERM)], stop_requested=True)
    assert verdict.exit_code == STOPPED
    assert "before training began" in verdict.lines[0]
    assert judge([WorkerEnd(0, -signal.SIGTERM)]).exit_code == LOST  # nobody here asked for it


def test_a_signal_without_a_name_keeps_its_number():
    assert judge([WorkerEnd(0, -60)]).lines == ("rank 0 was killed by signal 60",)


@pytest.mark.parametrize("workers", [1, 2, 64])
def test_the_text_leaves_room_for_the_log_on_a_screen_of_ten_lines(workers):
    text = "\n".join(f"line {n}" for n in range(40))
    verdict = judge([WorkerEnd(rank, 4, outcome=outcome(4, text, time=float(rank))) for rank in range(workers)])
    assert len(verdict.lines) <= MAX_LINES - 1
    assert verdict.lines[0] == "rank 0: line 0"
    if workers > 1:
        assert verdict.lines[-1].startswith("after it ended rank")
