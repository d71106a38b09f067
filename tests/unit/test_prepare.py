"""From a config to a run folder: made once, made anew while nothing was trained, moved aside whole, never by two at once."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config.load import load
from trainer.errors import ConfigError, RunFolderError
from trainer.prepare import Prepared, _locked, fill, prepare
from trainer.registry import target_files
from trainer.rundir import RunDir, RunLock, append_jsonl, read_jsonl

ROOT = Path(__file__).parents[2]
TEXT = """
model: {target: mlp, in_features: 64, hidden: [8], num_classes: 10}
data: {train: {target: digits, split: train}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1}
"""
CROWD = """
import os, sys
from pathlib import Path
from trainer.errors import OstinatoError
from trainer.prepare import prepare

fresh, count = "--fresh" in sys.argv, 20
prepare("config.yaml", ["run.root=warm"], world_size=1)  # imports what a start imports, once for all
gate, go = os.pipe()
children = []
for number in range(count):
    answer, ours = os.pipe()
    over, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.close(end)
        os.read(gate, 1)  # opens for all at once
        try:
            prepared = prepare("config.yaml", [], world_size=1, fresh=fresh, hold=True)
            text = f"0 {prepared.message}"
        except OstinatoError as fault:
            text = f"{fault.exit_code} {fault}"
        os.write(ours, text.encode())
        os.read(over, 1)  # the winner holds the lock until all have answered
        os._exit(0)
    os.close(over)
    children.append((pid, answer, end))
os.close(go)
for _, answer, _ in children:
    print(os.read(answer, 4096).decode(), flush=True)
for pid, _, end in children:
    os.close(end)
for pid, _, end in children:
    os.waitpid(pid, 0)
"""


ANEW = """
from trainer.prepare import prepare

for _ in range(100):
    prepare("config.yaml", [], world_size=1, fresh=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*overrides: str, fresh: bool = False, workers: int = 1) -> Prepared:
    return prepare("config.yaml", overrides, world_size=workers, fresh=fresh)


def events(run: RunDir) -> list[str]:
    return [row["event"] for row in read_jsonl(run.events)]


