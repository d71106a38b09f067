"""`ostinato doctor` says nothing false of this machine, and finds what is really broken, each fault for itself."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from launcher.doctor.apart import Apart
from launcher.doctor.cluster import judge_slurm
from launcher.doctor.command import lines
from launcher.doctor.disk import judge_disk
from launcher.doctor.finding import FAILED, LOST, NOT_BEGUN, OK, WARNING
from launcher.doctor.machine import judge_shared_memory, judge_temporary_files
from launcher.doctor.network import PORT, judge_port
from launcher.doctor.software import EXTRAS, judge_torchvision
from tests.support.jobs import LIMIT_S, ROOT, environment

DOCTOR = [sys.executable, "-m", "launcher", "doctor"]
MARK = "DOCTORS_PATIENT"
# What is mounted there is seen by the command alone, and gone with it.
ALONE = ["unshare", "--mount", "--", "sh", "-c"]


def found(text: str) -> dict[str, dict[str, str]]:
    """The lines of ``--json``, by what was looked at."""
    return {line["check"]: line for line in json.loads(text)}


def marked() -> list[psutil.Process]:
    """The processes that stem from a doctor of these tests."""
    alive = []
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.Error:
            continue
    return alive


def left() -> list[psutil.Process]:
    """Those that are still there after a moment: Python's resource tracker ends a little after whom it serves."""
    end = time.monotonic() + 60
    while (alive := marked()) and time.monotonic() < end:
        time.sleep(0.02)
    return alive


