"""One worker: join the others, build, train, leave with an exit code. Every way to start a job ends here."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from trainer import environment, errors
from trainer.agreement import Agreement
from trainer.build import Job, build, eval_transforms
from trainer.checkpoint import store
from trainer.checkpoint.saver import Saver
from trainer.config import checks
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.data import inputs, vocabulary
from trainer.data.describe import describe
from trainer.data.processes import STACKS
from trainer.distributed import World, join, leave
from trainer.errors import OstinatoError, RunFolderError
from trainer.files import private
from trainer.heartbeat import Heart, Place
from trainer.loop import Around, is_paused, train
from trainer.metrics.progress import Bar
from trainer.metrics.writer import open_writer
from trainer.outcome import Outcome, guarded
from trainer.prepare import FENCE_S, prepare, run_of
from trainer.rundir import Fence, RunDir, RunLock
from trainer.seed import set_arithmetic
from trainer.stop import PAUSE, REQUEST

log = logging.getLogger("trainer")

PR_SET_PDEATHSIG = 1


def run(run_dir: str) -> int:
    """The entry for a launcher that has prepared the run folder: 0 or 75, or the process leaves with its exit code."""
    folder = RunDir(run_dir)
    return guarded(lambda outcome: _work(folder, load(folder.config).config, outcome))


def main(arguments: Sequence[str]) -> int:
    """The entry of ``python -m trainer (RUN_DIR | CONFIG [key=value…])``, alone or under torchrun; returns the exit code."""
    first, overrides = Path(arguments[0]), list(arguments[1:])
    return guarded(lambda outcome: _prepare_and_work(first, overrides, outcome))


def _prepare_and_work(path: Path, overrides: list[str], outcome: Outcome) -> int:
    folder = RunDir(path) if path.is_dir() else None
    if folder is not None and (overrides or not folder.exists()):
        raise RunFolderError(f"{path}: a run folder is meant to have a config.yaml, and takes no overrides; name the config instead")
    config = load(path if folder is None else folder.config, overrides).config
    run = folder or run_of(config)
    world = join(config.hardware)
    if world.is_main:
        try:
            if folder is None:
                prepared = prepare(path, overrides, world_size=world.size, hold=True)
                print(prepared.message, flush=True)
                lock = prepared.lock
            else:
                run.check()
                lock = RunLock(run.lock)
                Fence.wait(run.fence, FENCE_S)
                run.clear_partials()
        except OstinatoError:
            world.broadcast_int(1)
            raise
        finished = run.finished()
        if finished and folder is not None:
            print(f"run {run.name}: finished already", flush=True)
        status = world.broadcast_int(2 if finished else 0)
    else:
        status = world.broadcast_int(0)
    if status == 1:
        os._exit(errors.BAD_CONFIG)  # rank 0 says why
    if status == 2:
        leave(world)
        return errors.DONE
    code = _work(run, load(run.config).config, outcome, world)
    if world.is_main:
        lock.release()
    return code


def _work(run: RunDir, config: Config, outcome: Outcome, world: World | None = None) -> int:
    REQUEST.listen()
    _die_with_parent()
    Fence.hold(run.fence)
    world = world or join(config.hardware)
    assert isinstance(config.hardware.threads, int)
    set_arithmetic(config.hardware, config.hardware.threads)
    attempt = world.broadcast_int(run.next_attempt() if world.is_main else 0)
    with contextlib.ExitStack() as stack:
        place = Place()
        heart = Heart(run, world.rank, attempt, place)
        _open_logs(run, world, attempt, heart)
        outcome.path = run.outcome(attempt, world.rank)
        heart.start()
        stack.callback(heart.stop)
        job = build(config, world, place, resumes=bool(store.names(run.checkpoints)))
        stack.callback(job.loader.close)
        saver = Saver(run, config, world, attempt)
        stack.push(lambda kind, fault, trace: _let_finish(saver, outcome, fault))
        saver.beat = lambda: setattr(place, "tick", place.tick + 1)
        name = saver.restore(job)
        place.step, place.epoch = job.state.step, job.state.epoch
        writer = None
        if world.is_main:
            saver.preflight(job)
            vocabulary.keep(job.train_set, run.vocabulary, resumed=name is not None)
            if name is None or not run.inputs.exists():
                inputs.keep(run.inputs, job.train_set, job.valid, job.test, config=config, transforms=eval_transforms(config))
            writer = open_writer(run, job, attempt)
            stack.callback(writer.close)
            stack.callback(heart.stop)  # before the writer closes: the last sample goes through it
            if sys.stdout.isatty():
                heart.bar = Bar(config.train.epochs, job.total_steps)
            heart.collect(writer, world.size, config.log.system_every_s)
            run.event("resumed" if name else "started", attempt=attempt, workers=world.size, checkpoint=name)
            _say_start(config, world, name, job)
            recorder = threading.Thread(target=_record, args=(run, job, attempt), name="environment")
            recorder.start()  # git and hashes take their time, and the first step need not wait for them
            stack.callback(recorder.join)
        REQUEST.training = True
        finished = train(job, Around(writer, saver, REQUEST, Agreement(world)))
        place.phase = "save"
        saver.wait()
        if not finished and world.is_main:
            reason = PAUSE if is_paused(job) else None
            log.info(f"stopped by {reason or REQUEST.by or 'a request'} at step {job.state.step}, with a checkpoint")
            more = {"reason": reason, "epoch": job.state.epoch} if reason else {}
            run.event("stopped", attempt=attempt, step=job.state.step, signal=REQUEST.by, **more)
    code = errors.DONE if finished else errors.STOPPED
    del job  # the wrapped model goes before the process group
    leave(world)
    return code


def _let_finish(saver: Saver, outcome: Outcome, fault: BaseException | None) -> None:
    """A checkpoint that is being written when training fails is a good one: it is written to its end, after the cause."""
    if fault is not None:
        outcome.write_fault(fault)
        with contextlib.suppress(Exception):
            saver.wait()


def _say_start(config: Config, world: World, checkpoint: str | None, job: Job) -> None:
    log.info(_start_line(config, world, checkpoint))
    for line in checks.idle(config):
        log.warning(line)
    if config.train.virtual_ranks != world.size and any(isinstance(m, nn.SyncBatchNorm) for m in job.state.model.modules()):
        log.warning("SyncBatchNorm looks across workers: the bits depend on their number unless it equals train.virtual_ranks")


def _start_line(config: Config, world: World, checkpoint: str | None) -> str:
    where = f"from {checkpoint}" if checkpoint else "from the beginning"
    counts = [(config.train.virtual_ranks, "virtual rank"), (world.size, "worker"), (config.hardware.threads, "thread")]
    ranks, workers, threads = (f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    return f"training {where}: {ranks} on {workers} ({world.device.type}, {threads} each)"


def _record(run: RunDir, job: Job, attempt: int) -> None:
    """Write down what this attempt runs on, and say what changed since the one before."""
    try:
        entry = {"attempt": attempt, "time": time.time(), **environment.record(job.config, job.world)}
        entry["data"] = describe(job.train_set, job.plan)
        for change in environment.append(run, entry):
            log.warning(f"bits may differ from here: {change}")
            run.event("environment-changed", attempt=attempt, change=change)
    except Exception as fault:  # a record that cannot be made must not end the training
        log.warning(f"environment.json could not be written: {type(fault).__name__}: {fault}")


def _die_with_parent() -> None:
    """Ask the kernel to kill this worker when its launcher dies: no orphan holds a GPU or writes into a folder that is in use again."""
    if not os.environ.keys() & {"OSTINATO_LAUNCHED", "TORCHELASTIC_RUN_ID"}:
        return  # started by hand, perhaps from a shell that will be closed
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(errors.LOST)  # it died in between


def _open_logs(run: RunDir, world: World, attempt: int, heart: Heart) -> None:
    """Each rank's log in its file; rank 0's lines on the terminal too; what other ranks print goes to their files."""
    path = run.rank_log(attempt, world.rank)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    file = open(path, "a", encoding="utf-8", buffering=1, opener=private)  # noqa: SIM115 - open until the process ends
    faulthandler.enable(file)
    # Whoever finds the job stuck asks by SIGQUIT where each process is; the answer needs no help of python's, so it comes from a hang too.
    stacks = open(run.stack(attempt, world.rank), "a", opener=private)  # noqa: SIM115 - open until the process ends
    faulthandler.register(signal.SIGQUIT, file=stacks, all_threads=True, chain=False)
    os.environ[STACKS] = str(run.stack(attempt, world.rank).with_suffix(""))
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    if world.is_main:
        log.addHandler(_Terminal(heart))
    else:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())


class _Terminal(logging.Handler):
    """Lines for people, above the bar where there is one."""

    def __init__(self, heart: Heart) -> None:
        super().__init__()
        self.heart = heart

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; whose terminal is gone misses it, and training goes on."""
        with contextlib.suppress(OSError):
            if self.heart.bar is not None:
                self.heart.bar.console.print(record.getMessage(), markup=False, highlight=False)
            else:
                print(record.getMessage(), flush=True)
