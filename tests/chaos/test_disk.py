"""The disk's faults, in quick sizes; ``python -m tests.chaos`` has the full ones."""

from __future__ import annotations

import errno
import logging
import os
import random
from pathlib import Path

import pytest

from tests.chaos import corruption, disk, saves
from tests.chaos.crash_states import crash_states
from tests.chaos.result import Result
from tests.chaos.saves import Save
from tests.support import system_calls
from tests.support.faulty_disk import in_child
from tests.support.file_faults import Disk, Fault
from trainer.checkpoint import store


def assert_ok(result: Result) -> None:
    assert result.ok, "\n".join([f"{result.name}: {result.good} of {result.wanted}", *result.failures[:20]])


@pytest.fixture(scope="module")
def two_saves() -> Result:
    return disk.every_operation(seed=3, count=2)


def test_no_fault_at_any_operation_of_a_save_loses_an_acknowledged_checkpoint(two_saves: Result) -> None:
    assert_ok(two_saves)
    assert two_saves.wanted > 200


@pytest.mark.skipif(not system_calls.available(), reason="needs strace: without it nobody else has counted")
def test_the_operations_that_are_counted_are_those_that_the_kernel_is_asked_for(two_saves: Result) -> None:
    assert two_saves.notes.endswith("strace counts the same operations"), two_saves.failures


def test_the_same_faults_lose_a_naive_save() -> None:
    assert_ok(disk.naive_kills(seed=3))


def test_a_fault_in_the_removal_of_an_old_checkpoint_does_not_fail_the_save(caplog: pytest.LogCaptureFixture) -> None:
    with saves.scratch() as folder, caplog.at_level(logging.WARNING, logger="trainer"):
        shape = disk.make_shape(folder, random.Random(0), 0)
        removal = [at for at, operation in enumerate(shape.operations) if ".partial-old-" in operation.path + operation.other]
        assert len(removal) >= 4
        for at in removal:
            caplog.clear()
            run = saves.copy_of(shape.run, folder / "case")
            with Disk(run.path, Fault.EIO, at).installed():
                name = shape.save.to(run)
            assert store.newest_good(run.checkpoints) == (name, [])
            assert ["could not be removed" in record.getMessage() for record in caplog.records] == [True], shape.operations[at]
            assert saves.goes_on(run) is None


def test_no_power_cut_loses_an_acknowledged_checkpoint_and_naive_saves_lose_theirs() -> None:
    assert_ok(crash_states(seed=3, count=120))


def test_no_damaged_checkpoint_is_loaded_and_the_newest_untouched_one_is_used() -> None:
    assert_ok(corruption.corruption(seed=3, count=650))


def test_a_row_of_metrics_cut_at_any_byte_leaves_whole_rows_only() -> None:
    assert_ok(disk.torn_rows(seed=3, count=1))


@pytest.mark.parametrize("fault", [Fault.ENOSPC, Fault.EIO])
def test_the_shim_raises_what_a_disk_raises(tmp_path: Path, fault: Fault) -> None:
    with Disk(tmp_path, fault, 1).installed(), pytest.raises(OSError) as raised:
        (tmp_path / "file").write_bytes(b"content")
    assert raised.value.errno == getattr(errno, fault.name)
    assert (tmp_path / "file").read_bytes() == b""


def test_the_shim_kills_in_the_middle_of_a_write_and_then_is_gone(tmp_path: Path) -> None:
    ending = in_child(lambda: (tmp_path / "file").write_bytes(b"content!"), Disk(tmp_path, Fault.KILL_MIDDLE, 1))
    assert ending.killed
    assert (tmp_path / "file").read_bytes() == b"cont"
    before = os.open
    with Disk(tmp_path, Fault.FULL, 0).installed(), pytest.raises(OSError, match="No space left"):
        Save(1, 1).to(saves.new_run(tmp_path / "run"))
    assert os.open is before
    (tmp_path / "file").write_bytes(b"content!")