def probed(group: str, options: dict[str, Any], before: str = "", env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """A group's facts, from its own process; where something is to be mounted before, in a mount namespace of its own."""
    command = [sys.executable, "-m", "launcher.doctor.probes", group, json.dumps(options)]
    if before:
        command = [*ALONE, f'{before} exec "$@"', "sh", *command]
    done = subprocess.run(command, env=env or environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, str]], Path]:
    """This machine as it is, and the folder in which that was asked."""
    folder = tmp_path_factory.mktemp("healthy")
    (folder / "tmp").mkdir()
    env = environment(TMPDIR=str(folder / "tmp"), **{MARK: "1"})
    done = subprocess.run([*DOCTOR, "--json"], cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return found(done.stdout), folder


def test_of_this_machine_nothing_is_said_that_is_not_so(healthy: tuple[dict[str, dict[str, str]], Path]) -> None:
    said, folder = healthy
    assert platform.python_version() in said["python"]["found"]
    assert said["torch"]["found"].startswith(f"{torch.__version__}, ")
    assert ("built for the CPU only" in said["torch"]["found"]) == (torch.version.cuda is None and torch.version.hip is None)
    plain = subprocess.run([sys.executable, "-c", "import torchvision; torchvision.ops.nms"], capture_output=True, timeout=LIMIT_S)
    assert (said["torchvision"]["state"] == OK) == (plain.returncode == 0)
    assert importlib.metadata.version("torchvision").partition("+")[0] in said["torchvision"]["found"]
    if not torch.cuda.is_available() and not list(Path("/dev").glob("nvidia[0-9]*")):
        assert said["CUDA"] == {"check": "CUDA", "state": OK, "found": "no GPU: training goes on the CPU", "advice": ""}
    total = float(re.match(r"([\d.]+) [GMT]B", said["memory"]["found"])[1])
    assert total == pytest.approx(psutil.virtual_memory().total / 1e9, rel=0.01)
    assert said["cores"]["found"].startswith(f"{len(os.sched_getaffinity(0)):,} core")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert (f"{soft:,}" if soft != resource.RLIM_INFINITY else "no limit") in said["open files"]["found"]
    kind = subprocess.run(["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=True).stdout.split()[-1]
    assert f" free on {kind}" in said["disk"]["found"]
    assert said["host name"]["found"].startswith(socket.gethostname())


def test_extras_and_slurm_are_here_when_they_are_said_to_be(healthy: tuple[dict[str, dict[str, str]], Path]) -> None:
    said, _ = healthy
    installed = said["extras"]["found"].partition(";")[0]
    for package in (package for _, packages in EXTRAS.values() for package in packages):
        there = importlib.util.find_spec(package) is not None
        assert (f"{package} {importlib.metadata.version(package)}" in installed) if there else (f" {package} " not in installed)
    assert (said["Slurm"]["found"].startswith("not here")) == (shutil.which("squeue") is None)


def test_two_workers_talk_and_one_gives_the_bits_of_two(healthy: tuple[dict[str, dict[str, str]], Path]) -> None:
    said, _ = healthy
    assert {said[name]["state"] for name in ("two workers", "exactness", "loopback", "shared memory", "temporary files")} == {OK}
    assert re.search(r"6 steps on the CPU gave the same bits on one worker and on two \([0-9a-f]{12}\)", said["exactness"]["found"])


def test_nothing_is_left_of_it(healthy: tuple[dict[str, dict[str, str]], Path]) -> None:
    _, folder = healthy
    assert [path.name for path in folder.rglob("*")] == ["tmp"]
    assert left() == []


def test_the_page_shows_what_the_command_prints(healthy: tuple[dict[str, dict[str, str]], Path]) -> None:
    said, _ = healthy
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    sample = re.search(r"\$ ostinato doctor\n(.*?)```", page, re.DOTALL)[1].splitlines()
    shown = {line[9:25].strip(): line for line in sample[:-1]}
    assert list(shown) == [name for name in said if not name.startswith("GPU")]
    for name in ("python", "cores", "open files", "clock", "loopback", "port", "two workers", "exactness"):
        real = f"{said[name]['state']:<8} {name:<15}  {said[name]['found']}"
        assert plain(shown[name]) == plain(real) or said[name]["state"] != OK
    assert sample[-1].startswith("training works here")
    for name in said:
        assert name.startswith("GPU") or f"| {name} |" in page


def plain(line: str) -> str:
    """A line without its numbers and hashes."""
    return re.sub(r"[0-9a-f]{12}|[\d.,:]*\d", "0", line).replace("cores", "core")


BROKEN = """
mkdir small && mount -t tmpfs -o size=256k none small
mount -t tmpfs -o ro none /dev/shm
ulimit -n 256
exec "$@"
"""


def test_many_faults_at_once_are_each_found_and_told_for_themselves(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", "raise ImportError('libcudart.so.99: cannot open shared object file')")
    script(tmp_path / "bin" / "squeue", "echo slurm 23.11.4")
    script(
        tmp_path / "bin" / "sinfo",
        "echo 'sinfo: error: trying' >&2; echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1",
    )
    env = environment(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", PYTHONPATH=f"{tmp_path}:{ROOT}", **{MARK: "1"})
    command = ["unshare", "--net", *ALONE, BROKEN, "sh", *DOCTOR, "--root", "small", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 4, done.stdout + done.stderr
    said = found(done.stdout)
    failed = {name for name, line in said.items() if line["state"] == FAILED}
    assert failed == {"shared memory", "disk", "loopback", "two workers", "exactness"}
    assert "libcudart.so.99" in said["torchvision"]["found"]
    assert said["torchvision"]["state"] == WARNING
    assert said["torchvision"]["advice"] == "install the torchvision release made for this torch"
    assert "Read-only file system" in said["shared memory"]["found"]
    assert said["disk"]["found"] == "small: nothing can be written (No space left on device)"
    assert said["disk"]["advice"].startswith("free some space")
    assert said["loopback"]["advice"] == "as root: ip link set lo up"
    assert (said["open files"]["state"], said["open files"]["found"][:8]) == (WARNING, "only 256")
    assert said["Slurm"]["found"] == "23.11.4, and there is no answer (slurm_load_partitions: Unable to contact slurm controller)"
    assert {said[name]["state"] for name in ("python", "torch", "temporary files")} == {OK}
    assert left() == []


def test_a_broken_torchvision_alone_is_found_with_what_cannot_be_used_and_training_works_without_it(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", "raise ImportError('libcudart.so.99: cannot open shared object file')")
    env = environment(PYTHONPATH=f"{tmp_path}:{ROOT}")
    done = subprocess.run([*DOCTOR, "--json"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    said = found(done.stdout)
    assert said["torchvision"]["state"] == WARNING
    assert "libcudart.so.99" in said["torchvision"]["found"]
    assert "no image folders, and none of its models, data sets and transforms" in said["torchvision"]["found"]
    assert said["torchvision"]["advice"] == "install the torchvision release made for this torch"
    assert {said[name]["state"] for name in ("torch", "two workers", "exactness")} == {OK}  # it has trained


def test_without_loopback_two_workers_do_not_meet_and_the_reason_is_named() -> None:
    done = subprocess.run(
        ["unshare", "--net", *DOCTOR, "--json"], cwd="/", env=environment(), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 4, done.stdout + done.stderr
    said = found(done.stdout)
    assert {name for name, line in said.items() if line["state"] == FAILED} == {"loopback", "two workers", "exactness"}
    assert "Unable to find address for: lo" in said["two workers"]["found"]
    assert "loopback" in said["two workers"]["advice"]
    assert said["exactness"]["found"].startswith("training with two workers failed: rank ")  # one worker needs no network


def test_a_torch_that_kills_its_process_is_one_line_and_the_others_go_on(tmp_path: Path) -> None:
    package(tmp_path, "torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*DOCTOR, "--port", str(port), "--root", str(tmp_path / "runs")],
            cwd=tmp_path,
            env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 4, done.stdout + done.stderr
    said = {line[9:24].strip(): (line[:8].strip(), line[26:]) for line in done.stdout.splitlines()}
    assert said["torch"] == (
        FAILED,
        "the look at it ended by SIGSEGV; install torch 2.10 or newer that is built for this machine (pytorch.org)",
    )
    for name in ("torchvision", "CUDA", "two workers", "exactness"):
        assert said[name] == (WARNING, "not known, as torch does not work")
    assert said["port"] == (
        FAILED,
        f"{port} is taken by another program; for several machines choose another one: --rdzv-endpoint HOST:PORT",
    )
    assert said["disk"][0] in (OK, WARNING)
    assert done.stdout.splitlines()[-1].startswith("training cannot work here as it is: torch, port; ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_in_the_middle_it_ends_at_once_and_cleans_up(number: int, code: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("e")
    (here / "tmp").mkdir()
    env = environment(TMPDIR=str(here / "tmp"), **{MARK: "1"})
    process = subprocess.Popen(DOCTOR, cwd=here, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + LIMIT_S
    # The fork server and its workers, beside the groups.
    while not any("forkserver" in line for line in family(process)) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert err in ("ostinato: interrupted\n", "")
    assert left() == []
    assert [path.name for path in here.rglob("*")] == ["tmp"]


def family(process: subprocess.Popen[str]) -> list[str]:
    """The command lines of the processes below the doctor that still are there."""
    assert process.poll() is None, process.communicate()
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            found.append(" ".join(one.cmdline()))
    return found


def test_a_look_that_never_answers_is_given_up_in_time_and_those_behind_it_are_not_known(tmp_path: Path) -> None:
    package(tmp_path, "torch", "import time; time.sleep(1000)")
    group = Apart("torch", {}, 0.5, environment(PYTHONPATH=f"{tmp_path}:{ROOT}", **{MARK: "1"}))
    try:
        assert group.facts("torch") == {LOST: "no answer within 0.5 s"}
        assert group.facts("CUDA") == {NOT_BEGUN: "the look at torch came to no end"}
    finally:
        group.close()
    assert left() == []


def test_an_answer_that_is_there_is_read_however_late_it_is_asked_for() -> None:
    group = Apart("network", {"port": None}, 0.01, environment())
    assert group.process is not None
    group.process.wait(LIMIT_S)
    assert group.facts("loopback") == {"why": None}
    group.close()


NMS_TRAP = """
import torch
if not hasattr(torch.ops.torchvision, 'nms'):
    raise RuntimeError('operator torchvision::nms does not exist')
__version__ = '0.99.0'
"""


def test_a_torchvision_that_misses_its_operators_is_told_from_a_whole_one_and_a_broken_one(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", NMS_TRAP)
    trap = lines("torchvision", probed("torch", {}, env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"))["torchvision"], judge_torchvision)[0]
    assert (trap.state, trap.found[:8]) == (WARNING, "0.99.0, ")
    assert "operator torchvision::nms does not exist" in trap.found
    assert "models, data sets and transforms work" in trap.found


@pytest.mark.parametrize(
    ("before", "root", "state", "words"),
    [
        ("mkdir ro && mount -t tmpfs -o ro none ro;", "ro", FAILED, "nothing can be written (Read-only file system)"),
        (
            "mkdir ro && mount -t tmpfs -o ro none ro;",
            "ro/new/runs",
            FAILED,
            "(not there yet): nothing can be written (Read-only file system)",
        ),
        ("touch file;", "file", FAILED, "file is a file)"),
        ("touch file;", "file/runs", FAILED, "file is a file)"),
        ("mkdir few && mount -t tmpfs -o nr_inodes=2 none few;", "few", FAILED, "nothing can be written (No space left on device)"),
        ("mkdir tight && mount -t tmpfs -o size=9m none tight;", "tight", WARNING, "9.44 MB free on tmpfs"),
    ],
    ids=["read-only", "below read-only", "a file", "below a file", "no inodes", "little room"],
)
def test_a_folder_for_runs_that_will_not_do_is_told_with_its_reason(before: str, root: str, state: str, words: str, tmp_path: Path) -> None:
    [finding] = lines("disk", probed("disk", {"root": str(tmp_path / root)}, f"cd {tmp_path}; {before}")["disk"], judge_disk)
    assert finding.state == state
    assert words in finding.found
    assert finding.advice
    assert not (tmp_path / "ro" / "new").exists()


NO_SHM = "mkdir {0}/dev && mount -t tmpfs none {0}/dev && cp -a /dev/null /dev/urandom {0}/dev && mount --move {0}/dev /dev;"


@pytest.mark.parametrize(
    ("before", "state", "words"),
    [
        (NO_SHM, FAILED, "no /dev/shm; workers cannot be started"),
        ("mount -t tmpfs -o size=64m none /dev/shm;", WARNING, "67.1 MB free; loader workers hand batches over through it"),
        ("mount -t tmpfs -o size=64k none /dev/shm;", WARNING, "1 MB cannot be written (No space left on device)"),
    ],
    ids=["none", "that of a container", "full"],
)
def test_shared_memory_that_is_missing_or_small_is_told(before: str, state: str, words: str, tmp_path: Path) -> None:
    [finding] = lines("shared memory", probed("machine", {}, before.format(tmp_path))["shared memory"], judge_shared_memory)
    assert (finding.state, words in finding.found, bool(finding.advice)) == (state, True, True), finding


READ_ONLY = (
    "for place in /tmp /var/tmp /usr/tmp; do [ ! -d $place ] || mount --bind $place $place && mount -o remount,bind,ro $place; done;"
)


def test_where_temporary_files_cannot_go_workers_cannot_meet() -> None:
    facts = probed("machine", {}, f"{READ_ONLY} cd /proc;")  # the present folder is the last that is tried
    [finding] = lines("temporary files", facts["temporary files"], judge_temporary_files)
    assert (finding.state, finding.advice) == (FAILED, "set TMPDIR to a folder with room")
    assert "none of the usual folders can be written" in finding.found


def test_a_folder_for_temporary_files_whose_name_leaves_no_room_for_sockets_is_told(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 80)
    folder.mkdir()
    facts = probed("machine", {}, env=environment(TMPDIR=str(folder)))
    [finding] = lines("temporary files", facts["temporary files"], judge_temporary_files)
    assert (finding.state, finding.advice) == (WARNING, "set TMPDIR to a folder with a shorter name")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_fails_when_it_was_asked_for_and_is_free_when_nobody_listens(taken: int) -> None:
    [asked] = lines("port", probed("network", {"port": taken})["port"], judge_port)
    assert (asked.state, asked.found) == (FAILED, f"{taken} is taken by another program")
    free = f"{PORT} is free; whether other machines reach it is not known"
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", PORT)) == 0
    [usual] = lines("port", probed("network", {"port": None})["port"], judge_port)
    assert (usual.state, usual.found) == ((OK, free) if not busy else (WARNING, f"{PORT} is taken by another program"))


SINFO = """
case "$1" in --version) echo slurm 23.11.4;; *) echo 'main*|up|3'; echo 'main*|up|1'; echo 'low|down|2';; esac
"""


@pytest.mark.parametrize(
    ("sacct", "words"),
    [("exit 0", "with accounting"), ("echo 'Slurm accounting storage is disabled' >&2; exit 1", "no accounting"), ("exit 1", "not known")],
)
def test_a_slurm_that_answers_is_told_with_its_partitions_and_its_accounting(sacct: str, words: str, tmp_path: Path) -> None:
    script(tmp_path / "squeue", "echo slurm 23.11.4")
    script(tmp_path / "sinfo", SINFO)
    script(tmp_path / "sacct", sacct)
    env = environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    [finding] = lines("Slurm", probed("slurm", {}, env=env)["Slurm"], judge_slurm)
    assert finding.state == OK
    assert finding.found.startswith("23.11.4 answers; partitions main* (4 nodes), low (2 nodes, down); ")
    assert words in finding.found


def test_a_machine_without_slurm_is_no_fault_and_a_configuration_that_is_not_there_is_one(tmp_path: Path) -> None:
    [finding] = lines("Slurm", probed("slurm", {}, env=environment(PATH=str(tmp_path)))["Slurm"], judge_slurm)
    assert (finding.state, finding.found) == (OK, "not here: submit cannot be used, and all else can")
    script(tmp_path / "squeue", "exit 1")
    script(tmp_path / "sinfo", "echo 'sinfo: fatal: Unable to process configuration file' >&2; exit 1")
    env = environment(PATH=f"{tmp_path}:{os.environ['PATH']}", SLURM_CONF="/none/slurm.conf")
    [finding] = lines("Slurm", probed("slurm", {}, env=env)["Slurm"], judge_slurm)
    assert (finding.state, finding.advice) == (WARNING, "mend it, or unset it")
    assert "SLURM_CONF=/none/slurm.conf" in finding.found


def package(folder: Path, name: str, text: str) -> None:
    """A package of that name that stands before the real one."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text + "\n")


def script(path: Path, text: str) -> None:
    """A program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
