"""What a job asks of a cluster: a profile file and the command line's options -> one model of resources (free of torch).

From it follow all of sbatch's options; nobody has to keep two of them in step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from launcher.sbatch_options import refusal
from trainer.config.explain import explain
from trainer.config.load import read_yaml
from trainer.config.origins import COMMAND_LINE, Origins, render, within
from trainer.config.schema import Count, PositiveInt, Section
from trainer.config.strict_yaml import KeyPath, one_line, show
from trainer.errors import ConfigError

FOLDER = Path("slurm")
# By the names of `ostinato submit`'s options.
FLAGS = {
    "nodes": "--nnodes",
    "workers_per_node": "--nproc-per-node",
    "time": "--time",
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "gpus_per_node": "--gpus-per-node",
    "cpus_per_worker": "--cpus-per-worker",
    "memory_gb": "--mem-gb",
}
# Slurm's own forms: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.
_CLOCK = re.compile(r"(?P<minutes>\d{1,7})(?::(?P<seconds>[0-5]?\d))?|(?P<hours>\d{1,5}):(?P<m>[0-5]?\d):(?P<s>[0-5]?\d)", re.ASCII)
_DAYS = re.compile(r"(?P<days>\d{1,4})-(?P<hours>\d{1,3})(?::(?P<m>[0-5]?\d)(?::(?P<s>[0-5]?\d))?)?", re.ASCII)


def _is_a_word(value: str) -> str:
    if not re.fullmatch(r"[^\s'\"\\]+", value):
        raise ValueError(f"must be one word without spaces, quotes and backslashes, not {show(value)}")
    return value


Word = Annotated[str, AfterValidator(_is_a_word)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Container(Section):
    """A container in which each node's task runs."""

    runtime: Literal["apptainer", "pyxis"]
    """What starts it: ``apptainer exec``, or Slurm itself with NVIDIA's pyxis."""

    image: Word
    """The image: a file, or what the runtime takes for a name."""

    mounts: tuple[Word, ...] = ()
    """Folders seen inside, ``/outside`` or ``/outside:/inside``; the run folder's disk and the code must be among them."""


