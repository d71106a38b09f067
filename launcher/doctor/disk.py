"""The disk where the runs go: room, a write that reaches it, locks, and whether it is another machine's (free of torch)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from launcher.doctor.finding import FAILED, OK, WARNING, Facts, Finding
from trainer.checkpoint.manifest import human

FIRST_BYTES = 1 << 20
MOST_BYTES = 16 << 20
TRIAL_S = 1.0
LITTLE_ROOM = 10**9
FEW_INODES = 1000
SLOW_BYTES_S = 10 * 10**6
SLOW_SYNC_S = 0.5
CLOCK_S = 5.0
NETWORKS = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "gluster",
    "9p",
    "afs",
    "orangefs",
    "pvfs",
    "wekafs",
    "panfs",
    "sshfs",
)
MEMORY = ("tmpfs", "ramfs")
ELSEWHERE = "use another disk: run.root in the config, --root here"


def look_at_disk(options: Facts) -> dict[str, Any]:
    """Write in the folder, or where it would be made; nothing stays there."""
    root = Path(options["root"])
    place = nearest(root)
    found: dict[str, Any] = {"root": str(root), "there": root.is_dir(), "place": str(place), "type": file_system(place.resolve())}
    if not place.is_dir():
        return {**found, "errno": errno.ENOTDIR, "why": f"{place} is a file"}
    room = os.statvfs(place)
    found |= {"free": room.f_bavail * room.f_frsize, "inodes": room.f_favail if room.f_files else None}
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ostinato-doctor-", dir=place))
        try:
            found |= _write(folder, found["free"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as fault:
        found |= {"errno": fault.errno, "why": fault.strerror or str(fault)}
    return found


def nearest(path: Path) -> Path:
    """The path, or what there is of it."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists() or one == one.parent)


def _write(folder: Path, free: int) -> dict[str, Any]:
    """A small write and a larger one, each on the disk before it counts; then a lock."""
    with open(folder / "small", "xb") as small:
        began = time.monotonic()
        small.write(b"x")
        small.flush()
        os.fsync(small.fileno())
        sync_s, clock = time.monotonic() - began, os.fstat(small.fileno()).st_mtime - time.time()
    with open(folder / "large", "xb") as large:
        began = time.monotonic()
        written = _add(large.fileno(), FIRST_BYTES)
        first_s = max(time.monotonic() - began, 1e-6)
        more = min(MOST_BYTES - FIRST_BYTES, free // 4, int(FIRST_BYTES * (TRIAL_S - first_s) / first_s)) // FIRST_BYTES
        if more > 0:
            written += _add(large.fileno(), more * FIRST_BYTES)
        took_s = max(time.monotonic() - began, 1e-6)
        try:
            fcntl.flock(large.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = None
        except OSError as fault:
            lock = fault.strerror or str(fault)
    return {"bytes": written, "seconds": took_s, "sync_s": sync_s, "lock": lock, "clock_s": clock}


def _add(descriptor: int, size: int) -> int:
    block = os.urandom(FIRST_BYTES)  # zeros might be stored as nothing
    for _ in range(size // FIRST_BYTES):
        left = memoryview(block)
        while left:
            left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)
    return size


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of the file system around a path; None: the system does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found, longest = None, -1
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4].encode().decode("unicode_escape"))
        if len(point.parts) >= longest and path.is_relative_to(point):  # the later of two on one point is the one that is seen
            found, longest = after.split(" ")[0], len(point.parts)
    return found


def kind(name: str | None) -> str:
    """A file system's kind for people."""
    if name is None:
        return "a file system of unknown kind"
    bare = name.removeprefix("fuse.").removeprefix("fuseblk.")
    if bare.startswith(NETWORKS):
        return f"{name}, a network's file system"
    return f"{name}, which may be a network's file system" if name.startswith("fuse") and name != "fuseblk" else name


def judge_disk(facts: Facts) -> Finding:
    """Whether runs can be written there, and how well."""
    where = facts["root"] + ("" if facts["there"] else " (not there yet)")
    if facts.get("why"):
        return Finding("disk", FAILED, f"{where}: nothing can be written ({facts['why']})", _mend(facts))
    if facts["lock"] is not None:
        return Finding("disk", FAILED, f"{where}: files cannot be locked on {kind(facts['type'])} ({facts['lock']})", ELSEWHERE)
    pace = facts["bytes"] / facts["seconds"]
    found = f"{where}: {human(facts['free'])} free on {kind(facts['type'])}; "
    found += f"writes {human(pace)} a second, a small write takes {_time(facts['sync_s'])}"
    advice = []
    if facts["inodes"] is not None and facts["inodes"] < FEW_INODES:
        found += f"; room for {facts['inodes']} more files only"
        advice.append("remove some files")
    if facts["free"] < LITTLE_ROOM:
        advice.append(f"free some space: {human(facts['free'])} hold the checkpoints of a small model only")
    if pace < SLOW_BYTES_S or facts["sync_s"] > SLOW_SYNC_S:
        advice.append("it is slow: save less often (checkpoint.every_s), or " + ELSEWHERE)
    if facts["type"] in MEMORY:
        advice.append("it is memory, and gone with the next start of the machine: " + ELSEWHERE)
    if facts["type"] == "overlay":
        advice.append("in a container it goes with the container: put the runs on a volume")
    return Finding("disk", WARNING if advice else OK, found, "; ".join(advice))


def _mend(facts: Facts) -> str:
    number = facts["errno"]
    if number in (errno.ENOSPC, errno.EDQUOT):
        none_left = facts.get("inodes") == 0
        return ("remove some files, as there may be no more of them" if none_left else "free some space") + f"; or {ELSEWHERE}"
    if number in (errno.EACCES, errno.EPERM):
        return f"it must be a folder of yours; {ELSEWHERE}"
    return ELSEWHERE


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def judge_clock(facts: Facts, now: float) -> Finding:
    """Whether the clock can be right, and the disk's is the same one."""
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < 1735689600:  # 2025-01-01, before there was anything of this
        return Finding("clock", WARNING, f"it says {moment}, which cannot be", "set it: times in logs and reports would be wrong")
    ahead = facts.get("clock_s")
    if ahead is None:
        return Finding("clock", OK, f"{moment}; the disk's is not known")
    if abs(ahead) > CLOCK_S:
        found = f"{moment}; the disk's goes {abs(ahead):.0f} s {'before' if ahead > 0 else 'behind'} it"
        return Finding("clock", WARNING, found, "set both by one time server")
    return Finding("clock", OK, f"{moment}, and the disk's agrees")
