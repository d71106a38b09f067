"""``ostinato watch`` in a real terminal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.seeing.conftest import QUICK
from tests.support import system_calls
from tests.support.jobs import DIGITS, LIMIT_S, ROOT, environment, ostinato, start, wait_for_step
from trainer.errors import BAD_CONFIG, DONE
from trainer.rundir import RunDir, read_jsonl

# Calls that read, or ask about a file; a lock is tried only to see whether somebody holds it. All that are not named here count as changes.
READING = re.compile(
    r"access|faccessat2?|l?stat|fstat|newfstatat|statx|f?statfs|readlink(at)?|read|pread64|lseek|getdents64|ioctl|fcntl|flock|mmap|close"
)
OPENING = ("open", "openat", "openat2")


class Terminal:
    """A terminal of tmux's, in which one command runs; `under`: another that runs it."""

    def __init__(self, folder: Path, *words: str, under: str = "") -> None:
        if shutil.which("tmux") is None:
            (pytest.fail if os.environ.get("OSTINATO_CI") else pytest.skip)("needs tmux: apt-get install -y tmux")
        self.ended = folder / "exit-code"
        self.socket = str(folder / "tmux")
        command = (
            f"PYTHONPATH='{ROOT}' LC_ALL=C.UTF-8 {under} '{sys.executable}' -m launcher {' '.join(words)}; "
            f"echo code $? > '{self.ended}'; sleep 600"
        )
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "40", "-c", str(folder), command)

    def tmux(self, *words: str) -> str:
        # The size in the variables is a false one, as readline leaves it behind, which pytest loads: what counts is the terminal's.
        command = ["tmux", "-u", "-S", self.socket, *words]
        done = subprocess.run(command, env=environment(COLUMNS="70", LINES="24"), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shows(self, pattern: str) -> str:
        """Wait until something is on the screen; the screen."""
        limit, screen = time.monotonic() + LIMIT_S, ""
        while time.monotonic() < limit:
            screen = self.tmux("capture-pane", "-p")
            if re.search(pattern, screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"not on the screen: {pattern}\n{screen}")

    def step(self, above: int = -1) -> int:
        """Wait until a step above that is on the screen; the step."""
        limit, screen = time.monotonic() + LIMIT_S, ""
        while time.monotonic() < limit:
            screen = self.tmux("capture-pane", "-p")
            found = re.search(r"\bstep\s+(\d[\d,]*)", screen)
            if found and (step := int(found[1].replace(",", ""))) > above:
                return step
            time.sleep(0.1)
        raise AssertionError(f"no step above {above} is on the screen\n{screen}")

    def code(self) -> int:
        """Wait for the command's end."""
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            if self.ended.exists() and (text := self.ended.read_text()).endswith("\n"):
                return int(text.split()[1])
            time.sleep(0.1)
        raise AssertionError(self.tmux("capture-pane", "-p"))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens one, and closes it at the end."""
    opened: list[Terminal] = []

    def open_one(*words: str, under: str = "") -> Terminal:
        opened.append(Terminal(tmp_path, *words, under=under))
        return opened[-1]

    yield open_one
    for one in opened:
        one.tmux("kill-server")


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run that takes long; ends what is left of it."""
    started: list[subprocess.Popen[str]] = []

    def train(*words: str) -> subprocess.Popen[str]:
        started.append(start(tmp_path, "train", str(DIGITS), *QUICK, "train.epochs=30000", "run.name=seen", *words))
        return started[-1]

    yield train
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def test_a_run_is_waited_for_watched_through_a_resize_and_shown_at_its_end(
    terminal: Callable[..., Terminal], training: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    screen = terminal("watch", "runs/seen")
    screen.shows(r"runs/seen: no run here[\s\S]*waiting for it")
    process = training("train.virtual_ranks=2", "--nproc-per-node", "2")
    run = RunDir(tmp_path / "runs" / "seen")
    wait_for_step(run, 60, process)
    parts = (
        r"seen  running  2 workers",
        r"epoch [2-9]\d* of 30000",
        r"step\s+[\d,]+\s+of\s+780,000\s+·\s+[\d,]+\s+samples/s\s+·\s+[\w.\s]+left\s+·\s+waiting\s+for\s+data\s+\d+\s+%",
        r"training loss \d",
        "[\u2801-\u28ff]",  # a curve
        r"validation accuracy \d+\.\d\d %",
        r"\n0 +(load|forward|backward|step|save|evaluate) +\d+ +\d+ % +\d+ MiB +\d+ % +\d+ s ago",
        r"checkpoint step-\d+: \d+ s ago",
    )
    screen.shows(r"[\s\S]*".join(parts))
    for width, height in ((50, 20), (20, 8), (160, 50)):
        screen.tmux("resize-window", "-x", str(width), "-y", str(height))
        screen.step(above=screen.step())  # it is drawn anew
        # The name on top and below it a bar as wide as the terminal: nothing is wrapped, nor scrolled away.
        screen.shows(rf"\Aseen  running[^\n]*\n[━╸╺]{{{min(width, 100)}}}\n")
    screen.shows(r"seen  running  2 workers")
    assert ostinato(tmp_path, "stop", str(run.path)).returncode == DONE
    assert process.wait(timeout=LIMIT_S) == 75
    assert screen.code() == DONE
    last = screen.shows("seen  stopped")
    assert "Ctrl-C" not in last


def test_ctrl_c_ends_the_looking_and_the_run_goes_on(
    terminal: Callable[..., Terminal], training: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = training()
    run = RunDir(tmp_path / "runs" / "seen")
    reached = wait_for_step(run, 5, process)
    screen = terminal("watch", "runs/seen")
    screen.shows(r"seen  running")
    screen.tmux("send-keys", "C-c")
    assert screen.code() == DONE
    assert wait_for_step(run, reached + 20, process) >= reached + 20
    process.terminate()
    assert process.wait(timeout=LIMIT_S) == 75
    assert not [row for row in read_jsonl(run.events) if row["event"] in ("stop-requested", "failed")]


def test_looking_at_a_run_that_trains_changes_nothing_and_opens_nothing_for_writing(
    terminal: Callable[..., Terminal], training: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    if not system_calls.available():
        (pytest.fail if os.environ.get("OSTINATO_CI") else pytest.skip)("needs strace: it sees what is opened")
    process = training()
    run, trace = RunDir(tmp_path / "runs" / "seen"), tmp_path / "calls"
    wait_for_step(run, 5, process)
    screen = terminal("watch", "runs/seen", under=f"strace -f -y -s 200 -o '{trace}' -e trace=%file,%desc")
    screen.step(above=screen.step(above=screen.step()))  # three frames and more
    screen.tmux("send-keys", "C-c")
    assert screen.code() == DONE
    here = [line for line in trace.read_text(errors="replace").splitlines() if re.search(r"runs/seen\b", line) and "execve(" not in line]
    for file in ("heartbeats/rank-0.json", "metrics.jsonl", "events.jsonl"):
        assert sum(f'{file}"' in line and "openat(" in line for line in here) >= 3, file
    assert [line for line in here if not reads(line)] == []
    process.terminate()
    assert process.wait(timeout=LIMIT_S) == 75


def reads(line: str) -> bool:
    """Whether a call in a line of strace's leaves what it is about as it was."""
    name = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)", line)[1]
    if name in OPENING:
        return " resumed>" in line or (bool(re.search(r"\bO_RDONLY\b", line)) and not re.search(r"O_CREAT|O_TRUNC|O_TMPFILE", line))
    return READING.fullmatch(name) is not None and "PROT_WRITE" not in line


def test_a_finished_run_is_shown_and_left(terminal: Callable[..., Terminal], killed: RunDir) -> None:
    screen = terminal("watch", str(killed.path))
    assert screen.code() == DONE
    last = screen.tmux("capture-pane", "-p")
    assert "killed  finished" in last
    assert re.search(r"test  loss 0\.\d+ · accuracy \d\d\.\d\d %", last)


def test_once_prints_one_plain_frame(killed: RunDir, folder: Path) -> None:
    for words in (("--once",), ()):  # without a terminal it is the same
        done = ostinato(folder, "watch", str(killed.path), *words)
        assert (done.returncode, done.stderr) == (DONE, "")
        assert done.stdout.startswith("killed  finished")
        assert "\x1b" not in done.stdout
        assert "step 78 of 78" in done.stdout


def test_once_without_a_run_is_one_line(tmp_path: Path) -> None:
    done = ostinato(tmp_path, "watch", "runs/none", "--once")
    assert (done.returncode, done.stdout) == (BAD_CONFIG, "")
    assert done.stderr == "ostinato: runs/none: no run here (it has no config.yaml)\n"


def test_looking_writes_nothing(killed: RunDir, folder: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [killed.path, *killed.path.rglob("*")]}

    before = state()
    assert ostinato(folder, "watch", str(killed.path), "--once").returncode == DONE
    assert state() == before
