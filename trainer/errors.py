"""Every way a run can end badly: one exception tree, each class with its exit code.

::

    OstinatoError                1   a bug of ours (never raised as such)
    ├── ConfigError              2   the config or the command line is wrong; nothing was created
    ├── RunFolderError           2   the run folder is not usable for this command
    ├── CheckpointError          3   no usable checkpoint where one was asked for
    ├── TrainingError            4   training cannot go on (user code raised, data refused)
    │   └── NonFiniteError       4   a loss, a gradient or a weight is NaN or infinite
    ├── StorageError             5   the disk is full or fails
    └── NodeLostError            5   another machine of the job is gone, or never came

A process that the system takes cannot raise: the launcher gives it ``LOST`` (5).
Exit codes that are no error: ``0`` done, ``75`` stopped on request with a checkpoint (``EX_TEMPFAIL``:
start again to go on). This table is the only one; ``docs/exit-codes.md`` is tested against it.
"""

from __future__ import annotations

DONE = 0
DIFFERENT = 1
BAD_CONFIG = 2
BAD_CHECKPOINT = 3
TRAINING_FAILED = 4
LOST = 5
STUCK = 6
STOPPED = 75

EXIT_CODES: dict[int, str] = {
    DONE: "done",
    DIFFERENT: "`verify`, `diff` or `export` found a difference",
    BAD_CONFIG: "bad config or usage; nothing was created",
    BAD_CHECKPOINT: "no usable checkpoint",
    TRAINING_FAILED: "training failed: a non-finite number, or user code raised",
    LOST: "lost to the system: killed, out of memory, node gone, disk full or failing",
    STUCK: "stuck: no progress within the time limit",
    STOPPED: "stopped on request with a checkpoint; start again to go on",
}


class OstinatoError(Exception):
    """A fault that a person can act on; its text is one line: what, where, what instead."""

    exit_code: int = 1


class ConfigError(OstinatoError):
    """One or more problems in a config or a command line, each one line.

    Args:
        problems: one line a problem, ``file:line: path: what is wrong``.
    """

    exit_code = BAD_CONFIG

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class RunFolderError(OstinatoError):
    """The run folder is in use, belongs to another config, or cannot be written."""

    exit_code = BAD_CONFIG


class CheckpointError(OstinatoError):
    """A checkpoint is missing, torn, altered, or belongs to another model."""

    exit_code = BAD_CHECKPOINT


class TrainingError(OstinatoError):
    """Training cannot go on."""

    exit_code = TRAINING_FAILED


class NonFiniteError(TrainingError):
    """A loss, a gradient or a weight is NaN or infinite."""


class StorageError(OstinatoError):
    """A checkpoint could not be written: the disk is full or fails."""

    exit_code = LOST


class NodeLostError(OstinatoError):
    """Another machine of the job does not answer, or never came."""

    exit_code = LOST
