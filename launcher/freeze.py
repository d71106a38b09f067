"""The code that a queued job will run, copied when it is submitted: what is edited afterwards cannot change the job (free of torch)."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from trainer.errors import ConfigError
from trainer.files import make_private
from trainer.masking import SECRET_FILES
from trainer.rundir import write_json

MAX_BYTES = 512 * 2**20
GIT_WITHIN_S = 120.0
OWN = ("launcher", "trainer")
# A folder in a bare repository, or in .git itself, has no work tree around it either.
NO_TREE = re.compile(r"not a git repository \(or any|must be run in a work tree")


@dataclass(frozen=True)
class Tree:
    """The code around a folder, as it is now.

    Args:
        root: the top of the git work tree.
        here: the folder in it where the command is given.
        names: the files to copy, and links to folders, from the top.
    """

    root: Path
    here: Path
    names: tuple[str, ...]

    def digest(self) -> str:
        """The SHA-256 of all names, modes and contents."""
        total = hashlib.sha256()
        for name in self.names:
            _add(total, self.root, name)
        return total.hexdigest()


@dataclass(frozen=True)
class Frozen:
    """A copy of a git work tree.

    Args:
        path: the copy.
        inside: the folder in it that stands for the one where the command was given.
        sha256: of all names, modes and contents.
    """

    path: Path
    inside: Path
    sha256: str


def survey(here: Path, leave_out: Path) -> Tree | None:
    """The git work tree around a folder: what is tracked, as it is now, and what is new and not ignored. Nothing is created.

    Args:
        here: the folder where the command is given.
        leave_out: a folder whose content is no code: where runs are.

    Returns:
        The tree; None: there is none, or no git that could tell (`not_frozen` says which).

    Raises:
        ConfigError: it is larger than what anyone would call code; or git does not say what is in it.
    """
    top = _top(here)
    if top is None:
        return None
    root = Path(top.rstrip("\n")).resolve()
    names = sorted(_names(root, leave_out.resolve()))
    size = sum((root / name).stat().st_size for name in names)
    if size > MAX_BYTES:
        raise ConfigError(
            f"{root}: {size // 2**20} MiB of files to copy for the job; list what is no code in .gitignore (at most {MAX_BYTES // 2**20})"
        )
    return Tree(root, here.resolve(), tuple(names))


def not_frozen(here: Path) -> str:
    """Why the code in a folder is not copied, where `survey` finds no tree."""
    why = "is in no git work tree" if shutil.which("git") else "may be in a git work tree, but there is no git here that could tell"
    return f"{here} {why}: the code is not frozen, and the job runs what is there when it starts"


def own_code(around: Tree | None) -> Tree | None:
    """Ostinato itself, where it is neither installed for good nor part of a tree: a checkout that somebody goes on editing."""
    root = Path(__file__).resolve().parent.parent
    if not {"site-packages", "dist-packages"}.isdisjoint(root.parts):
        return None
    if around is not None and root.is_relative_to(around.root):
        mine = str(Path(__file__).resolve().relative_to(around.root))
        if mine in around.names:
            return None
    files = (path for package in OWN for path in (root / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return Tree(root, root, tuple(sorted(str(path.relative_to(root)) for path in files)))


def freeze(tree: Tree, into: Path) -> Frozen:
    """Copy a tree.

    Args:
        tree: what to copy.
        into: the folder that gets ``<sha256>/`` with the files and ``<sha256>.json`` with the commit.

    Returns:
        The copy, an earlier one if nothing has changed since.
    """
    make_private(into)
    partial = Path(tempfile.mkdtemp(dir=into, prefix=".", suffix=".partial"))
    try:
        digest = _copy(tree, partial)
        path = into / digest
        if not path.is_dir():
            commit = _git(tree.root, "rev-parse", "HEAD")
            facts = {"sha256": digest, "commit": commit.strip() if commit else None, "files": len(tree.names), "from": str(tree.root)}
            write_json(path.with_suffix(".json"), facts)
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Frozen(path, path / tree.here.relative_to(tree.root), digest)


@contextmanager
def beginning(begin: str, own: Frozen | None) -> Iterator[None]:
    """Within it, a process that is started begins as a job does: in the copy of the code, and with that of ostinato's own.

    Args:
        begin: the folder to begin in.
        own: the copy of ostinato's code, if there is one.
    """
    here, before = Path.cwd(), os.environ.get("PYTHONPATH")
    if own is not None:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(own.path), *([before] if before else [])])
    os.chdir(begin)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.pop("PYTHONPATH", None)
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _names(root: Path, outside: Path) -> Iterator[str]:
    """What to copy: regular files and links that stay inside the tree; no runs, and nothing that is likely to hold secrets."""
    above = root.is_relative_to(outside)  # runs and code lie side by side: leave out the runs alone
    for name in _listed(root):
        path = (root / name).resolve()
        inside = path.is_relative_to(root) and (path.is_file() or (path.is_dir() and (root / name).is_symlink()))
        is_run = _in_a_run(root, name) if above else path.is_relative_to(outside)
        if inside and not is_run and not _is_secret(name):
            yield name


def _listed(root: Path, prefix: str = "") -> Iterator[str]:
    """The files of a work tree and of the submodules in it."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:  # not an empty tree: the job would run what else is installed
        raise ConfigError(f"{root}: git does not say which files are the code (git ls-files); try it there, and again")
    for name in {entry.rstrip("/") for entry in listed.split("\0") if entry}:
        if (root / name).is_dir() and not (root / name).is_symlink() and (root / name / ".git").exists():
            yield from _listed(root / name, f"{prefix}{name}/")
        else:
            yield prefix + name