class Profile(Section):
    """What a job asks of a cluster."""

    executor: Literal["slurm", "local", "debug"] = "slurm"
    """submitit's: ``slurm``; ``local``, a process on this machine; ``debug``, this process."""

    partition: Word | None = None
    """The queue; the cluster's default when left out."""

    account: Word | None = None
    """Who pays."""

    qos: Word | None = None
    """The quality of service."""

    nodes: PositiveInt = 1
    """Machines."""

    workers_per_node: PositiveInt | None = None
    """Worker processes on each; when left out one for each GPU, without GPUs one."""

    gpus_per_node: Count = 0
    """GPUs on each."""

    gpu_type: Word | None = None
    """Which GPUs, by Slurm's name for them; any when left out."""

    cpus_per_worker: PositiveInt = 1
    """Processors for each worker, its loader workers included."""

    memory_gb: Amount | None = None
    """Memory of each node; 0: all that it has; the cluster's default when left out."""

    time: PositiveInt | str = "1:00:00"
    """The limit of one turn: minutes, or Slurm's ``HH:MM:SS`` or ``D-HH:MM:SS``. A run that needs longer goes on in the next one."""

    requeue: bool = True
    """Stand in the queue again when the time is up or others come first; the run goes on from its checkpoint."""

    setup: tuple[str, ...] = ()
    """Lines of shell that run once before the job's tasks: modules to load, variables to export."""

    container: Container | None = None
    """The container to run in."""

    sbatch: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Any other option of sbatch, by its long name."""

    srun: tuple[Word, ...] = ()
    """Any other option of srun, as it is typed."""

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, value: int | str) -> int | str:
        if isinstance(value, str) and not minutes_of(value):
            raise ValueError(f"must be minutes, HH:MM:SS or D-HH:MM:SS, such as 90 or 1:30:00, not {show(value)}")
        return value

    @field_validator("sbatch")
    @classmethod
    def _is_not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise ValueError(f"{one_line(name, 40)}: must be a long option's name without dashes in front, such as constraint")
            if why := refusal(name, value[name]):
                raise ValueError(f"{name}: {why}")
            if isinstance(value[name], str) and not value[name].isprintable():  # a new line would end the #SBATCH line
                raise ValueError(f"{name}: must be one line of printable characters, not {show(value[name])}")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Profile:
        if self.gpus_per_node and self.workers_per_node and self.workers_per_node > self.gpus_per_node:
            raise ValueError(
                f"workers_per_node={self.workers_per_node} on gpus_per_node={self.gpus_per_node}: each worker needs a GPU of its own"
            )
        if self.gpu_type and not self.gpus_per_node:
            raise ValueError(f"gpu_type={self.gpu_type}: say how many of them: gpus_per_node")
        if self.executor != "slurm" and self.nodes > 1:
            raise ValueError(f"nodes={self.nodes}: executor={self.executor} has one machine, this one")
        if self.container is not None and self.executor != "slurm":
            raise ValueError(f"container: executor={self.executor} starts none; run ostinato train inside the container instead")
        return self

    @property
    def workers(self) -> int:
        """Worker processes of each node."""
        return self.workers_per_node or max(1, self.gpus_per_node)

    @property
    def cpus_per_node(self) -> int:
        """Processors of each node."""
        return self.workers * self.cpus_per_worker

    @property
    def minutes(self) -> int:
        """The time limit in whole minutes, as sbatch counts it."""
        return self.time if isinstance(self.time, int) else minutes_of(self.time)


def minutes_of(text: str) -> int:
    """A time limit as sbatch understands it, in whole minutes, begun ones too; 0: it is none. Pure."""
    found = _DAYS.fullmatch(text) or _CLOCK.fullmatch(text)
    if found is None:
        return 0
    part = {name: int(value or 0) for name, value in found.groupdict().items()}
    seconds = part.get("s", 0) + part.get("seconds", 0)
    whole = part.get("m", 0) + part.get("minutes", 0)
    return (part.get("days", 0) * 24 + part.get("hours", 0)) * 60 + whole + (seconds > 0)


def load_profile(name: str | None, options: Mapping[str, Any], folder: Path = FOLDER) -> Profile:
    """The profile of a name or path, with what the command line says instead.

    Args:
        name: ``cpu`` for ``slurm/cpu.yaml``, or a path; None: all defaults.
        options: fields and their values; those that are None say nothing.
        folder: where named profiles are.

    Raises:
        ConfigError: with every problem, one line each.
    """
    file, values, lines = "command line", {}, {}
    unread: list[tuple[str, KeyPath, str]] = []
    if name is not None:
        path = profile_path(name, folder)
        file = one_line(str(path), 200)
        document = read_yaml(path, file, "a profile says what to ask of the cluster, such as 'partition: gpu'")
        values, lines = dict(document.value), document.lines
        unread = [(f"{file}:{line}", inner, text) for line, inner, text in document.problems]
    said = {field: value for field, value in options.items() if value is not None}
    origins = Origins(file, lines, {(field,): f"{COMMAND_LINE}{FLAGS[field]}={value}" for field, value in said.items()})
    try:
        profile = Profile.model_validate(_as_tuples({**values, **said}))
    except ValidationError as error:
        found = [problem for problem in explain(error, Profile) if not within(problem[0], [inner for _, inner, _ in unread])]
        raise ConfigError(*_render(origins, found, unread)) from None
    if unread:
        raise ConfigError(*render(unread))
    return profile


def _render(origins: Origins, found: list[tuple[KeyPath, str]], unread: list[tuple[str, KeyPath, str]]) -> list[str]:
    """Problems as lines; what the command line said is not named twice."""
    lines = []
    for path, message in found:
        origin = origins.of(path)
        lines.append((origin, () if origin.startswith(COMMAND_LINE) else path, message))
    if origins.file == "command line":
        return [line.removeprefix("command line:1: ") for line in render([*lines, *unread])]
    return render([*lines, *unread])


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """YAML's lists as the model's tuples: it takes nothing else for one."""
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    if isinstance(made.get("container"), dict):
        made["container"] = _as_tuples(made["container"])
    return made


def profile_path(name: str, folder: Path = FOLDER) -> Path:
    """The file of a profile.

    Raises:
        ConfigError: there is none of that name; the text lists those that are.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = sorted(entry.stem for entry in folder.glob("*.yaml"))
        known = f"{folder}/ has {', '.join(there)}" if there else f"there is no {folder}/ here; name a file"
        raise ConfigError(f"command line: --profile={one_line(name, 60)}: no such profile; {known}")
    return path
