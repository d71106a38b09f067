"""Malformed inputs, chosen by a seed: what is given, and how it may end."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.support.bad_sets import SAID
from tests.support.jobs import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SET = "tests.support.bad_sets:BadSet"
SMALL = f"""\
model: {{target: mlp, in_features: 64, hidden: [8], num_classes: 10}}
data:
  train: {{target: "{SET}"}}
  valid: {{target: "{SET}"}}
  test: {{target: "{SET}"}}
  batch_size: 12
optimizer: {{target: adam, lr: 0.01}}
train: {{epochs: 2}}
checkpoint: {{every_steps: 2, keep_last: 9}}
log: {{tensorboard: false, every_steps: 1}}
"""


@dataclass
class Case:
    """One input.

    Args:
        name: what is wrong with it; with the seed it says how to get it again.
        entry: how it is given; see `tests.support.forked.Forks.run`.
        arguments: of the command line.
        files: what lies in the folder in which it is given.
        codes: the exit codes that are right.
        said: a pattern that must be found in what is said; every alternative will do.
        prepare: makes more in the folder.
    """

    name: str
    entry: str
    arguments: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    codes: tuple[int, ...] = (0, 2)
    said: str = ""
    prepare: Callable[[Path], None] | None = None


def cases(seed: int, count: int, damaged: Callable[[random.Random], Case]) -> list[Case]:
    """The inputs of a seed, of every kind about as many as it deserves.

    Args:
        seed: chooses them.
        count: how many.
        damaged: makes a run with damaged checkpoints.
    """
    kinds = [(mutated_config, 9), (override, 3), (run_name, 2), (wrong_file, 1), (data_set, 3), (damaged, 2)]
    turns = [kind for kind, share in kinds for _ in range(share)]
    dice = random.Random(seed)
    found = []
    for number in range(count):
        case = turns[number % len(turns)](dice)
        case.name = f"case {number}: {case.name}"
        found.append(case)
    return found


VALUES = [
    *(
        "",
        "null",
        "[]",
        "{}",
        "yes",
        "0x1F",
        "1e400",
        "-1",
        "0",
        ".nan",
        "-.inf",
        "99999999999999999999999",
        "'3'",
        "[1, [2, [3]]]",
        "true",
    ),
    *("!!int 3", "*a", "&a 1", "\u2028", "💥", "a: b: c", "@x", "%x", "`x`", "\t1", "2024-01-01", "1:30", "~", "3.5.7", "{a: 1, a: 2}"),
    '"\\ud800"',
]


def mutated_config(dice: random.Random) -> Case:
    """A config of the project after one to three accidents."""
    source = dice.choice(CONFIGS)
    data = source.read_bytes()
    names = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        mutation = dice.choice(MUTATIONS)
        names.append(mutation.__name__.strip("_"))
        data = mutation(data, dice)
    return Case(f"{source.name} with {', '.join(names)}", "check", ["config.yaml"], {"config.yaml": data})


def _place(data: bytes, dice: random.Random) -> int:
    return dice.randrange(max(1, len(data)))


def _flipped_bit(data: bytes, dice: random.Random) -> bytes:
    if not data:
        return data
    at = _place(data, dice)
    return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: _place(data, dice)]


def _hole(data: bytes, dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at + dice.randrange(1, 30) :]


def _doubled_line(data: bytes, dice: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b"\n"]
    at = dice.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def _swapped_lines(data: bytes, dice: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b"\n"]
    a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def _misspelt_key(data: bytes, dice: random.Random) -> bytes:
    keys = re.findall(rb"[a-z_]{3,}(?=:)", data)
    if not keys:
        return data
    key = dice.choice(keys)
    return data.replace(key + b":", key[:1] + key[2:] + b":", 1)


def _other_value(data: bytes, dice: random.Random) -> bytes:
    found = list(re.finditer(rb": ([^\s{}\[\],#]+)", data))
    if not found:
        return data
    match = dice.choice(found)
    return data[: match.start(1)] + dice.choice(VALUES).encode(errors="surrogatepass") + data[match.end(1) :]


def _inserted_bytes(data: bytes, dice: random.Random) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.choice([b"\x00", b"\xff\xfe", b"\x1b[31m", b"\r", b"\xe2\x80\xae", b"\xc3", b"\t", bytes(40)]) + data[at:]


def _other_line_ends(data: bytes, dice: random.Random) -> bytes:
    return data.replace(b"\n", dice.choice([b"\r\n", b"\r", b"\xc2\x85"]))


def _byte_order_mark(data: bytes, dice: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + data


def _other_encoding(data: bytes, dice: random.Random) -> bytes:
    return data.decode(errors="replace").encode(dice.choice(["utf-16", "utf-32", "utf-16-be"]), errors="replace")


def _deep_nesting(data: bytes, dice: random.Random) -> bytes:
    depth = dice.choice([33, 500, 20_000])
    return data + b"\nextra: " + dice.choice([b"[" * depth + b"]" * depth, b"{a: " * depth + b"1" + b"}" * depth])


def _alias_bomb(data: bytes, dice: random.Random) -> bytes:
    lines = [b"a0: &a0 [x, x, x]"] + [b"a%d: &a%d [%s]" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 30)]
    return b"\n".join(lines) + b"\n" + data


def _merge_key(data: bytes, dice: random.Random) -> bytes:
    return data.replace(b"train:", b"<<: {seed: 3}\ntrain:", 1)


def _huge(data: bytes, dice: random.Random) -> bytes:
    return data + dice.choice(
        [b"\n# " + b"x" * 300_000, b"\n" + b"".join(b"key%d: 1\n" % i for i in range(500)), b"\n" + b"k" * 5000 + b": 1\n"]
    )


def _second_document(data: bytes, dice: random.Random) -> bytes:
    return data + b"\n---\n" + data


def _nothing(data: bytes, dice: random.Random) -> bytes:
    return dice.choice([b"", b"\n\n", b"# only this\n", b"---\n", b"...", b"null", b"\xff" * 50])


def _nonsense(data: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice([1, 20, 3000]))


MUTATIONS = [
    *(_flipped_bit, _flipped_bit, _cut, _hole, _doubled_line, _swapped_lines, _misspelt_key, _misspelt_key, _other_value, _other_value),
    *(_other_value, _inserted_bytes, _other_line_ends, _byte_order_mark, _other_encoding, _deep_nesting, _alias_bomb, _merge_key, _huge),
    *(_second_document, _nothing, _nonsense),
]


def override(dice: random.Random) -> Case:
    """A sound config and one or two overrides that are not."""
    source = dice.choice(CONFIGS)
    keys = [f"{a}.{b}" for a, section in yaml.safe_load(source.read_bytes()).items() if isinstance(section, dict) for b in section]
    found = []
    for _ in range(dice.choice([1, 2])):
        key = dice.choice(
            [*keys, "seed", "model", "train.epochs.x", "traim.epochs", "train", "a" * 300, "train..epochs", ".", "run.root", "ü.x"]
        )
        value = dice.choice(
            [v for v in VALUES if v.isprintable() or v == "\t1"] + ["[" * 40, "{" * 5000, "x" * 5000, "a\nb", "=", "$(touch x)"]
        )
        found.append(dice.choice([f"{key}={value}", f"{key}{value}", f"={value}", f"{key} = {value}"]))
    return Case(
        f"{source.name} with overrides {' '.join(found)[:60]!r}", "check", ["config.yaml", *found], {"config.yaml": source.read_bytes()}
    )


NAMES = [
    *(
        "../x",
        "..",
        ".",
        "a/b",
        "/tmp/x",
        "",
        "x" * 65,
        "x" * 200,
        "-rf",
        "--fresh",
        "ünï",
        "a b",
        "a\nb",
        ".hidden",
        "💥",
        "a\\b",
        "$HOME",
    ),
    *("$(touch x)", "a;b", "con*", "%2e%2e", "'quoted'", "[a]", "~root", "a..b/../c", "\u202ex", "x\u200by"),
]


def run_name(dice: random.Random) -> Case:
    """A run name that is none, said in the file, on the command line, or by the file's own name."""
    name = dice.choice(NAMES)
    way = dice.choice(["override", "file", "stem"])
    text = SMALL.encode()
    if way == "override":
        return Case(f"run.name={name!r} on the command line", "check", ["config.yaml", f"run.name={name}"], {"config.yaml": text})
    if way == "file":
        quoted = yaml.safe_dump({"run": {"name": name}}, allow_unicode=dice.random() < 0.5).encode()
        return Case(f"run.name {name!r} in the file", "check", ["config.yaml"], {"config.yaml": quoted + text}, codes=(2,))
    stem = name.replace("/", "_").replace("\x00", "")[:150] or "."
    return Case(f"a config called {stem!r}.yaml", "check", [f"./{stem}.yaml"], {f"{stem}.yaml": text})


