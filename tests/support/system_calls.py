"""What a program really asks of the kernel, by strace: it counts without us, so our own count can be compared with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

_KINDS = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), "open"),
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice"), "write"),
    **dict.fromkeys(("fsync", "fdatasync", "sync_file_range", "msync"), "fsync"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
    **dict.fromkeys(("mkdir", "mkdirat"), "mkdir"),
    **dict.fromkeys(("unlink", "unlinkat"), "unlink"),
    **dict.fromkeys(("truncate", "ftruncate", "fallocate"), "truncate"),
    **dict.fromkeys(("chmod", "fchmod", "fchmodat"), "chmod"),
    **dict.fromkeys(("link", "linkat"), "link"),
    **dict.fromkeys(("symlink", "symlinkat"), "symlink"),
    "rmdir": "rmdir",
}
_CALL = re.compile(r"(?:\d+\s+)?(\w+)\((.*)")
LIMIT_S = 240


def available() -> bool:
    """Whether strace is installed."""
    return shutil.which("strace") is not None


def changes(folder: Path, code: str, *arguments: str) -> list[str]:
    """Run Python code, and list the kinds of the calls with which it changed what is below a folder, in order."""
    trace = folder.with_name(folder.name + ".strace")
    command = ["strace", "-f", "-y", "-s", "0", "-o", str(trace), "-e", "trace=" + ",".join(f"?{name}" for name in _KINDS)]
    subprocess.run([*command, sys.executable, "-c", code, *arguments], check=True, timeout=LIMIT_S, cwd=Path(__file__).parents[2])
    lines = [line for line in trace.read_text(errors="replace").splitlines() if str(folder) in line]
    trace.unlink()
    return [kind for line in lines if (kind := _kind(line)) is not None]


def _kind(line: str) -> str | None:
    """The kind of the operation in a line of strace's; None: it changes nothing."""
    call = _CALL.match(line)
    if call is None or call[1] not in _KINDS:
        return None
    if _KINDS[call[1]] == "open" and call[1] != "creat" and not re.search(r"O_CREAT|O_TRUNC", call[2]):
        return None
    return "rmdir" if "AT_REMOVEDIR" in call[2] else _KINDS[call[1]]
