"""Makes the pictures of ``docs/seeing.md`` and ``docs/using.md`` from real runs: ``python docs/record_seeing.py``.

Needs chromium, playwright, and the extra ``serve``.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from sklearn.datasets import load_digits

from launcher.watch.frame import frame
from launcher.watch.glance import Looker
from trainer.rundir import RunDir, read_jsonl

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
CONFIG = "configs/digits.yaml"
QUICK = ("log.every_steps=2", "log.system_every_s=0.5", "checkpoint.every_steps=40", "train.virtual_ranks=4")


def ostinato(*words: str) -> subprocess.Popen[bytes]:
    """Start a command."""
    command = [sys.executable, "-m", "launcher", *words]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)


def train(name: str, workers: int, until: int | None, by: signal.Signals, *more: str) -> None:
    """Train, to the end or until a step."""
    process = ostinato("train", CONFIG, *QUICK, f"run.name={name}", *more, "--nproc-per-node", str(workers))
    run = RunDir(f"runs/{name}")
    while until is not None and process.poll() is None and max((int(row["step"]) for row in read_jsonl(run.metrics)), default=0) < until:
        time.sleep(0.02)
    if until is not None:
        process.send_signal(by)
    process.wait()


def record_watch() -> None:
    """A frame of a run under way."""
    process = ostinato("train", CONFIG, *QUICK, "train.epochs=60", "run.name=live", "--nproc-per-node", "2")
    run = RunDir("runs/live")
    while max((int(row["step"]) for row in read_jsonl(run.metrics)), default=0) < 300:
        time.sleep(0.1)
    console = Console(record=True, width=104, file=io.StringIO(), force_terminal=True)
    console.print(frame(Looker(run).look()))
    process.terminate()
    process.wait()
    picture = console.export_svg(title="ostinato watch runs/live")
    # The picture must not ask the network for a font: any monospaced one will do.
    picture = re.sub(r"<!--.*?-->|@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    (IMAGES / "watch.svg").write_text(picture)


def shoot(browser: Browser, page: str, name: str, *, width: int, height: int, scheme: str = "light", at: str = "") -> None:
    """A screenshot of a page's beginning, or of what begins with an element."""
    opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    opened.goto(f"{Path(page).resolve().as_uri()}{at}")
    opened.wait_for_timeout(300)
    opened.screenshot(path=IMAGES / f"{name}.png")
    opened.close()


def shoot_served(browser: Browser, run: str) -> None:
    """A screenshot of the page on which a run's model has just answered a picture."""
    digit = Image.fromarray((load_digits().images[7] * 15).astype("uint8"))
    digit.resize((320, 320), Image.Resampling.NEAREST).save("seven.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "serve", f"runs/{run}", "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[2]
    opened = browser.new_page(viewport={"width": 1100, "height": 520})
    opened.goto(address)
    opened.locator("#picture input[type=file]").set_input_files("seven.png")
    opened.locator("#answer table").wait_for()
    opened.wait_for_timeout(1000)
    opened.screenshot(path=IMAGES / "serve.png")
    opened.close()
    process.terminate()
    process.wait()


def main() -> None:
    """Train in a temporary folder, and keep the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("configs").symlink_to(ROOT / "configs")
        train("digits", 2, 70, signal.SIGKILL)
        train("digits", 1, 150, signal.SIGTERM)
        train("digits", 2, None, signal.SIGTERM)
        train("faster", 2, None, signal.SIGTERM, "optimizer.lr=0.1", "train.epochs=10")
        ostinato("report", "runs/digits", "-o", "one.html").wait()
        ostinato("report", "runs/digits", "runs/faster", "-o", "two.html").wait()
        record_watch()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            shoot(browser, "one.html", "report-light", width=1200, height=1020)
            shoot(browser, "one.html", "report-dark", width=1200, height=1250, scheme="dark", at="#timeline")
            shoot(browser, "one.html", "report-phone", width=390, height=844)
            shoot(browser, "two.html", "report-compared", width=1200, height=1020)
            shoot_served(browser, "digits")
            browser.close()
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
