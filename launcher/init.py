"""``ostinato init``: a first config from a folder of pictures or a data set's name, which can be run as it is."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from launcher.look_at_folder import Pictures, look_at
from launcher.starter import PRETRAINED, Choice, Subject, decide, of_folder, of_set
from launcher.starter_sets import SETS, known
from launcher.starter_yaml import text
from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.errors import DONE, ConfigError, RunFolderError
from trainer.registry import SHORT

_BAD = 5


def init(what: str, *, output: str | None = None) -> int:
    """Look at the data, decide, and write the config.

    Args:
        what: a data set's name, or a folder: one folder of images a class, or train, valid and test folders with these in them.
        output: the file; else the name with ``.yaml``, in the current folder.

    Raises:
        ConfigError: there is nothing that can be trained on, or the file is there already.
    """
    found = known(what)
    if found is None and not Path(what).is_dir():
        raise ConfigError(_unknown(what))
    path = output if output is not None else f"{found.target if found is not None else _run_name(Path(what).resolve().name)}.yaml"
    name = _run_name(Path(path).stem)
    _refuse_existing(path)
    if found is not None:
        subject = of_set(name, found)
        said = [f"{found.target}: {found.samples:,} training samples of {found.classes} classes, {found.size[0]}×{found.size[1]}"]
        said += [f"note: {what} is a data set's name; for the folder write ./{what}"] if Path(what).is_dir() else []
    else:
        folder = what.rstrip("/") or what
        _can_be_written(folder)
        pictures = look_at(folder)
        subject, said = of_folder(name, pictures), describe(folder, pictures)
    choice = decide(subject, weights_at_hand=_weights_at_hand())
    fetch = found.megabytes if found is not None and not found.is_there else 0
    _write(path, text(subject, choice, asked=what, path=path, fetch=fetch))
    print("\n".join([*said, *summary(subject, choice, path)]))
    return DONE


def describe(folder: str, pictures: Pictures) -> list[str]:
    """What is in a folder, for people."""
    lines = []
    for part, found in pictures.parts.items():
        counts = [f"{one_line(name, 40)} {count:,}" for name, count in found.counts.items()]
        some = ", ".join(counts[:8]) + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
        title = one_line(folder, 200) if len(pictures.parts) == 1 else part
        lines.append(f"{title}: {sum(found.counts.values()):,} pictures of {len(counts)} classes: {some}")
    widths, heights = ([size[side] for size in pictures.sizes] for side in (0, 1))
    small, large = f"{min(widths)}×{min(heights)}", f"{max(widths)}×{max(heights)}"
    modes = ", ".join(f"{mode} {count:,}" for mode, count in Counter(pictures.modes).most_common(4))
    lines.append(f"sizes: {small if small == large else f'{small} to {large}'}; {'grey' if pictures.gray else 'in colour'} ({modes})")
    lines += [f"cannot be read: {one_line(why, 240)}" for why in list(pictures.bad.values())[:_BAD]]
    lines += [f"cannot be read: {len(pictures.bad) - _BAD} more"] if len(pictures.bad) > _BAD else []
    if pictures.decoded < sum(pictures.sizes.values()):
        lines.append(f"looked at in full: {pictures.decoded:,} of them; of the others only the size")
    return [*lines, *(f"note: {note}" for note in pictures.notes), *_few(pictures)]


def _few(pictures: Pictures) -> list[str]:
    counts = pictures.parts["train"].counts
    name = min(counts, key=lambda one: counts[one])
    return (
        [f"note: {one_line(name, 40)} has only {counts[name]}; some dozens a class are the least to learn from"]
        if counts[name] < 20
        else []
    )


def summary(subject: Subject, choice: Choice, path: str) -> list[str]:
    """What was written, and what to type next."""
    height, width = choice.size
    share = "" if choice.valid_fraction is None else f", {choice.valid_fraction:.0%} of each class set aside for validation"
    start = " with ImageNet's weights" if choice.pretrained else ""
    uneven = ["note: the classes differ much in size; the file shows weights for the loss"] if choice.weights else []
    return [
        *uneven,
        f"wrote {path}: {choice.model['target']}{start} on {width}×{height}, batches of {choice.batch_size}, {choice.epochs} epochs{share}",
        f"next: ostinato train {path}",
    ]


def _unknown(what: str) -> str:
    shown, path = one_line(what, 80), Path(what)
    if path.is_file():
        kind = "a table; configs/regression.yaml is one to begin with" if path.suffix == ".csv" else "a file"
        return f"{shown}: {kind}; init takes a folder of images, or a name: {', '.join(SETS)}"
    names = ", ".join(SETS)
    if what in SHORT["dataset"]:
        return f"{shown}: a kind of data, not the data; init takes the folder of images itself, or a name: {names}"
    near = did_you_mean(what, [*SETS, *(entry.name for entry in Path().iterdir() if entry.is_dir())])
    return f"{shown}: no such folder, and no data set's name{near or f'; names are {names}'}"


def _run_name(wanted: str) -> str:
    """A name as far as a run can have it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")
    return name[:60] or "pictures"


def _can_be_written(folder: str) -> None:
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{one_line(folder, 200)}: the folder's name is no UTF-8, which a config must be; rename it") from None


def _refuse_existing(path: str) -> None:
    if Path(path).exists() or Path(path).is_symlink():
        raise ConfigError(f"{one_line(path, 200)}: is there already, and init overwrites nothing; name another file with --output")


def _write(path: str, content: str) -> None:
    """Write the file, unless it has come to be meanwhile."""
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        _refuse_existing(path)
        raise
    except OSError as fault:
        raise RunFolderError(f"{one_line(path, 200)}: cannot be written ({fault.strerror}); name another file with --output") from fault


def _weights_at_hand() -> bool:
    """Whether torchvision's ResNet-18 lies in torch's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    home = Path(os.environ.get("TORCH_HOME", cache)).expanduser()
    return (home / "hub" / "checkpoints" / PRETRAINED).is_file()
