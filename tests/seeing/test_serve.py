"""``ostinato serve``: the page as a person meets it, in a real browser, on models that were really trained."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.browser import CONTRAST
from tests.support.image_files import write_folder, write_kinds
from tests.support.jobs import LIMIT_S, ROOT, ostinato, start
from tests.using.runs import trained

READABLE = 4.5  # WCAG AA
SHORT: dict[str, Any] = {"optimizer": {"target": "sgd", "lr": 0.1, "momentum": 0.9}, "train": {"epochs": 4}}
TENSORS = [{"target": "to_tensor"}]
RUNS: dict[str, dict[str, Any]] = {
    "photos": {
        "model": {"target": "cnn", "in_channels": 3, "num_classes": 2, "width": 4},
        "data": {
            "train": {"target": "image_folder", "root": "photos"},
            "valid_fraction": 0.25,
            "batch_size": 8,
            "train_transforms": TENSORS,
            "eval_transforms": TENSORS,
        },
    },
    "orders": {
        "model": {"target": "mlp", "in_features": 8, "num_classes": 2, "hidden": []},
        "data": {"train": {"target": "bag_of_words", "path": "orders.csv", "max_features": 8}, "batch_size": 8},
    },
    "levels": {
        "model": {"target": "mlp", "in_features": 2, "num_classes": 2, "hidden": 8},
        "data": {"train": {"target": "csv_table", "path": "levels.csv", "predict": "level"}, "batch_size": 8},
    },
}
# Python tells of each connection and each look-up of a name.
LISTENS = """
import os, sys
def note(event, words, file=os.environ["CONNECTIONS"]):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        with open(file, "a") as log:
            log.write(f"{words[1] if event != 'socket.getaddrinfo' else words[:2]}\\n")