def tree(path: Path) -> dict[str, bytes | None]:
    """Every file and folder below a path, but locks, which say who held them last."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*") if p.name not in ("lock", "fence")}


def test_a_new_run_is_its_owners_alone_whatever_the_umask() -> None:
    for umask in (0o000, 0o022, 0o077, 0o277):
        before = os.umask(umask)
        try:
            run = made(f"run.name=u{umask}").run
        finally:
            os.umask(before)
        modes = {stat.S_IMODE(p.stat().st_mode) for p in (run.path, *run.path.rglob("*")) if p.is_dir()}
        assert modes == {0o700}
        assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in run.path.rglob("*")} == {0}


def test_a_run_in_which_nothing_was_trained_is_made_anew_with_other_settings() -> None:
    first = made("optimizer.lr=3")
    first.run.event("started")
    first.run.attempt_logs(0).mkdir()
    second = made("optimizer.lr=0.3", workers=4)
    assert second.status == "created"
    config = load(second.run.config).config
    assert (config.optimizer.arguments["lr"], config.train.virtual_ranks) == (0.3, 4)
    assert events(second.run) == ["created", "started", "created"]
    assert second.run.next_attempt() == 1


def test_a_run_in_which_nothing_was_trained_keeps_its_virtual_ranks_with_the_same_settings() -> None:
    assert made(workers=4).status == "created"
    again = made(workers=2)
    assert again.status == "resumed"
    assert load(again.run.config).config.train.virtual_ranks == 4


@pytest.mark.parametrize("progress", ["checkpoint", "partial", "row"])
def test_a_run_in_which_something_was_trained_is_refused_with_other_settings(progress: str) -> None:
    run = made().run
    if progress == "row":
        append_jsonl(run.metrics, {"step": 1})
    else:
        (run.checkpoints / ("step-00000001" if progress == "checkpoint" else ".partial-step-00000001")).mkdir()
    before = tree(run.path)
    with pytest.raises(RunFolderError, match=r"made with other settings \(optimizer.lr: 0.1 -> 0.3\).*--fresh"):
        made("optimizer.lr=0.3")
    assert tree(run.path) == before
    RunLock(run.lock).release()


def test_an_unreadable_config_of_a_run_in_which_nothing_was_trained_is_replaced() -> None:
    run = made().run
    run.config.write_text("seed: [")
    assert made().status == "created"
    append_jsonl(run.metrics, {"step": 1})
    run.config.write_text("seed: [")
    with pytest.raises(ConfigError, match=r"config.yaml:1"):
        made()


def test_a_refused_config_leaves_nothing() -> None:
    for refused in ("optimizer.lr=fast", "run.name=../x", "data.batch_size=63"):
        with pytest.raises(ConfigError):
            made(refused, workers=2)
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


def test_a_stem_that_is_no_run_name_is_refused_in_one_line(folder: Path) -> None:
    for stem in ("-x", ".hidden", "a b", "ü", "x" * 65):
        path = folder / f"{stem}.yaml"
        path.write_text(TEXT)
        with pytest.raises(ConfigError, match=r"run\.name") as caught:
            prepare(path, [], world_size=1)
        assert len(caught.value.problems) == 1
        assert "\n" not in str(caught.value)
    assert not (folder / "runs").exists()


def test_fresh_moves_a_run_aside_whole_and_nobody_holds_the_old_one() -> None:
    run = made().run
    append_jsonl(run.metrics, {"step": 1})
    before = tree(run.path)
    (run.path.parent / "config.1").mkdir()  # somebody else's
    lock = prepare("config.yaml", ["optimizer.lr=0.3"], world_size=1, fresh=True, hold=True).lock
    assert tree(run.path.with_name("config.2")) == before
    assert sorted(p.name for p in run.path.parent.iterdir()) == ["config", "config.1", "config.2"]
    assert events(run) == ["created"]
    with pytest.raises(RunFolderError, match="in use"):
        made(fresh=True)
    RunLock(run.path.with_name("config.2") / "lock").release()
    lock.release()


def test_fresh_works_where_folders_cannot_change_places_in_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made().run
    append_jsonl(run.metrics, {"step": 1})
    before = tree(run.path)
    monkeypatch.setattr("trainer.prepare.RENAME_EXCHANGE", 1 << 20)  # a flag that no kernel knows: EINVAL, as NFS answers
    made(fresh=True)
    assert tree(run.path.with_name("config.1")) == before
    assert sorted(p.name for p in run.path.parent.iterdir()) == ["config", "config.1"]


def test_symbolic_links_where_a_run_writes_are_refused_and_not_followed(folder: Path) -> None:
    outside = folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    run = made().run
    places = [run.config, run.events, run.metrics, run.environment, run.lock, run.fence, run.checkpoints, run.logs, run.heartbeats]
    places += [run.tensorboard, run.logs / "attempt-000", run.checkpoints / "last.json", run.heartbeat(0)]
    for place in places:
        aside = place.with_name("aside")
        if place.exists():
            place.rename(aside)
        place.symlink_to(outside if place.suffix == "" and place not in (run.lock, run.fence) else outside / "file")
        with pytest.raises(RunFolderError, match=rf"{place}: is a symbolic link, and a run is never written through one") as caught:
            made()
        assert "\n" not in str(caught.value)
        place.unlink()
        if aside.exists():
            aside.rename(place)
    assert tree(outside) == {"file": b"mine"}
    assert made().status == "resumed"


def test_a_run_folder_that_is_a_link_is_refused_and_a_root_that_is_one_is_used(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "runs").symlink_to("elsewhere")
    run = made().run
    assert (folder / "elsewhere" / "config" / "config.yaml").is_file()
    run.path.rename(folder / "moved")
    run.path.symlink_to(folder / "moved")
    for fresh in (False, True):
        with pytest.raises(RunFolderError, match=r"runs/config: is a symbolic link"):
            made(fresh=fresh)


def test_a_strange_folder_and_a_file_in_the_runs_place_are_not_touched(folder: Path) -> None:
    (folder / "runs" / "config").mkdir(parents=True)
    (folder / "runs" / "config" / "thesis.txt").write_text("mine")
    (folder / "runs" / "file").write_text("mine")
    before = tree(folder)
    for name, text in (("config", "something else in it"), ("file", "a file is where the run folder should be")):
        with pytest.raises(RunFolderError, match=text):
            made(f"run.name={name}")
    with pytest.raises(RunFolderError, match=r"runs/file/config: cannot be written \("):
        made("run.root=runs/file")
    (folder / "runs" / "config" / "config.yaml").mkdir()
    with pytest.raises(RunFolderError, match=r"something else in it \(config.yaml\)"):
        made()
    (folder / "runs" / "config" / "config.yaml").rmdir()
    assert tree(folder) == before
    assert not (folder / "runs" / "config" / "lock").exists()


def test_batches_that_as_many_workers_cannot_mix_are_refused_once_their_number_is_known(folder: Path) -> None:
    mixing = ("data.batch_size=4", "data.batch_transforms=[{target: cutmix, num_classes: 10}]")
    with pytest.raises(ConfigError, match="cutmix has nothing to mix: batch_size 4 over 4 virtual ranks is one sample in a micro-batch"):
        made(*mixing, workers=4)
    assert not (folder / "runs" / "config").exists()
    assert made(*mixing, workers=2).status == "created"


@pytest.mark.parametrize("fresh", [False, True])
def test_of_many_starts_at_once_one_wins_and_the_others_touch_nothing(folder: Path, fresh: bool) -> None:
    if fresh:
        append_jsonl(made().run.metrics, {"step": 1})
    command = [sys.executable, "-c", CROWD, *(["--fresh"] if fresh else [])]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    answers = done.stdout.splitlines()
    winners = [answer for answer in answers if answer.startswith("0 run config: new")]
    refused = [answer for answer in answers if answer.startswith("2 ") and "in use by " in answer]
    assert (len(winners), len(refused)) == (1, 19), done
    assert sorted(p.name for p in (folder / "runs").iterdir()) == (["config", "config.1"] if fresh else ["config"])
    assert events(RunDir(folder / "runs" / "config")) == ["created"]


def test_a_run_that_begins_anew_is_never_taken_for_a_folder_with_something_else_in_it(folder: Path) -> None:
    run = made().run
    command = [sys.executable, "-c", ANEW]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as anew:
        looks = 0
        while anew.poll() is None:
            run.check()
            assert run.exists()
            looks += 1
        assert anew.returncode == 0
    assert looks > 100 and (folder / "runs" / "config.100").is_dir()


def test_a_run_that_cannot_be_moved_aside_stays_and_leaves_nothing_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made().run
    append_jsonl(run.metrics, {"step": 1})
    before = tree(run.path)

    def refuse(one: Path, two: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted", str(one))

    monkeypatch.setattr("trainer.prepare._exchange", refuse)  # as some file systems do
    with pytest.raises(RunFolderError, match="cannot be written"):
        made(fresh=True)
    assert [path.name for path in (folder / "runs").iterdir()] == ["config"]
    assert tree(run.path) == before
    RunLock(run.lock).release()


def test_a_lock_of_a_folder_that_was_moved_away_is_let_go_and_another_one_taken(folder: Path) -> None:
    run = made().run
    held = RunLock(run.lock)
    run.path.rename(folder / "kept")
    prepared = prepare("config.yaml", [], world_size=1, hold=True, lock=held)
    RunLock(folder / "kept" / "lock").release()
    with pytest.raises(RunFolderError, match="in use"):
        made()
    prepared.lock.release()


def test_a_refused_start_takes_away_only_its_own_lock(folder: Path) -> None:
    run = RunDir(folder / "runs" / "config")
    with pytest.raises(KeyError), _locked(run, None) as lock:
        run.path.rename(folder / "kept")  # as where folders change places by three renames, and another start comes in between
        run.path.mkdir()
        other = RunLock(run.lock)
        raise KeyError
    assert not lock.in_place
    assert other.in_place
    other.release()


def test_a_run_that_was_begun_anew_is_another_folder() -> None:
    run = made().run
    append_jsonl(run.metrics, {"step": 1})
    before = run.identity()
    assert before == RunDir(run.path).identity()
    made(fresh=True)
    assert run.identity() not in (before, None)
    assert RunDir(run.path.with_name("config.1")).identity() == before


def test_weights_that_are_not_there_are_told_before_anything_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(TEXT)
    (tmp_path / "weights.pt").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for pretrained, said in (("wieghts.pt", "there is no such file (did you mean 'weights.pt'?)"), ("folder", "no run here")):
        with pytest.raises(ConfigError, match=re.escape(f"start.pretrained={pretrained}: {pretrained}: {said}")):
            prepare("config.yaml", [f"start.pretrained={pretrained}"], world_size=1)
    assert not (tmp_path / "runs").exists()
    prepare("config.yaml", ["start.pretrained=weights.pt"], world_size=1)
    (tmp_path / "weights.pt").unlink()
    RunDir(tmp_path / "runs" / "config").checkpoints.mkdir(exist_ok=True)
    assert prepare("config.yaml", ["start.pretrained=weights.pt"], world_size=1).status == "resumed"  # a checkpoint needs no first weights


def test_the_file_of_an_initialiser_is_among_those_that_a_run_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_initialiser.py").write_text("def fill(tensor):\n    tensor.fill_(0.5)\n")
    (tmp_path / "config.yaml").write_text(TEXT)
    config = load(tmp_path / "config.yaml", ["start.init=[{target: 'my_initialiser:fill', match: '*'}]"]).config
    assert target_files(config)["my_initialiser"] == str(tmp_path / "my_initialiser.py")


def test_the_example_of_the_first_page_gives_the_same_bits_on_machines_with_other_cores() -> None:
    config = load(ROOT / "configs" / "digits.yaml", []).config
    assert fill(config, 4, cpus=4) == fill(config, 4, cpus=64)
