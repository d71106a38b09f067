"""Memory, processors, open files, shared memory, temporary files (free of torch)."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import stat
import tempfile
from pathlib import Path
from typing import Any

import psutil

from launcher.doctor.cgroup import cpu_quota, memory_limit
from launcher.doctor.finding import FAILED, OK, WARNING, Facts, Finding, plural
from trainer.checkpoint.manifest import human

SHARED_MEMORY = Path("/dev/shm")
LITTLE_MEMORY = 2 * 10**9
LITTLE_SHARED = 256 * 10**6  # containers get 64 MB unless they ask for more
LITTLE_TEMPORARY = 10 * 10**6
FEW_FILES = 1024  # what systems give at least unless somebody has lowered it
TRIAL_BYTES = 1 << 20
SOCKET_NAME = 107  # characters that a Unix socket's name may have


def look_at_memory(options: Facts) -> dict[str, Any]:
    """The machine's memory, and what this job may have of it."""
    memory, group = psutil.virtual_memory(), memory_limit()
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    return {
        "total": memory.total,
        "available": memory.available,
        "limit": group.limit if group else None,
        "left": group.left if group else None,
        "address_space": None if space == resource.RLIM_INFINITY else space,
    }


def judge_memory(facts: Facts) -> Finding:
    """Whether a few workers fit."""
    total, available, limit = facts["total"], facts["available"], facts["limit"]
    found = f"{human(total)}, {human(available)} available"
    if limit is not None and limit < total:
        available = min(available, facts["left"])
        found += f"; the control group of this job allows {human(limit)}, {human(facts['left'])} left"
    if facts["address_space"] is not None:
        advice = "torch reserves more than it uses, so lift it: ulimit -v unlimited"
        return Finding("memory", WARNING, f"{found}; address space is limited to {human(facts['address_space'])} (ulimit -v)", advice)
    if available < LITTLE_MEMORY:
        return Finding("memory", WARNING, found, "a worker takes 0.5 GB before it has a model or data: few workers, or more memory")
    return Finding("memory", OK, found)


def look_at_cores(options: Facts) -> dict[str, Any]:
    """The processors that this process may use."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"there": os.cpu_count() or may, "may": may, "quota": cpu_quota()}


def judge_cores(facts: Facts) -> Finding:
    """Whether the threads that training starts have processors to run on."""
    there, may, quota = facts["there"], facts["may"], facts["quota"]
    found = plural(may, "core") + (f" of the machine's {there:,}" if may < there else "")
    if quota is not None and quota < may:
        whole = max(1, int(quota))
        advice = f"ostinato counts {plural(may, 'core')}: workers times hardware.threads should be {whole} at most"
        return Finding("cores", WARNING, f"{found}; the control group of this job allows the time of {quota:.3g}", advice)
    return Finding("cores", OK, found)


def look_at_open_files(options: Facts) -> dict[str, Any]:
    """The limit on open files of one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {name: None if limit == resource.RLIM_INFINITY else limit for name, limit in (("soft", soft), ("hard", hard))}


def judge_open_files(facts: Facts) -> Finding:
    """Whether loader workers, which hand each tensor over by a descriptor, will have enough of them."""
    soft, hard = facts["soft"], facts["hard"]
    if soft is None or soft >= FEW_FILES:
        return Finding("open files", OK, f"{'no limit' if soft is None else format(soft, ',')} for each process")
    room = hard is None or hard >= FEW_FILES
    advice = f"ulimit -n {min(hard or 65536, 65536)}" if room else f"the hard limit is {hard:,}: ask the administrator for more"
    return Finding("open files", WARNING, f"only {soft:,} for each process; loader workers need many", advice)


def look_at_shared_memory(options: Facts) -> dict[str, Any]:
    """Whether /dev/shm is there, how large it is, and what can really be made in it."""
    found: dict[str, Any] = {"there": SHARED_MEMORY.is_dir(), "semaphores": None, "write": None}
    if found["there"]:
        room = os.statvfs(SHARED_MEMORY)
        found |= {"total": room.f_blocks * room.f_frsize, "free": room.f_bavail * room.f_frsize}
        found["write"] = _trial(SHARED_MEMORY)
    try:
        multiprocessing.get_context("fork").Lock()  # of this kind it has no name that could be left behind
    except OSError as fault:
        found["semaphores"] = fault.strerror or str(fault)
    return found


def _trial(folder: Path) -> str | None:
    """Write a nameless file there; None, or why it could not be."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, TRIAL_BYTES)  # a write that would not fit into memory is refused, and does not kill
    except OSError as fault:
        return fault.strerror or str(fault)
    return None


def judge_shared_memory(facts: Facts) -> Finding:
    """Whether workers can be started, which need semaphores there, and loader workers can hand over what they read."""
    without = "data.loader_workers=0 does without"
    if facts["semaphores"] is not None:
        found = "no /dev/shm" if not facts["there"] else f"/dev/shm: no semaphore can be made there ({facts['semaphores']})"
        return Finding(
            "shared memory",
            FAILED,
            f"{found}; workers cannot be started",
            "mount a tmpfs there: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    if not facts["there"]:
        return Finding("shared memory", OK, "no /dev/shm here; semaphores work, and loader workers were not tried")
    size = f"/dev/shm: {human(facts['free'])} of {human(facts['total'])} free"
    if facts["write"] is not None:
        return Finding("shared memory", WARNING, f"{size}, and 1 MB cannot be written ({facts['write']})", f"make room there; {without}")
    if facts["free"] < LITTLE_SHARED:
        advice = f"in a container --shm-size=1g or --ipc=host; {without}"
        return Finding("shared memory", WARNING, f"{size}; loader workers hand batches over through it", advice)
    return Finding("shared memory", OK, size)


def look_at_temporary_files(options: Facts) -> dict[str, Any]:
    """Where temporary files go, and whether they can."""
    try:
        folder = Path(tempfile.gettempdir())  # tries to write there
        room = os.statvfs(folder)
    except OSError as fault:
        return {"folder": None, "why": _why(fault), "free": 0, "others": False}
    mode = folder.stat().st_mode
    return {
        "folder": str(folder),
        "why": _trial(folder),
        "free": room.f_bavail * room.f_frsize,
        "others": bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX,
    }


def takes_sockets(folder: str) -> bool:
    """Whether Python's fork server can have its socket below a folder. Pure."""
    return len(os.fsencode(folder)) + len("/pymp-xxxxxxxx/listener-xxxxxxxx") <= SOCKET_NAME


def _why(fault: OSError) -> str:
    return "none of the usual folders can be written" if fault.errno == errno.ENOENT else fault.strerror or str(fault)


def judge_temporary_files(facts: Facts) -> Finding:
    """Whether the launcher and its workers can meet: they do so in a private folder there."""
    other = "set TMPDIR to a folder with room"
    if facts["folder"] is None or facts["why"] is not None:
        return Finding(
            "temporary files", FAILED, f"{facts['folder'] or 'no folder for them'}: {facts['why']}; the workers meet there", other
        )
    found = f"{facts['folder']}: {human(facts['free'])} free"
    if not takes_sockets(facts["folder"]):
        found += "; its name is so long that the socket at which workers are started may have no room behind it"
        return Finding("temporary files", WARNING, found, "set TMPDIR to a folder with a shorter name")
    if facts["others"]:
        return Finding(
            "temporary files", WARNING, f"{found}; others may remove what is yours there", f"chmod +t {facts['folder']}, or {other}"
        )
    return Finding(
        "temporary files", WARNING if facts["free"] < LITTLE_TEMPORARY else OK, found, other if facts["free"] < LITTLE_TEMPORARY else ""
    )
