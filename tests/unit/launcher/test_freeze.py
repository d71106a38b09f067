"""The code of the moment is copied: what is tracked as it is now, what is new, links and submodules; no runs, no secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import freeze as module
from launcher.freeze import Tree, beginning, freeze, not_frozen, own_code, survey
from trainer.errors import ConfigError

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def write(path: Path, text: str = "x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with one commit."""
    root = tmp_path / "project"
    write(root / "package" / "model.py", "one\n")
    write(root / ".gitignore", "data/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def frozen(tree: Path, here: Path | None = None) -> tuple[Path, set[str]]:
    found = survey(here or tree, tree / "runs")
    assert found is not None
    (tree / "runs").mkdir(exist_ok=True)
    copy = freeze(found, tree / "runs" / "code")
    assert copy.sha256 == found.digest() == copy.path.name
    return copy.path, {str(path.relative_to(copy.path)) for path in copy.path.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_the_copy_is_what_is_there_now_and_not_what_was_committed(tree: Path) -> None:
    write(tree / "package" / "model.py", "two\n")
    write(tree / "new.py")
    write(tree / "data" / "huge.bin")
    write(tree / "runs" / "r" / "config.yaml")
    write(tree / ".env", "TOKEN=1")
    path, names = frozen(tree)
    assert names == {".gitignore", "package/model.py", "new.py"}
    assert (path / "package" / "model.py").read_text() == "two\n"
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["commit"] == git(tree, "rev-parse", "HEAD").strip()
    assert facts["files"] == 3


def test_the_same_code_is_copied_once_and_other_code_beside_it(tree: Path) -> None:
    first, _ = frozen(tree)
    (tree / "package" / "model.py").touch()
    assert frozen(tree)[0] == first
    (tree / "package" / "model.py").chmod(0o755)
    assert frozen(tree)[0] != first
    assert sorted(path.suffix for path in first.parent.iterdir()) == ["", "", ".json", ".json"]


def test_the_folder_of_the_command_has_its_place_in_the_copy(tree: Path) -> None:
    (tree / "runs").mkdir()
    found = survey(tree / "package", tree / "runs")
    assert found is not None
    copy = freeze(found, tree / "runs" / "code")
    assert copy.inside == copy.path / "package"


def test_links_to_files_and_folders_inside_lead_to_the_copy_and_others_are_left_out(tree: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside" / "secret.txt")
    (tree / "alias").symlink_to("package")
    (tree / "package" / "same.py").symlink_to("model.py")
    (tree / "out").symlink_to(tmp_path / "outside")
    (tree / "gone").symlink_to("nowhere")
    path, names = frozen(tree)
    assert names == {".gitignore", "package/model.py", "package/same.py", "alias"}
    assert (path / "alias" / "model.py").resolve() == path / "package" / "model.py"


def test_a_submodule_is_part_of_the_code(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other / "part.py")
    git(other, "init", "--quiet")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "part")
    git(tree, "submodule", "--quiet", "add", str(other), "sub")
    write(tree / "sub" / "new.py")
    assert {"sub/part.py", "sub/new.py"} < frozen(tree)[1]


def test_runs_beside_the_code_are_left_out_and_the_code_is_not(tree: Path) -> None:
    write(tree / "r" / "config.yaml")
    write(tree / "r" / "events.jsonl")
    write(tree / "r" / "logs" / "attempt-000" / "rank-0.log")
    found = survey(tree, tree)
    assert found is not None
    assert found.names == (".gitignore", "package/model.py")


def test_what_is_too_large_to_be_code_is_refused_before_anything_is_copied(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    write(tree / "weights.bin", "x" * 100)
    with pytest.raises(ConfigError, match=r"list what is no code in \.gitignore"):
        survey(tree, tree / "runs")
    assert not (tree / "runs").exists()


def test_without_a_work_tree_there_is_nothing_to_copy(tmp_path: Path) -> None:
    assert survey(tmp_path, tmp_path / "runs") is None
    assert f"{tmp_path} is in no git work tree: the code is not frozen" in not_frozen(tmp_path)
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    assert survey(tmp_path / "bare", tmp_path / "runs") is None


def test_without_git_the_reason_is_that(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    assert survey(tree, tree / "runs") is None
    assert "there is no git here that could tell: the code is not frozen" in not_frozen(tree)


@pytest.mark.parametrize(("config", "somebody_else", "said"), [("[torn", "0", "bad config line"), ("", "1", "dubious ownership")])
def test_a_tree_that_git_will_not_read_is_not_taken_for_none(
    tree: Path, monkeypatch: pytest.MonkeyPatch, config: str, somebody_else: str, said: str
) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)  # where it may be told to trust all
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", somebody_else)
    (tree / ".git" / "config").write_text(config)
    with pytest.raises(ConfigError, match=f"project: git does not say which files are the code: .*{said}") as refused:
        survey(tree, tree / "runs")
    assert "\n" not in str(refused.value)
    assert ("see git config --global --add safe.directory" in str(refused.value)) == (somebody_else == "1")


def test_a_tree_that_git_does_not_list_is_refused_and_not_taken_for_an_empty_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / ".git" / "index").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"project: git does not say which files are the code .git ls-files.; try it there, and again"):
        survey(tree, tree / "runs")


def test_a_name_that_is_no_utf8_is_copied_too(tree: Path) -> None:
    strange = os.fsencode(tree) + b"/caf\xe9.py"
    Path(os.fsdecode(strange)).write_text("x\n")
    path, names = frozen(tree)
    assert names == {".gitignore", "package/model.py", os.fsdecode(b"caf\xe9.py")}
    assert (path / os.fsdecode(b"caf\xe9.py")).read_text() == "x\n"


def test_ostinatos_own_checkout_is_copied_where_it_lies_elsewhere_and_not_twice(tree: Path) -> None:
    found = own_code(survey(tree, tree / "runs"))
    assert found is not None
    assert {"launcher/slurm_task.py", "trainer/loop.py"} < set(found.names)
    assert all(name.endswith(".py") for name in found.names)
    assert found == own_code(None)
    around = Tree(found.root, found.root, ("README.md", *found.names))
    assert own_code(around) is None
    assert own_code(Tree(found.root, found.root, ("README.md",))) == found  # it lies there, and git does not see it


def test_a_process_that_is_started_begins_in_the_copies_and_imports_from_them(tree: Path, tmp_path: Path) -> None:
    (tree / "runs").mkdir()
    found, own = survey(tree, tree / "runs"), own_code(None)
    assert found is not None
    assert own is not None
    here, mine = freeze(found, tree / "runs" / "code"), freeze(own, tree / "runs" / "code")
    (tree / "package" / "model.py").write_text("edited\n")
    code = "import launcher.slurm_task, pathlib; print(launcher.__file__, pathlib.Path('package/model.py').read_text())"
    asking = [sys.executable, "-c", code]
    before = (Path.cwd(), dict(os.environ))
    with beginning(str(here.path), mine):
        said = subprocess.run(asking, capture_output=True, text=True, check=True).stdout
    assert said == f"{mine.path}/launcher/__init__.py one\n\n"
    assert (Path.cwd(), dict(os.environ)) == before
