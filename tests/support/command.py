"""The real command line in a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def command() -> list[str]:
    """The installed `ostinato` beside this Python; the module, where the package is not installed."""
    script = shutil.which("ostinato", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "launcher.cli"]


def environment(**extra: str) -> dict[str, str]:
    """This environment, in which the repository can be imported from any folder."""
    path = os.pathsep.join(p for p in (str(REPOSITORY), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, **extra}


def ostinato(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `ostinato …` in a folder to its end."""
    return subprocess.run(
        [*command(), *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def started(arguments: Sequence[str], *, cwd: Path) -> subprocess.Popen[str]:
    """Start `ostinato …` in a folder, and in a session of its own, as a terminal would."""
    return subprocess.Popen(
        [*command(), *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