def wrong_file(dice: random.Random) -> Case:
    """A config that is no file, and command lines that are none."""
    folder_in_place = {"runs/config": b"mine", "config.yaml": SMALL.encode()}
    strange = {"runs/config/thesis.txt": b"mine", "config.yaml": SMALL.encode()}
    found = [
        Case("a missing file", "command", ["train", "nowhere.yaml"], codes=(2,)),
        Case("a folder", "command", ["train", "folder"], {"folder/x": b""}, codes=(2,)),
        Case("an empty name", "command", ["train", ""], codes=(2,)),
        Case("no config", "command", ["train"], codes=(2,)),
        Case("an unknown option", "command", ["train", "config.yaml", "--frsh"], {"config.yaml": SMALL.encode()}, codes=(2,)),
        Case("an unknown command", "command", ["trian", "config.yaml"], {"config.yaml": SMALL.encode()}, codes=(2,)),
        Case("half a worker", "command", ["train", "config.yaml", "--nproc-per-node", "0.5"], {"config.yaml": SMALL.encode()}, codes=(2,)),
        Case("no worker", "command", ["train", "config.yaml", "--nproc-per-node", "0"], {"config.yaml": SMALL.encode()}, codes=(2,)),
        Case("a file where the run folder goes", "check", ["config.yaml"], folder_in_place, codes=(2,)),
        Case("a folder of something else", "check", ["config.yaml"], strange, codes=(2,)),
        Case("a picture", "check", ["config.yaml"], {"config.yaml": b"\x89PNG\r\n\x1a\n" + dice.randbytes(500)}, codes=(2,)),
        Case("a name too long for the system", "command", ["train", "x" * 5000 + ".yaml"], codes=(2,)),
        Case("no run folders", "command", ["diff", "nowhere", "config.yaml"], {"config.yaml": SMALL.encode()}, codes=(2,)),
    ]
    return dice.choice(found)


def data_set(dice: random.Random) -> Case:
    """A data set with a fault, in one of the three places."""
    fault = dice.choice(sorted(SAID))
    split = dice.choice(["train", "train", "valid", "test"])
    if split != "train" and fault == "tiny":
        fault = "empty"
    arguments = ["config.yaml", f'data.{split}={{target: "{SET}", fault: {fault}}}']
    if fault in ("odd shape", "nan", "infinite", "short") and split != "train":
        arguments.append("train.epochs=1")
    # A loss that is not finite ends the training; in an evaluation it is a result, and said.
    codes = (0, 4) if fault in ("nan", "infinite") and split != "train" else (4,)
    return Case(f"{split} set: {fault}", "worker", arguments, {"config.yaml": SMALL.encode()}, codes=codes, said=SAID[fault])
