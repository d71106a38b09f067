"""An older checkpoint goes only when the new one is known to be good, and a failed write is heard of."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import store
from trainer.checkpoint.writer import Order, Writer, commit
from trainer.config.schema import CheckpointSection
from trainer.errors import LOST, NonFiniteError, StorageError
from trainer.rundir import RunDir, read_jsonl

LARGE = 3 * store.BLOCK // 4  # float32: three blocks
POLICY = CheckpointSection(keep_last=1)


def snapshot(step: int, size: int = 100) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((size,), float(step))}}


def a_run(folder: Path) -> RunDir:
    run = RunDir(folder / "run")
    run.create()
    return run


def writer_of(run: RunDir) -> Writer:
    return Writer(run, POLICY, 0, grace_s=30)


def acknowledged(run: RunDir) -> list[str]:
    return [row["checkpoint"] for row in read_jsonl(run.events) if row["event"] == "checkpointed"]


def test_a_write_in_the_background_leaves_what_a_write_in_the_foreground_does(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    writer = writer_of(run)
    for step in (1, 2, 3):
        writer.start(Order(snapshot(step), {"epoch": 0}, best=0.5 if step == 2 else None))
        writer.wait()
        writer.check()
    assert store.names(run.checkpoints) == ["step-00000002", "step-00000003"]
    assert (store.pointed(run.checkpoints, "best"), store.pointed(run.checkpoints, "last")) == ("step-00000002", "step-00000003")
    assert acknowledged(run) == ["step-00000001", "step-00000002", "step-00000003"]
    assert writer.last_good == "step-00000003"
    assert not writer.busy
    assert torch.equal(store.load(run.checkpoints / "step-00000003")["model"]["weight"], torch.full((100,), 3.0))


def test_a_checkpoint_that_does_not_read_back_ends_the_run_and_removes_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    writer = writer_of(run)
    writer.start(Order(snapshot(1), {}))
    writer.wait()
    state = run.checkpoints / "step-00000002" / store.STATE

    def a_disk_that_loses_data() -> None:
        if state.exists():  # it has its name, so this is a block of the reading
            with open(state, "r+b") as file:
                file.seek(state.stat().st_size - 100)
                file.write(b"\1")

    writer.beat = a_disk_that_loses_data
    writer.start(Order(snapshot(2, LARGE), {}))
    with pytest.raises(StorageError, match=r"step-00000002/state\.pt.*SHA-256.*the last good checkpoint is step-00000001$") as caught:
        writer.wait()
    assert caught.value.exit_code == LOST
    with pytest.raises(StorageError):
        writer.check()
    assert store.names(run.checkpoints) == ["step-00000001", "step-00000002"]
    assert store.newest_good(run.checkpoints)[0] == "step-00000001"


def test_a_long_write_shows_that_it_goes_on(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    beats: list[bool] = []
    commit(run, Order(snapshot(1, LARGE), {}), POLICY, 0, lambda: beats.append((run.checkpoints / "step-00000001").exists()))
    assert beats.count(False) >= 3  # written
    assert beats.count(True) >= 3  # read back


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    run = a_run(tmp_path)
    writer = writer_of(run)
    writer.start(Order(snapshot(1), {}))
    writer.wait()
    state = snapshot(2)
    state["model"] = {"good": torch.zeros(3), "layer.bias": torch.zeros(40_000, dtype=dtype), "count": torch.tensor(3)}
    state["model"]["layer.bias"][-1] = value
    writer.start(Order(state, {}, best=1.0))
    with pytest.raises(NonFiniteError, match=r"step 2: layer\.bias is not finite"):
        writer.wait()
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["last.json", "step-00000001"]
    assert acknowledged(run) == ["step-00000001"]


def test_a_mask_that_was_infinite_from_the_beginning_may_stay_so(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    state = snapshot(1)
    state["model"]["mask"] = torch.full((3, 3), float("-inf")).triu(1)
    name = commit(run, Order(state, {}, not_finite=frozenset({"mask"})), POLICY, 0)
    assert store.names(run.checkpoints) == [name]


def test_a_folder_that_is_gone_is_a_failure_that_says_where_and_what_is_left(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.checkpoints.rmdir()
    writer = writer_of(run)
    writer.start(Order(snapshot(1), {}))
    with pytest.raises(StorageError) as caught:
        writer.wait()
    text = str(caught.value)
    assert str(run.checkpoints) in text
    assert "No such file" in text
    assert "no earlier checkpoint" in text
    assert "\n" not in text


def test_an_old_checkpoint_that_cannot_be_removed_does_not_harm_the_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = a_run(tmp_path)
    commit(run, Order(snapshot(1), {}), POLICY, 0)
    commit(run, Order(snapshot(2), {}, best=0.1), CheckpointSection(keep_last=5), 0)
    commit(run, Order(snapshot(3), {}, best=0.2), CheckpointSection(keep_last=5), 0)

    def occupied() -> None:  # a folder in the way, with something in it: the rename is refused
        (run.checkpoints / ".partial-old-step-00000001").mkdir(exist_ok=True)
        (run.checkpoints / ".partial-old-step-00000001" / "file").touch()

    commit(run, Order(snapshot(4), {}), POLICY, 0, occupied)
    assert store.names(run.checkpoints) == ["step-00000001", "step-00000003", "step-00000004"]
    assert any("could not be removed" in record.getMessage() for record in caplog.records)
    commit(run, Order(snapshot(5), {}), POLICY, 0)
    assert store.names(run.checkpoints) == ["step-00000003", "step-00000005"]


def test_a_save_that_takes_longer_than_the_grace_period_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer(a_run(tmp_path), POLICY, 0, grace_s=1e-9)
    for step in (1, 2):
        writer.start(Order(snapshot(step), {}))
        writer.wait()
    said = [record.getMessage() for record in caplog.records if "supervision.grace_s" in record.getMessage()]
    assert len(said) == 1


def test_a_state_that_cannot_be_pickled_is_raised_and_not_swallowed(tmp_path: Path) -> None:
    writer = writer_of(a_run(tmp_path))
    writer.start(Order({"step": 1, "model": {}, "function": lambda: None}, {}))
    with pytest.raises(Exception, match="function is a function"):
        writer.wait()


def test_a_write_that_fails_in_the_middle_is_raised_with_the_systems_own_error(tmp_path: Path) -> None:
    """Torch's C++ writer must neither swallow nor replace it; /dev/full is always full."""
    with open("/dev/full", "wb") as full:
        hashing = store._Hashing(full, None)
        torch.save(snapshot(1, LARGE), hashing)  # type: ignore[arg-type]
        with pytest.raises(OSError, match="No space left") as caught:
            hashing.finish()
        assert caught.value.errno == errno.ENOSPC
        full.raw.close()
