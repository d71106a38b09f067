"""What a config may say: one typed field for each option, its meaning below it.

Nothing here imports torch: a config is read, checked and shown in tenths of a second. Checks never change a value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)


class Target(BaseModel):
    """An object named by ``target``, its arguments beside it.

    ``target`` is a short name of the registry (``resnet18``) or ``package.module:Name``. Importing a target runs its code.
    """

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True, strict=True)

    target: Annotated[str, Field(min_length=1)]
    """A short name, or ``package.module:Name``."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that stand beside ``target``."""
        return dict(self.model_extra or {})


class RunSection(Section):
    """Where the run lives."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """The run's name; the config file's stem when left out."""

    root: Annotated[str, Field(min_length=1)] = "runs"
    """The folder that holds run folders."""


class DataSection(Section):
    """Data sets, how they are batched and how they are read."""

    train: Target
    """The data set to train on; map-style: ``len(d)`` and ``d[i]`` -> ``(input, target)``."""

    valid: Target | None = None
    """Evaluated at the end of each epoch; decides which checkpoint is the best."""

    test: Target | None = None
    """Evaluated once, at the end, with the best checkpoint's weights."""

    batch_size: PositiveInt
    """Samples in an update of the whole job (the global batch), whatever the number of workers."""

    eval_batch_size: PositiveInt = 256
    """Samples in one forward pass of an evaluation."""

    drop_last: bool = True
    """Drop an epoch's last incomplete global batch (other samples each epoch); false: use it, weighted by sample count."""

    train_transforms: list[Target] = []
    """Applied to each training input in turn; a torchvision v2 transform's class name or ``package.module:Name``."""

    eval_transforms: list[Target] = []
    """Applied to each validation and test input in turn."""

    bad_samples: Literal["fail", "skip"] = "fail"
    """What to do with a sample that cannot be read: end the run, or take the next readable one in its place."""

    max_bad_samples: PositiveInt = 10
    """With ``bad_samples: skip``: more of them end the run."""

    loader_workers: Count = 0
    """Processes of each worker that read data; 0 reads in the worker itself. Never changes a result."""

    prefetch_factor: PositiveInt = 2
    """Micro-batches that each loader worker holds ready."""


class ClipSection(Section):
    """Gradient clipping, after unscaling. At most one of the two."""

    norm: PositiveFloat | None = None
    """Scale all gradients so that their total 2-norm is at most this."""

    value: PositiveFloat | None = None
    """Clamp each gradient element to [-value, value]."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ClipSection:
        if self.norm is not None and self.value is not None:
            raise ValueError("clip by norm or by value, not both")
        return self


class EarlyStopSection(Section):
    """End training when the watched metric no longer improves."""

    patience: PositiveInt
    """Epochs without improvement after which training ends."""

    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The least change that counts as an improvement."""


class EmaSection(Section):
    """An exponential moving average of the weights, used for evaluation: ``ema = decay * ema + (1 - decay) * weight``."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that each update keeps."""


class TrainSection(Section):
    """The training itself."""

    epochs: PositiveInt
    """Passes over the training set."""

    max_steps: PositiveInt | None = None
    """End after this many updates, if the epochs have not ended before."""

    virtual_ranks: Literal["auto"] | PositiveInt = "auto"
    """The number of virtual ranks, which fixes the job's arithmetic; auto: the number of workers at the first start."""

    amp: Literal["none", "bf16", "fp16"] = "none"
    """Autocast's dtype; fp16 uses a gradient scaler."""

    clip: ClipSection = ClipSection()
    ema: EmaSection | None = None
    early_stop: EarlyStopSection | None = None

    non_finite: Literal["raise", "skip"] = "raise"
    """What to do when a loss or the gradients are NaN or infinite: end the run, or leave out that update."""

    max_skipped: PositiveInt = 10
    """With ``non_finite: skip``: more updates left out one after another end the run."""

    monitor: Literal["auto", "loss", "accuracy"] = "auto"
    """The validation metric that says which checkpoint is best; auto: accuracy if there is one, else loss."""

    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether less or more of ``monitor`` is better; auto: less for the loss, more for the accuracy."""

    evaluate_every: PositiveInt = 1
    """Epochs between two evaluations of the validation set."""


class HardwareSection(Section):
    """What to compute on, and how exactly."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a device for each worker, else CPU."""

    threads: Literal["auto"] | PositiveInt = "auto"
    """Intra-op threads of each worker; auto: cores divided by virtual ranks. It changes bits, so a run keeps it."""

    deterministic: bool = True
    """torch.use_deterministic_algorithms: an operation without a deterministic implementation is an error."""

    cudnn_deterministic: bool = True
    """torch.backends.cudnn.deterministic."""

    cudnn_benchmark: bool = False
    """torch.backends.cudnn.benchmark: faster convolutions, other bits in each run."""

    tf32: bool = False
    """TF32 matrix products and convolutions on CUDA."""

    collective_timeout_s: PositiveFloat = 600.0
    """A collective operation that takes longer is an error."""


class CheckpointSection(Section):
    """When to save, and what to keep."""

    every_steps: PositiveInt | None = None
    """Save after this many updates, besides each epoch's end."""

    every_s: PositiveFloat | None = None
    """Save after this many seconds, by rank 0's clock."""

    keep_last: PositiveInt = 2
    """The newest checkpoints to keep; the best one is kept besides."""

    keep_every: PositiveInt | None = None
    """Also keep each checkpoint whose step is a multiple of this."""


class SupervisionSection(Section):
    """How the launcher watches the workers, and when it starts them again."""

    stuck_after_s: PositiveFloat = 300.0
    """No worker has moved for this long: all are stuck. Every stack is written down, and the job is ended and started again."""

    start_within_s: PositiveFloat = 1800.0
    """The same limit until the first update is done: downloads and compilation take their time."""

    max_restarts: Count = 3
    """Starts after a fault of the system (killed, out of memory, stuck) without a new checkpoint in between; 0: never."""

    fewer_workers: bool = True
    """When a restart brought no new checkpoint either, go on with fewer workers: the same bits, less memory in use."""

    grace_s: PositiveFloat = 30.0
    """The time from a request to stop until whoever asked ends the processes (Slurm's KillWait, torchrun's 30 s)."""


class LogSection(Section):
    """What is written down, and how often."""

    every_steps: PositiveInt = 50
    """Updates between two rows of the metrics."""

    tensorboard: bool = True
    """Write TensorBoard event files beside the JSONL rows."""

    system_every_s: PositiveFloat = 5.0
    """Seconds between two samples of CPU, memory and GPU use."""

    fingerprint_every: Count = 100
    """Updates between two 64-bit fingerprints of the weights, compared across ranks; 0: never."""


class Config(Section):
    """A whole run: ``ostinato train CONFIG``."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The one seed: of weights, sample order, augmentation and dropout."""

    run: RunSection = RunSection()
    model: Target
    """A ``torch.nn.Module``."""
    loss: Target = Target(target="cross_entropy")
    """A ``torch.nn`` loss: a module called with ``(output, target)``, the mean over the samples."""
    data: DataSection
    optimizer: Target
    """A ``torch.optim`` optimizer; the parameters are passed first."""
    schedule: Target = Target(target="constant")
    """The learning rate over time."""
    train: TrainSection
    hardware: HardwareSection = HardwareSection()
    checkpoint: CheckpointSection = CheckpointSection()
    supervision: SupervisionSection = SupervisionSection()
    log: LogSection = LogSection()
