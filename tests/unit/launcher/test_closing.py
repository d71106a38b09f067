from launcher.closing import closing_lines, done_line, stopped_line, with_outcomes
from launcher.failure import Verdict, WorkerEnd, judge
from trainer.rundir import RunDir, append_jsonl, write_json


def run_at(path):
    run = RunDir(path)
    run.create()
    return run


def test_a_finished_run_tells_its_test_result_and_where_to_look(tmp_path):
    run = run_at(tmp_path / "digits")
    for row in [
        {"split": "valid", "step": 5, "accuracy": 0.5},
        {"split": "test", "step": 10, "accuracy": 0.98765},
        {"split": "valid", "step": 10, "accuracy": 0.9},
    ]:
        append_jsonl(run.metrics, row)
    run.tensorboard.mkdir()
    assert done_line(run) == f"test accuracy 98.77 % · run folder {run.path} · tensorboard --logdir {run.tensorboard}"


def test_without_a_test_the_newest_validation_is_told_and_without_an_accuracy_the_loss(tmp_path):
    run = run_at(tmp_path / "digits")
    assert done_line(run) == f"run folder {run.path}"
    append_jsonl(run.metrics, {"split": "valid", "step": 5, "loss": 0.5})
    append_jsonl(run.metrics, {"split": "valid", "step": 10, "loss": 0.25})
    assert done_line(run).startswith("valid loss 0.25 · ")


def test_a_result_that_is_not_finite_is_told_as_such(tmp_path):
    run = run_at(tmp_path / "digits")
    for row, said in (({"loss": None}, "valid loss not finite"), ({"loss": 1.0, "accuracy": None}, "valid accuracy not finite")):
        append_jsonl(run.metrics, {"split": "valid", "step": 5, **row})
        assert done_line(run) == f"{said} · run folder {run.path}"


def test_a_stopped_run_tells_the_step_and_how_to_go_on(tmp_path):
    run = run_at(tmp_path / "digits")
    run.event("checkpointed", step=40)
    run.event("stopped", step=42)
    assert stopped_line(run) == "stopped at step 42 with a checkpoint; the same command goes on"
    assert closing_lines(run, 0, Verdict(75)) == [stopped_line(run)]


def test_a_run_that_was_stopped_before_it_had_a_checkpoint_does_not_claim_one(tmp_path):
    run = run_at(tmp_path / "digits")
    run.event("created")
    assert closing_lines(run, 0, Verdict(75)) == ["stopped before training began; the same command starts it"]


def test_a_failed_run_ends_with_the_path_of_the_log_that_tells_more(tmp_path):
    run = run_at(tmp_path / "digits")
    run.attempt_logs(2).mkdir()
    run.rank_log(2, 1).write_text("…")
    write_json(run.outcome(2, 1), {"exit_code": 4, "error": "ValueError: bad label 12", "time": 3.0})
    ends = with_outcomes(run, 2, [WorkerEnd(0, -15), WorkerEnd(1, 4)])
    lines = closing_lines(run, 2, judge(ends))
    assert lines == ["rank 1: ValueError: bad label 12", "after it ended rank 0", f"log: {run.rank_log(2, 1)}"]


def test_a_torn_outcome_counts_as_none(tmp_path):
    run = run_at(tmp_path / "digits")
    run.attempt_logs(0).mkdir()
    run.outcome(0, 0).write_text('{"exit_code": ')
    assert with_outcomes(run, 0, [WorkerEnd(0, 4)])[0].outcome is None
