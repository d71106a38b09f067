"""Files of a run appear whole, rows survive a torn end, and one process tree at a time may work in a folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from trainer.errors import RunFolderError
from trainer.rundir import RunDir, RunLock, append_jsonl, read_jsonl, write_atomic


def test_a_torn_last_row_is_skipped_and_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert list(read_jsonl(path)) == []
    append_jsonl(path, {"step": 1})
    append_jsonl(path, {"step": 2})
    with path.open("ab") as file:
        file.write(b'{"step": 3')
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]


def test_an_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "value"
    write_atomic(path, b"a long first version")
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"
    assert [p.name for p in tmp_path.iterdir()] == ["value"]


def test_a_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "one")
    run.create()
    run.event("created")
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.events.stat().st_mode) == 0o600


def test_attempts_are_numbered_by_the_folders_that_are_there(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    assert run.next_attempt() == 0
    run.attempt_logs(0).mkdir()
    run.attempt_logs(11).mkdir()
    assert run.next_attempt() == 12


def test_a_run_is_finished_when_its_newest_event_says_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    assert not run.finished()
    run.event("finished")
    assert run.finished()
    run.event("resumed")
    assert not run.finished()


def test_a_second_lock_is_refused_with_the_holders_name_until_the_first_is_released(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "lock")
    with pytest.raises(RunFolderError, match=r"in use by process \d+ on "):
        RunLock(tmp_path / "lock")
    first.release()
    RunLock(tmp_path / "lock").release()
