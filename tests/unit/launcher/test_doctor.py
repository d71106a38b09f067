"""What the doctor makes of facts: the right state, and what to do about it; and of files in which the kernel tells them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from launcher.doctor.cgroup import MemoryLimit, cpu_quota, memory_limit
from launcher.doctor.command import closing, lines
from launcher.doctor.disk import file_system, judge_clock, judge_disk, kind, nearest
from launcher.doctor.finding import FAILED, LOST, NOT_BEGUN, OK, WARNING, Finding
from launcher.doctor.machine import judge_cores, judge_memory, judge_open_files
from launcher.doctor.network import judge_host_name, judge_port
from launcher.doctor.probes import GROUPS, answers
from launcher.doctor.software import EXTRAS, PYTHON, TORCH, judge_cuda, judge_extras, judge_python, judge_torch, judge_torchvision
from launcher.doctor.working import CONFIG, judge_exactness, judge_two_workers
from tests.project.test_repository import project

GB = 10**9


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_what_is_needed_is_what_the_package_says() -> None:
    assert project()["requires-python"] == f">={PYTHON[0]}.{PYTHON[1]}"
    assert f"torch>={TORCH[0]}.{TORCH[1]}" in project()["dependencies"]


@pytest.mark.parametrize(
    ("version", "bits", "system", "state"),
    [
        ([3, 9, 18], 64, "Linux", FAILED),
        ([3, 10, 0], 64, "Linux", OK),
        ([3, 13, 1], 32, "Linux", FAILED),
        ([4, 0, 0], 64, "Darwin", WARNING),
    ],
)
def test_python(version: list[int], bits: int, system: str, state: str) -> None:
    facts = {"version": version, "implementation": "CPython", "bits": bits, "system": system, "machine": "x86_64"}
    assert judge_python(facts).state == state


TORCH_FACTS = {"version": "2.13.0+cpu", "cuda": None, "hip": None, "right": True, "distributed": True, "instructions": "AVX2"}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, OK),
        ({"version": "2.9.1"}, FAILED),
        ({"version": "2.10.0a0+git123"}, OK),
        ({"version": "3.0"}, OK),
        ({"version": "local"}, WARNING),
        ({"right": False}, FAILED),
        ({"distributed": False}, FAILED),
    ],
)
def test_torch(change: dict[str, Any], state: str) -> None:
    finding = judge_torch({**TORCH_FACTS, **change})
    assert finding.state == state
    assert bool(finding.advice) == (state != OK)


CUDA = {
    "built": "13.0",
    "hip": None,
    "available": True,
    "why": None,
    "cudnn": 91300,
    "nccl": "2.28.9",
    "shown": 1,
    "hidden_by": None,
    "devices": [{"name": "H", "total": 80 * GB, "free": 79 * GB, "why": None}],
}


def test_gpus_that_work_are_told_with_their_memory_and_their_libraries() -> None:
    assert judge_cuda(CUDA) == [Finding("CUDA", OK, "13.0, cuDNN 91300, NCCL 2.28.9"), Finding("GPU 0", OK, "H, 79 GB of 80 GB free")]
    devices = [{**CUDA["devices"][0], "free": 20 * GB}, {"name": None, "total": None, "free": None, "why": "CUDA error: no kernel image"}]
    _, used, broken = judge_cuda({**CUDA, "devices": devices})
    assert (used.state, used.advice) == (WARNING, "others use it: nvidia-smi shows who")
    assert (broken.check, broken.state) == ("GPU 1", WARNING)
    assert broken.found == "without a name: CUDA error: no kernel image; a worker that gets it fails"


def test_a_gpu_that_does_not_work_keeps_no_other_from_training_and_one_that_is_alone_does() -> None:
    broken = {"name": "H", "total": None, "free": None, "why": "CUDA error: no kernel image"}
    whole = CUDA["devices"][0]
    for devices, states in (([broken, whole], [WARNING, OK]), ([broken], [FAILED]), ([broken, broken], [FAILED, FAILED])):
        gpus = judge_cuda({**CUDA, "shown": len(devices), "devices": devices})[1:]
        assert [gpu.state for gpu in gpus] == states
        assert all("leave it out" in gpu.advice for gpu in gpus if gpu.state != OK)
        assert closing(gpus).startswith("training works here; 1 warning" if OK in states else "training cannot work here")


def test_of_a_small_gpu_what_the_look_itself_takes_is_nobody_elses() -> None:
    for free, state in ((3.4, OK), (2.5, WARNING)):
        device = {"name": "P", "total": 4 * GB, "free": int(free * GB), "why": None}
        assert judge_cuda({**CUDA, "devices": [device]})[1].state == state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"built": None}, "this torch is built without CUDA"),
        ({"why": "The NVIDIA driver on your system is too old"}, "The NVIDIA driver on your system is too old"),
        ({"hidden_by": "GPU-5fe1"}, "torch does not say why (CUDA_VISIBLE_DEVICES=GPU-5fe1)"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told_with_the_reason(change: dict[str, Any], words: str) -> None:
    [finding] = judge_cuda({**CUDA, "available": False, "devices": [], **change})
    assert finding.state == WARNING
    assert words in finding.found
    assert "training goes on the CPU" in finding.found


@pytest.mark.parametrize(
    ("value", "hides"),
    [
        ("", True),
        ("-1", True),
        ("2", True),
        ("NoDevFiles", True),
        ("2,0", True),  # CUDA reads as far as the first that is none
        ("0", False),
        ("1,7", False),
        (" 0 ", False),
        ("GPU-5fe1", False),
    ],
)
def test_what_hides_the_gpus_is_blamed_only_where_it_does_and_torchs_reason_is_always_told(value: str, hides: bool) -> None:
    why = "The NVIDIA driver on your system is too old"
    unusable = {**CUDA, "available": False, "devices": [], "shown": 2, "hidden_by": value}
    for reason in (why, None):
        [finding] = judge_cuda({**unusable, "why": reason})
        assert ("unset it" in finding.advice, "nvidia-smi" in finding.advice) == (hides, not hides)
        assert (why in finding.found) == (reason is not None)
        assert f"CUDA_VISIBLE_DEVICES={value}" in finding.found or not hides


def test_without_a_gpu_training_goes_on_the_cpu_and_that_is_no_fault() -> None:
    assert judge_cuda({**CUDA, "available": False, "devices": [], "shown": 0}) == [Finding("CUDA", OK, "no GPU: training goes on the CPU")]


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, OK, "compiled operators included"),
        ({"helped": True}, WARNING, "ostinato mends its import"),
        ({"operators": "no kernel"}, WARNING, "do not work (no kernel)"),
        ({"why": "torchvision is not installed in this environment; pip install torchvision"}, WARNING, "environment; without it"),
    ],
)
def test_torchvision(change: dict[str, Any], state: str, words: str) -> None:
    finding = judge_torchvision({"version": "0.28.0", "why": None, "helped": False, "operators": None, **change})
    assert (finding.state, words in finding.found, bool(finding.advice)) == (state, True, state != OK)


def test_extras_that_are_missing_are_no_fault_and_named_with_what_brings_them() -> None:
    versions: dict[str, str | None] = {package: None for _, packages in EXTRAS.values() for package in packages}
    none = judge_extras({"versions": versions})
    assert none.state == OK
    assert all(f"ostinato[{extra}]" in none.found for extra in EXTRAS)
    one = judge_extras({"versions": {**versions, "av": "14.0"}})
    assert "installed: av 14.0" in one.found
    assert "ostinato[video]" not in one.found


def test_the_control_groups_around_a_process_are_obeyed_in_both_versions(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job1/step0\n",
            "cg/slurm/job1/memory.max": "4000000000\n",
            "cg/slurm/job1/memory.current": "3000000000\n",
            "cg/slurm/job1/memory.stat": "anon 1\ninactive_file 500000000\n",
            "cg/slurm/job1/step0/memory.max": "max\n",
            "cg/slurm/job1/step0/cpu.max": "max 100000\n",
            "cg/slurm/job1/cpu.max": "150000 100000\n",
        },
    )
    assert memory_limit(tmp_path / "proc", tmp_path / "cg") == MemoryLimit(4 * GB, 3 * GB // 2)
    assert cpu_quota(tmp_path / "proc", tmp_path / "cg") == 1.5


def test_in_a_container_whose_path_is_hidden_the_root_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            "cg/memory/memory.limit_in_bytes": "2000000000\n",
            "cg/memory/memory.usage_in_bytes": "500000000\n",
            "cg/memory/memory.stat": "total_inactive_file 0\n",
            "cg/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "cg/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert memory_limit(tmp_path / "proc", tmp_path / "cg") == MemoryLimit(2 * GB, 3 * GB // 2)
    assert cpu_quota(tmp_path / "proc", tmp_path / "cg") == 2.0


def test_a_system_without_limits_has_none(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu:/\n",
            "cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cg/memory/memory.usage_in_bytes": "1\n",
            "cg/cpu/cpu.cfs_quota_us": "-1\n",
            "cg/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert memory_limit(tmp_path / "proc", tmp_path / "cg") is None
    assert cpu_quota(tmp_path / "proc", tmp_path / "cg") is None
    assert memory_limit(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, OK, "64 GB, 60 GB available"),
        ({"available": GB}, WARNING, "1 GB available"),
        ({"limit": 4 * GB, "left": GB}, WARNING, "allows 4 GB, 1 GB left"),
        ({"limit": 32 * GB, "left": 30 * GB}, OK, "allows 32 GB, 30 GB left"),
        ({"limit": 99 * GB, "left": 99 * GB}, OK, "64 GB, 60 GB available"),
        ({"address_space": 8 * GB}, WARNING, "ulimit -v"),
    ],
)
def test_memory(change: dict[str, Any], state: str, words: str) -> None:
    finding = judge_memory({"total": 64 * GB, "available": 60 * GB, "limit": None, "left": None, "address_space": None, **change})
    assert (finding.state, words in finding.found) == (state, True)


def test_cores_and_open_files() -> None:
    assert judge_cores({"there": 8, "may": 8, "quota": None}) == Finding("cores", OK, "8 cores")
    assert judge_cores({"there": 8, "may": 2, "quota": 2.0}).found == "2 cores of the machine's 8"
    tight = judge_cores({"there": 8, "may": 8, "quota": 2.5})
    assert (tight.state, "workers times hardware.threads should be 2 at most" in tight.advice) == (WARNING, True)
    assert judge_open_files({"soft": 1024, "hard": 4096}).state == OK
    assert judge_open_files({"soft": None, "hard": None}).found == "no limit for each process"
    assert judge_open_files({"soft": 256, "hard": 4096}).advice == "ulimit -n 4096"
    assert "administrator" in judge_open_files({"soft": 256, "hard": 512}).advice


MOUNTS = """21 1 259:2 / / rw - ext4 /dev/root rw
30 21 0:50 / /scratch rw - nfs4 server:/scratch rw
31 30 0:51 / /scratch/with\\040space rw - tmpfs none rw
32 21 0:52 / /over rw - ext4 /dev/a rw
33 21 0:53 / /over rw - lustre a rw
"""


def test_the_file_system_of_a_path_is_that_of_the_newest_mount_around_it(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    places = {"/data/me": "ext4", "/scratch/me": "nfs4", "/scratch/with space/x": "tmpfs", "/over": "lustre", "/scratches": "ext4"}
    assert {place: file_system(Path(place), tmp_path / "mounts") for place in places} == places
    assert file_system(Path("/"), tmp_path / "none") is None
    assert kind("nfs4") == "nfs4, a network's file system"
    assert kind("fuse.gcsfuse") == "fuse.gcsfuse, which may be a network's file system"
    assert kind("ext4") == "ext4"


def test_what_there_is_of_a_path(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert nearest(Path("/")) == Path("/")


DISK = {
    "root": "runs",
    "there": True,
    "place": "/runs",
    "type": "ext4",
    "free": 50 * GB,
    "inodes": 10**6,
    "bytes": 16 << 20,
    "seconds": 0.1,
    "sync_s": 0.01,
    "lock": None,
    "clock_s": 0.0,
}


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, OK, ""),
        ({"inodes": None}, OK, ""),
        ({"inodes": 3}, WARNING, "remove some files"),
        ({"free": GB // 2}, WARNING, "free some space"),
        ({"seconds": 10.0}, WARNING, "save less often (checkpoint.every_s)"),
        ({"sync_s": 2.0}, WARNING, "save less often"),
        ({"type": "tmpfs"}, WARNING, "it is memory"),
        ({"type": "overlay"}, WARNING, "put the runs on a volume"),
        ({"lock": "No locks available", "type": "nfs"}, FAILED, "use another disk"),
        ({"errno": errno.ENOSPC, "why": "No space left on device", "inodes": 0}, FAILED, "remove some files"),
        ({"errno": errno.EDQUOT, "why": "Disk quota exceeded"}, FAILED, "free some space"),
        ({"errno": errno.EACCES, "why": "Permission denied"}, FAILED, "a folder of yours"),
    ],
)
def test_a_disk(change: dict[str, Any], state: str, words: str) -> None:
    finding = judge_disk({**DISK, **change})
    assert (finding.state, words in finding.advice, bool(finding.advice)) == (state, True, state != OK)


def test_a_clock() -> None:
    now = 1783000000.0
    assert judge_clock(DISK, now).state == OK
    assert "is not known" in judge_clock({}, now).found
    assert judge_clock({"clock_s": -30.0}, now).found.endswith("the disk's goes 30 s behind it")
    assert judge_clock(DISK, 1000.0).state == WARNING


@pytest.mark.parametrize(
    ("addresses", "state"),
    [(["10.0.0.7"], OK), (["127.0.1.1"], WARNING), (["::1", "127.0.0.1"], WARNING), (["fe80::1%eth0", "127.0.1.1"], OK), ([], WARNING)],
)
def test_a_host_name(addresses: list[str], state: str) -> None:
    finding = judge_host_name({"name": "n1", "addresses": addresses, "why": None if addresses else "Name or service not known"})
    assert (finding.state, finding.found.startswith("n1 ")) == (state, True)


def test_a_usual_port_that_is_taken_is_a_warning_and_one_that_was_asked_for_a_fault() -> None:
    taken = {"port": 29400, "errno": errno.EADDRINUSE, "why": "Address already in use"}
    assert [judge_port({**taken, "asked": asked}).state for asked in (False, True)] == [WARNING, FAILED]
    assert "Permission denied" in judge_port({"port": 80, "asked": True, "errno": errno.EACCES, "why": "Permission denied"}).found


def test_a_wrong_sum_and_other_bits_are_faults() -> None:
    assert judge_two_workers({"why": None, "sums": [3.0, 3.0], "seconds": 1.0}).state == OK
    assert judge_two_workers({"why": None, "sums": [2.0, 3.0], "seconds": 1.0}).state == FAILED
    same = {"why": None, "weights": ["a" * 64, "a" * 64], "steps": 6, "seconds": 1.0}
    assert judge_exactness(same).state == OK
    assert judge_exactness({**same, "weights": ["a" * 64, "b" * 64]}).state == FAILED
    assert CONFIG["train"]["virtual_ranks"] == 2


def test_a_variable_that_keeps_workers_from_meeting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    assert "unset GLOO_SOCKET_IFNAME" in judge_two_workers({"why": "no address", "sums": None, "seconds": None}).advice


def test_a_look_that_came_to_nothing_is_a_line_and_fails_only_what_training_needs() -> None:
    def judge(facts: Any) -> Finding:
        raise ZeroDivisionError("division by zero")

    [needed] = lines("torch", {LOST: "ended by SIGSEGV"}, judge)
    assert (needed.state, needed.found, bool(needed.advice)) == (FAILED, "ended by SIGSEGV", True)
    assert lines("extras", {LOST: "OSError"}, judge) == [Finding("extras", WARNING, "not known: OSError")]
    [pictures] = lines("torchvision", {LOST: "ended by SIGSEGV"}, judge)
    assert (pictures.state, pictures.found[:46], bool(pictures.advice)) == (WARNING, "ended by SIGSEGV; without it there are no imag", True)
    assert lines("CUDA", {NOT_BEGUN: "torch does not work"}, judge) == [Finding("CUDA", WARNING, "not known, as torch does not work")]
    assert lines("cores", {"there": 0}, judge) == [Finding("cores", WARNING, "not known: ZeroDivisionError: division by zero")]


def test_each_look_of_this_process_answers() -> None:
    found = dict(answers("machine", {}))
    assert list(found) == [probe.name for probe in GROUPS["machine"]]
    assert not any(LOST in facts for facts in found.values())


def test_the_last_line_says_whether_training_works() -> None:
    assert closing([Finding("a", OK, "")]) == "training works here"
    assert closing([Finding("a", WARNING, ""), Finding("b", OK, "")]) == "training works here; 1 warning"
    both = [Finding("a", WARNING, ""), Finding("b", FAILED, ""), Finding("c", FAILED, "")]
    assert closing(both) == "training cannot work here as it is: b, c; 1 warning"