sys.addaudithook(note)
"""


class Served(NamedTuple):
    """A page that is served."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    connections: Path

    def uploads(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@contextmanager
def served(folder: Path, run: str, by: signal.Signals = signal.SIGTERM) -> Iterator[Served]:
    """Serve a run; at the end it is asked to go, and must do so without a word."""
    place = folder / f"serve-{run}"
    temporary, connections = place / "tmp", place / "connections"
    temporary.mkdir(parents=True)
    (place / "sitecustomize.py").write_text(LISTENS)
    more = {"TMPDIR": str(temporary), "PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "CONNECTIONS": str(connections), "GRADIO_SHARE": "true"}
    process = start(folder, "serve", f"runs/{run}", "--port", "0", **more)
    watchdog = threading.Timer(LIMIT_S, process.kill)
    watchdog.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    watchdog.cancel()
    found = re.fullmatch(rf"runs/{run} \(step-\d+\): (http://127\.0\.0\.1:\d+/)  Ctrl-C ends it\n", line)
    assert found is not None, line + process.communicate(timeout=LIMIT_S)[1]
    try:
        yield Served(found[1], process, temporary, connections)
    finally:
        process.send_signal(by)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(temporary.glob("ostinato-serve-*")) == []
    spoken = connections.read_text().splitlines() if connections.exists() else []
    assert [one for one in spoken if "127.0.0.1" not in one and not one.startswith(("/", "b'/"))] == []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs on pictures, on texts and on numbers."""
    folder = tmp_path_factory.mktemp("serving")
    write_folder(folder / "photos", per_class=24, size=(16, 16))
    lines = [f"please send {what} number {i},{what}" for i in range(16) for what in ("bread", "<b>milk</b>")]
    (folder / "orders.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    rows = [f"{i},{32 - i},{'high' if i > 16 else 'low'}" for i in range(32)]
    (folder / "levels.csv").write_text("\n".join(["left,right,level", *rows]) + "\n")
    with ThreadPoolExecutor(len(RUNS)) as at_once:
        list(at_once.map(lambda name: trained(folder, name, {**RUNS[name], **SHORT}), RUNS))
    return folder


@pytest.fixture(scope="module")
def photos(home: Path) -> Iterator[Served]:
    """The page of the run on pictures."""
    with served(home, "photos") as page:
        yield page


@pytest.fixture(scope="module")
def pictures(home: Path) -> dict[str, Path]:
    """Pictures for the page, by what is seen of them."""
    kinds = write_kinds(home / "kinds")
    strange = {name: kinds[name] for name in ("sixteen", "clear_palette", "cmyk.tif", "turned")}
    return {"ants": home / "photos/ants/1.png", "bees": home / "photos/bees/2.png", **strange}


@pytest.fixture(scope="module")
def sayings(home: Path, pictures: dict[str, Path]) -> dict[str, str]:
    """What ``ostinato predict`` says to each of them."""
    return dict(zip(pictures, predicted(home, "photos", *pictures.values()), strict=True))


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end nothing has gone wrong in it, and nothing was asked of another machine."""
    noise: list[str] = []
    opened: list[Any] = []

    def open_page(page: Served, **options: Any) -> Any:
        tab = browser.new_page(**{"viewport": {"width": 1100, "height": 700}, **options})
        opened.append(tab)
        tab.set_default_timeout(1000 * LIMIT_S)
        tab.on("console", lambda said: noise.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda fault: noise.append(str(fault)))
        tab.on("request", lambda asked: noise.append(asked.url) if not asked.url.startswith((page.url, "data:", "blob:")) else None)
        tab.on("response", lambda given: noise.append(f"{given.status} {given.url}") if given.status >= 400 else None)
        tab.goto(page.url)
        tab.get_by_text("The answer will stand here.").wait_for()
        return tab

    yield open_page
    for tab in opened:
        tab.close()
    assert noise == []


def answer(tab: Any, name: str) -> str:
    """What the page says to an input, in the form of ``ostinato predict``'s lines; or what is wrong with it."""
    told = tab.locator("#answer table, #answer .problem").filter(has_text=name)
    told.wait_for()
    if told.evaluate("e => e.matches('.problem')"):
        return str(told.inner_text())
    rows = told.locator("tbody tr").all()
    return "  ".join(f"{row.locator('th').inner_text()} {row.locator('.share').inner_text()}" for row in rows)


def upload(tab: Any, path: Path) -> str:
    """Drop a picture on the page, where another one may be: the answer."""
    tab.locator("#picture input[type=file]").set_input_files(path)
    found = answer(tab, path.name)
    tab.get_by_label("Remove Image").click()
    tab.get_by_text("The answer will stand here.").wait_for()
    return found


def predicted(folder: Path, run: str, *files: Path) -> list[str]:
    """What ``ostinato predict`` says."""
    done = ostinato(folder, "predict", f"runs/{run}", *map(str, files))
    assert done.returncode == 0, done.stderr
    return [line.partition("  ")[2] for line in done.stdout.splitlines()]


def test_a_dropped_picture_of_any_kind_is_answered_as_predict_answers_it(
    photos: Served, pictures: dict[str, Path], sayings: dict[str, str], look: Callable[..., Any]
) -> None:
    tab = look(photos)
    assert {name: upload(tab, path) for name, path in pictures.items()} == sayings
    assert [sayings[name].partition(" ")[0] for name in ("ants", "bees")] == ["ants", "bees"]


def test_what_is_no_picture_is_said_on_the_page_and_the_next_one_is_answered(
    tmp_path: Path, photos: Served, pictures: dict[str, Path], sayings: dict[str, str], look: Callable[..., Any]
) -> None:
    good = pictures["ants"]
    torn, text, vast = (tmp_path / name for name in ("torn.png", "text.jpg", "vast.png"))
    torn.write_bytes(good.read_bytes()[:300])
    text.write_text("no picture")
    size = b"IHDR" + struct.pack(">IIBBBBB", 200_000_000, 1, 8, 0, 0, 0, 0)
    vast.write_bytes(good.read_bytes()[:12] + size + struct.pack(">I", zlib.crc32(size)) + good.read_bytes()[33:])
    tab = look(photos)
    assert upload(tab, torn) == "torn.png cannot be used: image file is truncated"
    assert upload(tab, text) == "text.jpg cannot be used: no image, or of a kind that is not known"
    assert upload(tab, vast).startswith("vast.png cannot be used: Image size (200000000 pixels) exceeds limit")
    assert upload(tab, good) == sayings["ants"]


def test_a_file_that_is_too_long_is_refused_on_the_page(tmp_path: Path, photos: Served, browser: Any) -> None:
    (tmp_path / "long.png").write_bytes(bytes(51_000_000))
    tab = browser.new_page()
    tab.set_default_timeout(1000 * LIMIT_S)
    tab.goto(photos.url)
    tab.locator("#picture input[type=file]").set_input_files(tmp_path / "long.png")
    tab.get_by_text("maximum allowed size").first.wait_for()
    tab.close()


def test_two_people_are_answered_at_the_same_time(
    photos: Served, pictures: dict[str, Path], sayings: dict[str, str], look: Callable[..., Any]
) -> None:
    tabs = {name: look(photos) for name in ("ants", "bees")}
    for name, tab in tabs.items():
        tab.locator("#picture input[type=file]").set_input_files(pictures[name])
    for name, tab in tabs.items():
        assert answer(tab, pictures[name].name) == sayings[name]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_and_heard_in_light_and_dark_and_on_a_phone(
    photos: Served, pictures: dict[str, Path], look: Callable[..., Any], scheme: str
) -> None:
    tab = look(photos, color_scheme=scheme, viewport={"width": 360, "height": 700})
    assert (tab.title(), tab.evaluate("document.documentElement.lang")) == ("photos · ostinato", "en")
    assert tab.get_by_role("heading", level=1).inner_text() == "photos"
    tab.locator("#picture input[type=file]").set_input_files(pictures["ants"])
    answer(tab, "1.png")
    assert tab.locator("#answer").get_attribute("aria-live") == "polite"
    assert tab.evaluate("[...document.querySelectorAll('button')].every(one => one.ariaLabel || one.innerText.trim())")
    assert tab.evaluate("[...document.querySelectorAll('img')].every(one => one.hasAttribute('alt'))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    found = tab.evaluate(CONTRAST)
    assert len(found) > 8
    assert [worst for worst in found if worst[0] < READABLE] == []
    bright = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(part => part > 200)")
    assert bright == (scheme == "light")


def test_the_page_gives_out_no_file_and_fetches_none(home: Path, photos: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{photos.url}gradio_api/file={home / 'runs/photos/config.yaml'}")
    assert refused.value.code in (403, 404)
    refused.value.close()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        for path in (f"http://localhost:{elsewhere.getsockname()[1]}/1.png", str(home / "photos/ants/1.png")):
            sent = {"fn_index": 0, "session_hash": "s", "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
            asked = urllib.request.Request(
                f"{photos.url}gradio_api/queue/join", json.dumps(sent).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked):
                pass
            with urllib.request.urlopen(f"{photos.url}gradio_api/queue/data?session_hash=s", timeout=LIMIT_S) as stream:
                told = next(line.decode() for line in stream if b"process_completed" in line)
            assert '"success":false' in told, told
        elsewhere.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_text_is_answered_as_predict_answers_it_and_ctrl_c_ends_the_page(home: Path, tmp_path: Path, look: Callable[..., Any]) -> None:
    text = "please send milk, and number 3"
    (tmp_path / "text.txt").write_text(text)
    with served(home, "orders", by=signal.SIGINT) as page:
        tab = look(page)
        tab.get_by_label("Text", exact=True).fill(text)
        tab.get_by_role("button", name="Ask the model").click()
        shown = answer(tab, "the text")
        tab.close()
    assert [shown] == predicted(home, "orders", tmp_path / "text.txt")
    assert "<b>milk</b> " in shown  # a class's name is no part of the page


def test_numbers_have_a_field_for_each_column_and_an_open_page_does_not_keep_the_server(
    home: Path, tmp_path: Path, look: Callable[..., Any]
) -> None:
    (tmp_path / "row.csv").write_text("left,right\n30,2.5\n")
    with served(home, "levels") as page:
        tab = look(page)
        tab.get_by_label("left").fill("30")
        tab.get_by_label("right").fill("two")
        tab.get_by_role("button", name="Ask the model").click()
        assert answer(tab, "cannot be used") == "the input cannot be used: right: 'two' is no number"
        tab.get_by_label("right").fill("2.5")
        tab.get_by_role("button", name="Ask the model").click()
        assert [answer(tab, "What the model says to the row")] == predicted(home, "levels", tmp_path / "row.csv")
        tab.route("**", lambda route: route.abort())  # it looks for its server again and again


def test_a_port_that_is_taken_and_an_address_that_is_none_are_said_at_once(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = ostinato(home, "serve", "runs/photos", "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"command line: --port={port}: taken; name another, or 0 for any that is free\n"
    done = ostinato(home, "serve", "runs/photos", "--host", "203.0.113.7", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("command line: --host=203.0.113.7: cannot listen there")


def test_what_cannot_be_served_is_one_line(home: Path, tmp_path: Path) -> None:
    done = ostinato(home, "serve", "runs/none")
    assert (done.returncode, done.stderr) == (2, "ostinato: runs/none: no run here (it has no config.yaml)\n")
    done = ostinato(home, "serve", "runs/photos", "--checkpoint", "step-9", "--port", "0")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gradio'] = None\n")
    process = start(home, "serve", "runs/photos", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (2, "")
    assert err == "command line: serve: needs gradio, which is not installed; pip install 'ostinato[serve]'\n"


def test_another_address_lets_others_in_and_says_so_and_a_request_during_the_start_ends_it(home: Path) -> None:
    process = start(home, "serve", "runs/photos", "--host", "0.0.0.0", "--port", "0")
    assert process.stderr is not None
    warning = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (0, "", "")
    assert warning.startswith("ostinato: --host=0.0.0.0: whoever reaches this machine can use the page")


def test_an_upload_is_gone_soon_after_it_was_used(photos: Served) -> None:
    (folder,) = photos.temporary.glob("ostinato-serve-*")
    assert folder.stat().st_mode & 0o077 == 0
    limit = time.monotonic() + LIMIT_S
    while photos.uploads():
        assert time.monotonic() < limit, photos.uploads()
        time.sleep(0.5)
