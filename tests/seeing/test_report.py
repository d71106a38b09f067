"""``ostinato report`` of real runs, as a file."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.seeing.conftest import QUICK
from tests.support.jobs import DIGITS, LIMIT_S, environment, events, kill_all, ostinato, start, weights
from tests.support.slurm_cluster import wait_until
from trainer.errors import BAD_CONFIG, DONE
from trainer.rundir import RunDir, read_json, read_jsonl


class Words(HTMLParser):
    """The page's text without its drawings, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.addresses, self.inside = "", list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.text += data


def page_of(run: RunDir, *more: str) -> Words:
    done = ostinato(run.path.parent.parent, "report", str(run.path), *more)
    assert (done.returncode, done.stderr) == (DONE, "")
    path = Path(done.stdout.splitlines()[0].removeprefix("report: "))
    return Words(path.read_text(encoding="utf-8"))


def test_the_report_of_a_killed_and_resumed_run_tells_its_result_its_starts_and_its_hashes(killed: RunDir) -> None:
    words = page_of(killed)
    assert (killed.path / "report.html").is_file()
    tested = read_json(killed.evaluation("test"))
    assert f"{100 * tested['accuracy']:.2f} %" in words.text
    assert "finished" in words.text
    assert re.search(r"Attempt 0 2 workers, from the beginning, .* killed or lost", words.text)
    assert re.search(r"Attempt 1 1 worker, from step-\d+, .* finished", words.text)
    assert weights(killed) in words.text
    assert all(row["weights"] in words.text for row in events(killed, "checkpointed"))
    assert "Confusion matrix of the test set" in words.text
    assert "train.virtual_ranks=2" in words.text


def test_the_page_refers_to_nothing_outside_itself(killed: RunDir) -> None:
    words = page_of(killed)
    assert words.addresses
    assert all(address.startswith(("#", "data:")) for address in words.addresses)


def test_predictions_are_shown_with_their_pictures_and_wrong_ones_first(killed: RunDir) -> None:
    kept = read_json(killed.samples("test"))["samples"]
    assert kept
    assert all(sample["picture"].startswith("data:image/png;base64,") for sample in kept)
    assert sorted(sample["right"] for sample in kept) == [sample["right"] for sample in kept]
    assert all(sample["right"] == (sample["guesses"][0]["label"] == sample["truth"]) for sample in kept)
    assert sum(address.startswith("data:image/png") for address in page_of(killed).addresses) == len(kept)


def test_several_runs_are_compared_in_one_page(killed: RunDir, other: RunDir, folder: Path) -> None:
    done = ostinato(folder, "report", str(killed.path), str(other.path), str(killed.path), "--output", "both.html")
    assert (done.returncode, done.stdout) == (DONE, "report: both.html\n")
    text = Words((folder / "both.html").read_text(encoding="utf-8")).text
    assert "2 runs compared" in text
    assert re.search(r"optimizer\.lr0\.050\.1", text)
    assert re.search(r"train\.epochs32", text)


def test_pictures_are_drawn_on_request(killed: RunDir, folder: Path) -> None:
    done = ostinato(folder, "report", str(killed.path), "-o", "drawn.html", "--png", "pictures")
    assert (done.returncode, done.stderr) == (DONE, "")
    from PIL import Image

    drawn = {path.name for path in (folder / "pictures").iterdir()}
    assert {"loss.png", "accuracy.png", "lr.png", "grad_norm.png", "confusion-test.png"} <= drawn
    for name in drawn:
        with Image.open(folder / "pictures" / name) as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10  # something is drawn


@pytest.fixture
def copy(killed: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(killed.path, tmp_path / "runs" / "copy")
    return RunDir(tmp_path / "runs" / "copy")


def test_torn_files_are_said_and_the_rest_is_told(copy: RunDir) -> None:
    with open(copy.metrics, "ab") as file:
        file.write(b'{"time": 17')
    copy.environment.write_bytes(b"[{")
    copy.evaluation("test").write_bytes(b"\x00\xff")
    copy.samples("test").write_text('{"samples": [{"guesses": 3, "picture": "javascript:alert(1)"}, 7]}')
    words = page_of(copy)
    assert "Not all could be read." in words.text
    assert f"{copy.metrics}: 1 line is torn; left out" in words.text
    assert "test accuracy" in words.text
    assert not any("javascript" in address for address in words.addresses)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"time": "x", "event": 7, "step": []}\n', "\x00" * 50, '{"a":' * 3000, '{"samples": [{"guesses": ["x"]}]}']
)
def test_files_that_say_anything_at_all_are_no_traceback(copy: RunDir, text: str) -> None:
    for path in (copy.metrics, copy.system, copy.environment, copy.events, copy.inputs, copy.evaluation("test"), copy.samples("test")):
        path.write_text(text)
    assert "copy" in page_of(copy).text


def test_a_failed_run_says_why(copy: RunDir) -> None:
    lines = [line for line in copy.events.read_text().splitlines() if '"finished"' not in line]
    copy.events.write_text("\n".join(lines) + "\n")
    copy.event("failed", attempt=1, exit_code=4, reason="step 9: the loss is <NaN>")
    words = page_of(copy)
    assert "failed (exit 4)" in words.text.replace("✕", "").replace("  ", " ")
    assert "step 9: the loss is <NaN>" in words.text
    assert "This is how it stood at" in words.text


def test_a_run_that_has_only_been_created_has_a_report(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "new")
    run.create()
    run.config.write_text("train: {epochs: 3}\n")
    run.event("created", config="x.yaml", overrides=[])
    text = page_of(run).text
    assert "created, not begun" in text
    assert "Nothing has been measured yet." in text


