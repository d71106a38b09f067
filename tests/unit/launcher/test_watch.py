"""What ``ostinato watch`` makes of files: curves of characters, files as they grow, frames of any width."""

import io
import json
import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from launcher.watch.frame import frame
from launcher.watch.glance import Grown, Looker, _batch_size
from launcher.watch.spark import braille, plain
from trainer.rundir import RunDir, append_jsonl, write_atomic, write_json


def lit(line: str) -> int:
    return sum((ord(cell) - 0x2800).bit_count() for cell in line)


@given(st.lists(st.floats(), max_size=200), st.integers(1, 40), st.integers(1, 4))
def test_a_curve_of_anything_is_as_wide_and_high_as_it_should_be(values: list[float], width: int, height: int) -> None:
    lines = braille(values, width, height)
    assert [len(line) for line in lines] == [width] * height
    assert all(0x2800 <= ord(cell) <= 0x28FF for line in lines for cell in line)
    if any(math.isfinite(value) for value in values):
        assert all(any(ord(line[x]) > 0x2800 for line in lines) for x in range(width))  # it hangs together
    assert plain(values, width).isascii()


def test_a_falling_curve_begins_above_and_ends_below() -> None:
    top, bottom = braille([10, 8, 6, 4, 2, 0], 6, 2)
    assert lit(top[:3]) > 0 == lit(bottom[:2])
    assert lit(bottom[3:]) > 0 == lit(top[4:])
    assert plain([10, 5, 0], 3) == "^~_"


def test_only_what_is_new_is_read_and_a_line_is_waited_for_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    grown = Grown(path)
    assert grown.rows() == (False, [])
    append_jsonl(path, {"n": 1})
    assert grown.rows() == (True, [{"n": 1}])
    assert grown.rows() == (False, [])
    with open(path, "ab") as file:
        file.write(b'{"n": ')
    assert grown.rows() == (False, [])
    with open(path, "ab") as file:
        file.write(b"2}\nnonsense\n[3]\n")
    assert grown.rows() == (False, [{"n": 2}])
    write_atomic(path, b'{"n": 1}\n', durable=False)  # a resume cuts it back
    assert grown.rows() == (True, [{"n": 1}])


def run_in(path: Path) -> RunDir:
    run = RunDir(path / "runs" / "one")
    run.create()
    run.config.write_text("data:\n  batch_size: 64\ntrain: {epochs: 3, max_steps: 60}\n")
    run.event("started", attempt=0, workers=2, checkpoint=None)
    for step in range(1, 31):
        row = {
            "time": 1000.0 + step,
            "attempt": 0,
            "step": step,
            "epoch": 0,
            "split": "train",
            "loss": 1 / step,
            "accuracy": 0.5,
            "lr": 0.1,
        }
        append_jsonl(run.metrics, row)
    run.event("checkpointed", attempt=0, step=30, checkpoint="step-00000030", seconds=0.5, stall_s=0.002)
    run.lock.write_text("process 41 on elsewhere\n")
    for rank in range(2):
        beat = {"rank": rank, "attempt": 0, "time": time.time(), "monotonic": 9.0, "moved": 9.0, "phase": "forward", "step": 30, "epoch": 0}
        figures = {"cpu_percent": 50.0, "rss_bytes": 2**28, "gpu_bytes": None, "waited_s": 1.0, "worked_s": 3.0}
        run.heartbeat(rank).write_text(json.dumps({**beat, **figures}))  # not write_json: a busy disk would make it an old one
    return run


def drawn(run: RunDir, width: int = 100, *, ascii_only: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii" if ascii_only else "utf-8", newline="")
    Console(file=file, width=width, legacy_windows=False).print(frame(Looker(run).look()))
    file.seek(0)
    return file.read()


def test_a_frame_tells_place_pace_time_left_waiting_ranks_and_the_checkpoint(tmp_path: Path) -> None:
    text = drawn(run_in(tmp_path))
    assert "one  running  2 workers" in text
    assert "epoch 1 of 3 · step 30 of 60 · 64 samples/s · 30 s left · waiting for data 25 %" in text
    assert "training loss 0.03333" in text
    assert re.search(r"0     forward  30    50 %  256 MiB  25 %            \d+ s ago", text)
    assert re.search(r"checkpoint step-00000030: \d+ s ago, written in 0.5 s, training stopped for 2 ms", text)


def test_a_config_that_cannot_be_read_at_this_moment_costs_only_the_pace_in_samples(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    looker = Looker(run)
    text = run.config.read_text()
    run.config.unlink()
    assert looker.look().problem == f"{run.path}: no run here (it has no config.yaml)"
    assert _batch_size(run) is None
    run.config.write_text(text)
    assert _batch_size(run) == 64


@pytest.mark.parametrize("width", [1, 5, 20, 60, 300])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_frame_fits_a_terminal_of_any_width_and_any_alphabet(tmp_path: Path, width: int, ascii_only: bool) -> None:
    run = run_in(tmp_path)
    if not ascii_only:
        assert max(map(len, drawn(run, width).splitlines())) <= width
        return
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace", newline="")
    Console(file=file, width=width, legacy_windows=False).print(frame(Looker(run).look()))


def test_more_ranks_than_fit_are_counted(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for rank in range(2, 12):
        write_json(run.heartbeat(rank), {**json.loads(run.heartbeat(0).read_text()), "rank": rank})
    assert "and 4 more" in drawn(run)
    assert "12 workers" in drawn(run)


@pytest.mark.parametrize("text", ["[]", "{}", '{"time": "x", "event": 7, "step": []}', "null", "\x00" * 50, '{"a":' * 3000])
def test_files_that_say_anything_at_all_are_no_traceback(tmp_path: Path, text: str) -> None:
    run = run_in(tmp_path)
    for path in (run.events, run.metrics, run.environment, run.heartbeat(0), run.heartbeat(1)):
        path.write_text(f"{text}\n")
    assert "one" in drawn(run)


def test_how_it_stands_is_not_asked_in_each_look(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    looker = Looker(run)
    assert looker.look().row is looker.look().row


def test_no_run_yet_is_said(tmp_path: Path) -> None:
    text = drawn(RunDir(tmp_path / "none"), 200)
    assert "none: no run here" in text
    assert "waiting for it" in text
