"""Runs a command and draws what it printed as ``docs/images/demo.svg``: ``python docs/record_demo.py``."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
TYPED = "ostinato train configs/digits.yaml --nproc-per-node 2"


def main() -> None:
    """Train in a temporary folder that has the configs, and keep the picture."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "configs").symlink_to(ROOT / "configs")
        command = [sys.executable, "-m", "launcher", *TYPED.split()[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    console = Console(record=True, width=118, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), (TYPED, "bold")))
    console.print(Text(done.stdout.rstrip()))
    picture = console.export_svg(title="ostinato")
    # The picture must not ask the network for a font: any monospaced one will do.
    picture = re.sub(r"<!--.*?-->|@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (ROOT / "docs" / "images" / "demo.svg").write_text(picture)


if __name__ == "__main__":
    main()