def _in_a_run(root: Path, name: str) -> bool:
    return any((folder / "config.yaml").is_file() and (folder / "events.jsonl").is_file() for folder in (root / name).parents)


def _is_secret(name: str) -> bool:
    """Whether a file's or folder's name says that it holds secrets; a python module is code, whatever it is called."""
    if name.endswith(".py"):
        return False
    return any(fnmatch.fnmatch(part.lower(), pattern) for part in PurePath(name).parts for pattern in SECRET_FILES)


def _add(total: Any, root: Path, name: str) -> bytes | None:
    """Take one entry into a hash; its content, None for a link to a folder."""
    path = root / name
    if path.is_dir():
        total.update(os.fsencode(f"{name}\0{path.readlink()}\n"))
        return None
    data = path.read_bytes()
    total.update(os.fsencode(f"{name}\0{os.access(path, os.X_OK)}\0{hashlib.sha256(data).hexdigest()}\n"))
    return data


def _copy(tree: Tree, target: Path) -> str:
    total = hashlib.sha256()
    for name in tree.names:
        data = _add(total, tree.root, name)
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            source = tree.root / name
            place.symlink_to(os.path.relpath(source.resolve(), source.parent.resolve()))
            continue
        place.write_bytes(data)
        place.chmod(0o700 if os.access(tree.root / name, os.X_OK) else 0o600)
    return total.hexdigest()


def _top(here: Path) -> str | None:
    """The top of the work tree around a folder; None: there is none, or no git."""
    said, fault = _ask(here, "rev-parse", "--show-toplevel")
    if said is None and fault and not NO_TREE.search(fault):  # such as a repository of somebody else, whom git does not trust
        reason = next((line for line in fault.splitlines() if line.startswith("fatal: ")), fault.splitlines()[0])
        remedy = next((line.strip() for line in fault.splitlines() if line.strip().startswith("git config ")), "git status")
        raise ConfigError(f"{here}: git does not say which files are the code: {reason.removeprefix('fatal: ')}; see {remedy}")
    return said


def _git(folder: Path, *arguments: str) -> str | None:
    return _ask(folder, *arguments)[0]


def _ask(folder: Path, *arguments: str) -> tuple[str | None, str]:
    """What git says, or None and why it does not; without a word there is no git."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, timeout=GIT_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"it has not answered within {GIT_WITHIN_S:g} s"
    except OSError:
        return None, ""
    if done.returncode != 0:
        return None, done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
    return os.fsdecode(done.stdout), ""  # a file's name is any bytes
