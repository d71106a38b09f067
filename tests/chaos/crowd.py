"""Many starts of one run at once, and somebody who writes pickles where the job reads: one winner, and no code of theirs runs."""

from __future__ import annotations

import base64
import json
import pickle
import random
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore, TCPStore

from tests.chaos.kills import GONE_AFTER_S, HANG_S, command, undisturbed
from tests.chaos.result import Result
from tests.chaos.workload import End, lost_checkpoint, newest_step, slow_config, write_config
from tests.support.family import Family, crowding
from trainer.checkpoint import store
from trainer.errors import BAD_CONFIG, DONE, LOST, STOPPED, STUCK
from trainer.rundir import RunDir, read_jsonl

STARTS = 20


def crowd(seed: int, count: int = 10, starts: int = STARTS) -> Result:
    """So often: many starts of the same run at once, of which exactly one trains; every other time of a run that was stopped before."""
    good, failures = 0, []
    with tempfile.TemporaryDirectory(prefix="crowd-") as name:
        folder = Path(name)
        write_config(folder / "undisturbed", slow_config())
        reference = undisturbed(folder / "undisturbed", "c.yaml").end
        resumed = 0
        for number in range(1, count + 1):
            stopped = (seed + number) % 2 == 0
            fault = _one_crowd(folder / f"crowd-{number}", starts, reference, random.Random(seed + number), stopped)
            good, resumed = good + (fault is None), resumed + stopped
            if fault is not None:
                failures.append(f"crowd {number}, {'stopped before' if stopped else 'new'}: {fault}")
    return Result("crowd", count, good, failures, f"{starts} starts each, {resumed} of runs that were stopped before")


def _one_crowd(folder: Path, starts: int, reference: End, chosen: random.Random, stopped: bool) -> str | None:
    """Start all, and open the data's gate when all but one have gone: nobody can win because another was done already."""
    gate, run = folder / "gate", RunDir(folder / "runs" / "c")
    config = write_config(folder, slow_config(data={"train": {"target": "tests.chaos.workload:SlowImages", "gate": str(gate)}}))
    if stopped and (fault := _stop_midway(folder, config, gate)):
        return fault
    known, families = sum(1 for _ in read_jsonl(run.events)), []
    for _ in range(starts):
        families.append(Family(folder, *command(config)))
        time.sleep(chosen.choice((0.0, 0.0, chosen.uniform(0, 0.2))))
    try:
        limit = time.monotonic() + HANG_S * crowding()
        while sum(family.launcher.poll() is None for family in families) > 1 and time.monotonic() < limit:
            time.sleep(0.05)
        gate.touch()
        ends = [family.end(HANG_S * crowding()) for family in families]
    finally:
        for family in families:
            family.kill()
            family.launcher.communicate()
    return _wrong_winners(run, known, ends, reference)


def _stop_midway(folder: Path, config: str, gate: Path) -> str | None:
    """Train for a while, and stop with a checkpoint; what is wrong, or None."""
    gate.parent.mkdir(parents=True, exist_ok=True)
    gate.touch()
    family, run = Family(folder, *command(config)), RunDir(folder / "runs" / "c")
    while family.launcher.poll() is None and newest_step(run) < 6:
        time.sleep(0.01)
    family.launcher.terminate()
    code, out, err = family.end(HANG_S * crowding())
    left = family.left_after(GONE_AFTER_S)
    family.kill()
    gate.unlink()
    if code != STOPPED or left:
        return f"the start before ended with {code}, not {STOPPED}, and left {left}: {(out + err)[-300:]}"
    return None


def _wrong_winners(run: RunDir, known: int, ends: list[tuple[int | None, str, str]], reference: End) -> str | None:
    """What is wrong with the ends of all starts, or None."""
    codes = [code for code, _, _ in ends]
    if sorted(codes, key=str) != sorted([DONE] + [BAD_CONFIG] * (len(ends) - 1), key=str):
        odd = next(((out + err)[-300:] for code, out, err in ends if code not in (DONE, BAD_CONFIG)), "")
        return f"exit codes {codes} {odd}"
    for code, _, err in ends:
        if code == BAD_CONFIG and (err.count("\n") != 1 or "in use" not in err):
            return f"a loser says {err[-300:]!r}"
    events = list(read_jsonl(run.events))
    begun = [row["event"] for row in events[known:] if row["event"] in ("started", "resumed")]
    created = sum(row["event"] == "created" for row in events)
    if begun != ["resumed" if known else "started"] or created != 1:
        return f"{created} created it, and those that trained: {begun}"
    if fault := lost_checkpoint(events):
        return fault
    others = [path.name for path in run.path.parent.iterdir() if path != run.path and not path.name.startswith(".")]
    return f"beside the run there is {others}" if others else End.of(run).difference(reference)


class _Payload:
    """Unpickling it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sentinel,)


def payload(seed: int, count: int = 6) -> Result:
    """A pickle that runs code: in every key of the job's store while it runs, and in its newest checkpoint."""
    chosen, good, failures = random.Random(seed), 0, []
    with tempfile.TemporaryDirectory(prefix="payload-") as name:
        folder = Path(name)
        control = folder / "control"
        pickle.loads(pickle.dumps(_Payload(control)))
        if not control.exists():
            failures.append("the control: the payload does nothing where it is unpickled")
        if what := runs_from_an_open_store(folder / "torchrun"):
            failures.append(f"the control: {what}, so nothing is proved about our store")
        write_config(folder / "undisturbed", slow_config())
        reference = undisturbed(folder / "undisturbed", "c.yaml").end
        written = 0
        for number in range(1, count + 1):
            here = folder / f"run-{number}"
            if number % 2:
                fault, keys = _in_the_store(here, reference, chosen)
                written += keys
            else:
                fault = _in_a_checkpoint(here, reference)
            good += fault is None
            if fault is not None:
                failures.append(f"case {number}: {fault}")
        if not written:
            failures.append("no key of a store was ever met: nothing was proved about stores")
    return Result("payload", count, good, failures, f"{written} keys of stores were written")


