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

    pause_after_epoch: PositiveInt | None = None
    """Stop by itself (exit code 75) after this many epochs, with a checkpoint; a start that leaves it out goes on, with the same bits."""


class DataSection(Section):
    """Data sets, how they are batched and how they are read."""

    train: Target
    """The data set to train on; map-style: ``len(d)`` and ``d[i]`` -> ``(input, target)``."""

    valid: Target | None = None
    """Evaluated at the end of each epoch; decides which checkpoint is the best."""

    test: Target | None = None
    """Evaluated once, at the end, with the best checkpoint's weights."""

    valid_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Instead of ``valid``: this share of ``train``, chosen by ``split_seed``, with ``eval_transforms``."""

    stratified: bool = False
    """Choose that share from each class alike."""

    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Which samples the share takes; the job's own seed plays no part in it."""

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

    batch_transforms: list[Target] = []
    """Applied to each training micro-batch, inputs and targets: ``mixup``, ``cutmix`` or ``package.module:Name``."""

    bad_samples: Literal["fail", "skip"] = "fail"
    """What to do with a sample that cannot be read: end the run, or take the next readable one in its place."""

    max_bad_samples: PositiveInt = 10
    """With ``bad_samples: skip``: more of them end the run; the frames of one video are one."""

    loader_workers: Count = 0
    """Processes of each worker that read data; 0 reads in the worker itself. Never changes a result."""

    prefetch_factor: PositiveInt = 2
    """Micro-batches that each loader worker holds ready."""


class GroupRule(Section):
    """A group of parameters with settings of its own; the first rule that matches a parameter counts."""

    match: str | list[str]
    """Names of parameters, with ``*``: ``fc.*``; or ``norms``, ``biases`` and ``head`` (the last layer, whatever it is called)."""

    lr: PositiveFloat | None = None
    """Its learning rate; the optimizer's when left out."""

    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Its weight decay; the optimizer's when left out."""

    name: str | None = None
    """What its learning rate is called in the logs; ``match`` when left out."""


class FreezeRule(Section):
    """Parameters that do not train."""

    match: str | list[str]
    """Names of parameters, with ``*``: ``layer1.*``; or ``norms``, ``biases`` and ``head``."""

    but: str | list[str] = []
    """Names that train all the same: ``fc.*``, or ``head``, the last layer whatever it is called."""

    until_epoch: PositiveInt | None = None
    """They train from this epoch on (counted from 0); left out: never."""

    statistics: bool = True
    """Freeze the running statistics of the BatchNorm layers among them as well."""


class InitRule(Target):
    """How some parameters begin: a function of ``torch.nn.init`` and its arguments."""

    match: str | list[str]
    """Names of parameters, with ``*``: ``*.weight``; or ``norms``, ``biases`` and ``head``."""


class StartSection(Section):
    """What the model's weights are when training begins."""

    pretrained: str | None = None
    """A name of torchvision's weights (``DEFAULT``, ``IMAGENET1K_V1``), a ``.pt``, ``.pth`` or ``.safetensors`` file, or a run folder."""

    strict: bool = True
    """Every tensor must fit; false: those that do not are left as they are, and said."""

    skip: str | list[str] = []
    """Names that are not taken from ``pretrained``, with ``*``: ``fc.*``, or ``head`` where it is for other classes."""

    init: list[InitRule] = []
    """Applied in turn before ``pretrained`` is loaded."""


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
    """Evaluations without improvement after which training ends (``train.evaluate_every`` epochs lie between two)."""

    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The least change that counts as an improvement here; the best checkpoint is the best by however little."""


class EmaSection(Section):
    """An exponential moving average of the weights, used for evaluation: ``ema = decay * ema + (1 - decay) * weight``."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that each update keeps."""


class SwaSection(Section):
    """Stochastic weight averaging (Izmailov et al., 2018): the mean of the weights at the ends of the last epochs, used for evaluation."""

    start_epoch: Count
    """The first epoch whose weights are averaged, counted from 0."""


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
    swa: SwaSection | None = None
    early_stop: EarlyStopSection | None = None

    lr_for_batch: PositiveInt | None = None
    """The global batch that ``optimizer.lr`` is meant for: it is scaled with ``data.batch_size``. Left out: not scaled."""

    channels_last: bool = False
    """Keep images and convolutions in channels-last memory: faster on GPUs with tensor cores."""

    compile: bool = False
    """``torch.compile`` the model: slower to start, faster after."""

    sync_batchnorm: bool = False
    """BatchNorm over all workers' micro-batches (CUDA): its bits depend on the number of workers."""

    recompute: str | list[str] = []
    """Modules, with ``*``, whose activations are computed again in the backward pass instead of kept: less memory, more time."""

    non_finite: Literal["raise", "skip"] = "raise"
    """What to do when a loss or the gradients are NaN or infinite: end the run, or leave out that update."""

    max_skipped: PositiveInt = 10
    """With ``non_finite: skip``: more updates left out one after another end the run."""

    monitor: str = "auto"
    """The validation metric that says which checkpoint is best; auto: accuracy if there is one, else loss."""

    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether less or more of ``monitor`` is better; auto: as the task says of its metrics (less of errors, more of hits)."""

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

    images: Count = 0
    """TensorBoard: this many of the first training inputs as pictures; 0: none."""

    graph: bool = False
    """TensorBoard: the model's graph."""

    histograms_every: Count = 0
    """TensorBoard: epochs between two histograms of each weight and gradient; 0: never."""

    wandb: str | None = None
    """The Weights & Biases project to log to (extra ``wandb``; ``WANDB_MODE=offline`` keeps it local)."""

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
    start: StartSection = StartSection()
    freeze: list[FreezeRule] = []
    """Parameters that do not train, or not from the beginning."""
    groups: list[GroupRule] = []
    """Parameters with a learning rate or a weight decay of their own."""
    task: Target = Target(target="auto")
    """What the loss is called with and which metrics are kept: auto, classification, multi_label, regression, or your own."""
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