def test_what_is_no_run_or_cannot_be_written_is_one_line(killed: RunDir, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    for words, said in (
        ((str(tmp_path / "nowhere"),), "no run here"),
        ((str(killed.path), "-o", str(tmp_path)), "a folder; name a file"),
        ((str(killed.path), "-o", str(tmp_path / "mine.html")), "is there already, is no report, and is left alone"),
        ((str(killed.path), "-o", str(tmp_path / "no" / "where.html")), "cannot be written (No such file or directory)"),
    ):
        done = ostinato(tmp_path, "report", *words)
        assert done.returncode == BAD_CONFIG
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr


def test_without_matplotlib_pictures_are_refused_before_anything_is_written(killed: RunDir, tmp_path: Path) -> None:
    hide = "import sys; sys.modules['matplotlib'] = None; from launcher.cli import main; sys.exit(main())"
    words = ["report", str(killed.path), "-o", str(tmp_path / "x.html"), "--png", str(tmp_path / "pictures")]
    command = [sys.executable, "-c", hide, *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == BAD_CONFIG
    assert "pip install 'ostinato[report]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_million_rows_are_thinned_and_no_peak_is_lost(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "long")
    run.create()
    run.config.write_text("train: {epochs: 3}\n")
    with open(run.metrics, "w", encoding="utf-8") as file:
        for step in range(1, 1_000_001):
            loss = 9.75 if step == 654_321 else 1.0
            file.write(f'{{"time": {step}.0, "attempt": 0, "step": {step}, "epoch": 0, "split": "train", "loss": {loss}}}\n')
    words = page_of(run)
    assert (run.path / "report.html").stat().st_size < 300_000
    assert "9.75 at 654,321" in words.text


def test_the_time_spent_waiting_for_data_is_measured_on_every_rank(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "long")
    words = ("train", str(DIGITS), *QUICK, "train.epochs=10000", "train.virtual_ranks=2", "run.name=long")

    def measured() -> list[dict[str, float]]:
        return [figure for row in read_jsonl(run.system) for figure in row["ranks"] if figure["waited_s"] > 0]

    process = start(tmp_path, *words, "--nproc-per-node", "2")
    try:
        wait_until("both ranks are measured", lambda: {figure["rank"] for figure in measured()} == {0, 1}, LIMIT_S)
    finally:
        kill_all(process)
    assert all(figure["waited_s"] < LIMIT_S and 0 < figure["worked_s"] < LIMIT_S for figure in measured())
    assert "Waiting for data" in page_of(run).text


@pytest.fixture(scope="module")
def swept(killed: RunDir, other: RunDir, folder: Path) -> Path:
    """A sweep's folder around two runs, one of which has not begun."""
    about = folder / "runs" / "_sweeps" / "both"
    about.mkdir(parents=True)
    values = [("killed", "0.05", "a"), ("other", "0.1", "<b>"), ("later", "0.2", "a")]
    points = [{"run": name, "values": {"optimizer.lr": rate, "model.note": note}} for name, rate, note in values]
    (about / "sweep.json").write_text(json.dumps({"config": "digits.yaml", "overrides": [], "points": points}))
    return about


def test_the_report_of_a_sweep_ranks_its_runs_and_shows_what_came_of_each_value(swept: Path, killed: RunDir, other: RunDir) -> None:
    done = ostinato(swept.parents[2], "report", str(swept))
    assert (done.returncode, done.stderr) == (DONE, "")
    written = (swept / "report.html").read_text(encoding="utf-8")
    words = Words(written)
    best = {run.name: min(row["loss"] for row in read_jsonl(run.metrics) if row["split"] == "valid") for run in (killed, other)}
    assert f"The best one: {min(best, key=lambda name: best[name])}, validation loss {min(best.values()):.4g}" in words.text
    assert "Sweep both: 3 runs" in words.text
    assert "later" in words.text
    assert "missing" in words.text
    for key in ("optimizer.lr", "model.note"):
        figure = written.partition(f"validation loss by {key}</title>")[2].partition("</figure>")[0]
        assert figure.count("<title>") == 2, "a point for each run that has been evaluated"
    assert "&lt;b&gt;" in written
    assert "<b>," not in written


def test_a_sweeps_folder_that_tells_nothing_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "_sweeps" / "s"
    folder.mkdir(parents=True)
    for text, said in (
        ("{", "does not say what the sweep is"),
        ('{"points": [1]}', "does not say what the sweep is"),
        ('{"points": []}', "none of the sweep's runs has begun"),
        ('{"points": [{"run": "x", "values": {"seed": 1}}]}', "none of the sweep's runs has begun"),
    ):
        (folder / "sweep.json").write_text(text)
        done = ostinato(tmp_path, "report", "runs/_sweeps/s")
        assert done.returncode == BAD_CONFIG
        (line,) = done.stderr.splitlines()
        assert said in line


def test_what_was_evaluated_afterwards_is_in_the_report(other: RunDir, tmp_path: Path) -> None:
    copy = RunDir(tmp_path / "runs" / "other")
    shutil.copytree(other.path, copy.path)
    for split in ("test", "train"):
        assert ostinato(tmp_path, "evaluate", str(copy.path), "--split", split).returncode == 0
    (folder,) = copy.evaluations.glob("train-*")
    found = read_json(folder / "evaluation.json")
    text = page_of(copy).text
    assert "What ostinato evaluate found" in text
    assert f"Confusion matrix of the train set at {found['checkpoint']}" in text
    assert f"{100 * found['metrics']['accuracy']:.2f} %" in text
    (folder / "evaluation.json").write_text("{")
    text = page_of(copy).text
    assert f"{folder.name}/evaluation.json: no JSON; left out" in text
    assert "What ostinato evaluate found" in text