def runs_from_an_open_store(folder: Path) -> str | None:
    """The same payload in the rendezvous of torchrun as it comes: a TCP store that anybody may write to. It must run; None: it did."""
    folder.mkdir()
    sentinel = folder / "it-ran"
    (folder / "wait.py").write_text("import time\ntime.sleep(60)\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    family = Family(
        folder,
        *("--nnodes", "1", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "job"),
        *("--rdzv-endpoint", f"127.0.0.1:{port}", "wait.py"),
        module="torch.distributed.run",
    )
    try:
        store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=60))
        key, limit = "torch.rendezvous.job", time.monotonic() + HANG_S * crowding()
        store.wait([key], timedelta(seconds=60))
        while not sentinel.exists() and family.launcher.poll() is None and time.monotonic() < limit:
            store.set(key, base64.b64encode(pickle.dumps(_Payload(sentinel))))
            time.sleep(0.1)
        return None if sentinel.exists() else "torchrun's own store does not run the payload either"
    except (RuntimeError, OSError) as fault:  # torch.distributed's errors are RuntimeErrors
        return f"torchrun's store could not be reached ({str(fault).splitlines()[0]})"
    finally:
        family.kill()
        family.launcher.communicate()


def _in_the_store(folder: Path, reference: End, chosen: random.Random) -> tuple[str | None, int]:
    """Write it in all keys and beside the store, again and again until the end."""
    sentinel, temporary = folder / "it-ran", folder / "tmp"
    config = write_config(folder, slow_config(supervision={"max_restarts": 0, "stuck_after_s": 10.0, "start_within_s": 15.0}))
    temporary.mkdir()
    family, written = Family(folder, *command(config), TMPDIR=str(temporary)), 0
    evil = pickle.dumps(_Payload(sentinel))
    try:
        wait_until, limit = chosen.choice((0, 1, 3)), time.monotonic() + HANG_S * crowding()
        run = RunDir(folder / "runs" / "c")
        while family.launcher.poll() is None and time.monotonic() < limit:
            if newest_step(run) >= wait_until:  # 0: while the workers meet
                written += sum(_overwrite(path, evil) for path in temporary.glob("ostinato-*/*") if path.is_file())
            time.sleep(0.05)
        code, out, err = family.end(HANG_S)
        if sentinel.exists():
            return "the payload ran from the store", written
        if code not in (DONE, LOST, STUCK) or "Traceback" in err:  # workers that cannot meet any more are lost, or wait
            return f"ended with {code}: {(out + err)[-300:]}", written
        if left := family.left_after(GONE_AFTER_S):
            return f"still there: {'; '.join(left)}", written
        return (End.of(run).difference(reference) if code == DONE else None), written
    finally:
        family.kill()
        family.launcher.communicate()


def _overwrite(path: Path, value: bytes) -> int:
    """Put the value under each key of a store; how many there were. Another file becomes the value."""
    if path.suffix:  # heartbeats and outcomes
        with suppress(OSError):
            path.write_bytes(value)
        return 0
    ours = path.parents[1] / "by-another-name"  # under its own name it may vanish, and torch would wait for it for minutes
    try:
        ours.unlink(missing_ok=True)
        ours.hardlink_to(path)
        found = FileStore(str(ours), -1)
        keys = found.list_keys()
        for key in keys:
            found.set(key, value)
    except (RuntimeError, OSError):  # the job has ended in between, or it is no store
        return 0
    return len(keys)


def _in_a_checkpoint(folder: Path, reference: End) -> str | None:
    """As the newest checkpoint's state, with a right digest in the manifest: the one before it must be used."""
    sentinel, run = folder / "it-ran", RunDir(folder / "runs" / "c")
    config = write_config(folder, slow_config())
    family = Family(folder, *command(config))
    while family.launcher.poll() is None and newest_step(run) < 14:
        time.sleep(0.01)
    family.launcher.terminate()
    family.end(HANG_S * crowding())
    good = store.names(run.checkpoints)[-1]
    bad = f"step-{store.step_of(good) + 1:08d}"
    shutil.copytree(run.checkpoints / good, run.checkpoints / bad)
    state = run.checkpoints / bad / store.STATE
    torch.save({"step": store.step_of(bad), "model": _Payload(sentinel)}, state)
    manifest = json.loads((run.checkpoints / bad / store.MANIFEST).read_text())
    manifest["step"] = store.step_of(bad)
    manifest["files"][store.STATE] = {"bytes": state.stat().st_size, "sha256": store.digest(state)}
    (run.checkpoints / bad / store.MANIFEST).write_text(json.dumps({**manifest, "seal": store.seal(manifest)}))
    family = Family(folder, *command(config))
    code, out, err = family.end(HANG_S * crowding())
    family.kill()
    if sentinel.exists():
        return "the payload ran from the checkpoint"
    if code == DONE:
        return End.of(run).difference(reference)
    # Refused for good is a right answer, too: its digest says that it is what was written.
    return None if code == 3 and "Traceback" not in err else f"ended with {code}: {(out + err)[-300:]}"
