"""Configs with one mistake each (or a few), and what must be said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GOOD = """\
seed: 1
model: {target: "torch.nn:Linear", in_features: 4, out_features: 2}
data:
  train: {target: digits, split: train}
  valid: {target: digits, split: valid}
  batch_size: 32
optimizer:
  target: sgd
  lr: 0.1
train:
  epochs: 2
"""


@dataclass(frozen=True)
class BrokenConfig:
    """A config that must be refused.

    Args:
        name: what is wrong, in a word or two.
        text: the file.
        overrides: of the command line.
        line: of the file, in the first problem; None where the command line is at fault.
        fragment: part of one of the messages.
        stage: whether the schema can see it, or only an imported target.
    """

    name: str
    text: str
    overrides: tuple[str, ...]
    line: int | None
    fragment: str
    stage: Literal["schema", "target"] = "schema"


def _text(name: str, old: str, new: str, line: int, fragment: str, stage: Literal["schema", "target"] = "schema") -> BrokenConfig:
    assert old in GOOD
    return BrokenConfig(name, GOOD.replace(old, new, 1), (), line, fragment, stage)


def _whole(name: str, text: str, line: int, fragment: str) -> BrokenConfig:
    return BrokenConfig(name, text, (), line, fragment)


def _said(override: str, fragment: str, stage: Literal["schema", "target"] = "schema") -> BrokenConfig:
    return BrokenConfig(f"override {override}"[:60], GOOD, (override,), None, fragment, stage)


BROKEN = [
    # The file is no YAML, or not ours.
    _whole("empty", "", 1, "empty"),
    _whole("only comments", "# nothing\n\n# here\n", 1, "empty"),
    _whole("only a document marker", "---\n", 1, "empty"),
    _whole("a list", "- model\n- data\n", 1, "the top level is a list"),
    _whole("a word", "hello\n", 1, "the top level is the text 'hello'"),
    _whole("a number with a leading zero alone", "010\n", 1, "leading zero"),
    _text("a tab", "  target: sgd", "\ttarget: sgd", 8, "a tab; indent with spaces"),
    _text("bad indentation", "  batch_size", " batch_size", 6, "indentation"),
    _text("an open list", "seed: 1", "seed: [1", 2, "not closed"),
    _text("an open quote", "split: train", "split: 'train", 12, "inside quotes"),
    _text("two colons", "seed: 1", "seed: a: 1", 1, "':' where no value can begin"),
    _text("a control character", "seed: 1", "seed: 1\x07", 1, "control character"),
    _text("a bad escape", "seed: 1", 'seed: "\\UFFFFFFFF"', 1, "not valid YAML"),
    _text("half a surrogate", "split: train", 'split: "\\ud800"', 4, "surrogate"),
    _text("a duplicate key", "  epochs: 2", "  epochs: 2\n  epochs: 3", 12, "stands twice; the first is in line 11"),
    _text("a duplicate section", "train:\n", "data: {}\ntrain:\n", 10, "stands twice; the first is in line 3"),
    _text("an anchor", "seed: 1", "seed: &one 1", 1, "anchor &one is refused"),
    _text("an alias", "seed: 1", "seed: *one", 1, "alias *one is refused"),
    _text("a tag", "seed: 1", "seed: !!int 1", 1, "tag tag:yaml.org,2002:int is refused"),
    _text("a python tag", "seed: 1", "seed: !!python/object/apply:os.system [x]", 1, "is refused"),
    _text("a merge key", "  target: sgd", "  <<: {lr: 3}\n  target: sgd", 8, "merge key"),
    _text("two documents", "optimizer:\n", "---\noptimizer:\n", 7, "second document"),
    _text("too deep", "seed: 1", "seed: " + "[" * 40 + "]" * 40, 1, "nested deeper than 32"),
    _text("a list as key", "seed: 1", "[1, 2]: 1", 1, "a key must be one word"),
    _text("a number as key", "seed: 1", "1: 1", 1, "a key must be text"),
    _text("no key", "seed: 1", "seed: {: 1}", 1, "a key is missing"),
    _text("a leading zero", "batch_size: 32", "batch_size: 032", 6, "032 has a leading zero; write 32"),
    _text("an endless number", "lr: 0.1", "lr: 1e999", 9, "too large"),
    _text(
        "bad samples skipped in memory",
        "{target: digits, split: train}",
        "{target: in_memory, of: {target: digits}}\n  bad_samples: skip",
        5,
        "data.bad_samples: data.train is in_memory, which reads all samples at the start and cannot skip",
    ),
    # The schema.
    _text("unknown key", "batch_size: 32", "batch_size: 32\n  batchsize: 4", 7, "did you mean 'batch_size'?"),
    _text("unknown section", "seed: 1", "sed: 1", 1, "did you mean 'seed'?"),
    _text("key in the wrong place", "seed: 1", "epochs: 1", 1, "did you mean train.epochs?"),
    _text("key like no other", "  epochs: 2", "  epochs: 2\n  zzz: 1", 12, "known here: epochs, max_steps"),
    _text("missing key", "  epochs: 2", "  amp: none", 10, "train.epochs: missing; it must be a whole number of at least 1"),
    _text("missing section", "train:\n  epochs: 2\n", "", 1, "train: missing"),
    _text("missing target", "  target: sgd\n", "", 7, "optimizer.target: missing"),
    _text("empty section", "train:\n  epochs: 2\n", "train:\n", 10, "train: must be a section of 'key: value' lines, not null"),
    _text("text for a target", "optimizer:\n  target: sgd\n  lr: 0.1", "optimizer: sgd", 7, "must be a mapping with a target"),
    _text("number for a target's name", "target: sgd", "target: 3", 8, "must be text that is not empty, not 3"),
    _text("zero epochs", "epochs: 2", "epochs: 0", 11, "a whole number of at least 1, not 0"),
    _text("half an epoch", "epochs: 2", "epochs: 0.5", 11, "a whole number of at least 1, not 0.5"),
    _text("true epochs", "epochs: 2", "epochs: true", 11, "not true"),
    _text("a number in quotes", "epochs: 2", 'epochs: "2"', 11, "(write 2 without quotes)"),
    _text("an underscored number", "batch_size: 32", "batch_size: 1_024", 6, "(write 1024 without quotes)"),
    _text("yes", "batch_size: 32", "batch_size: 32\n  drop_last: yes", 7, "true or false, not the text 'yes' (write true)"),
    _text("off", "seed: 1", "hardware: {tf32: off}", 1, "(write false)"),
    _text("one for true", "seed: 1", "hardware: {tf32: 1}", 1, "must be true or false, not 1"),
    _text("a word of few", "epochs: 2", "epochs: 2\n  amp: bf61", 12, "none, bf16 or fp16, not the text 'bf61' (did you mean 'bf16'?)"),
    _text("no virtual ranks", "epochs: 2", "epochs: 2\n  virtual_ranks: 0", 12, "must be auto or a whole number of at least 1, not 0"),
    _text("virtual ranks in words", "epochs: 2", "epochs: 2\n  virtual_ranks: four", 12, "must be auto or a whole number of at least 1"),
    _text("a decay of one", "epochs: 2", "epochs: 2\n  ema: {decay: 1}", 12, "greater than 0 and less than 1, not 1"),
    _text("an endless time", "seed: 1", "checkpoint: {every_s: .inf}", 1, "checkpoint.every_s: must be a number greater than 0"),
    _text("two validation sets", "batch_size: 32", "batch_size: 32\n  valid_fraction: 0.1", 7, "leave out one of the two"),
    _text(
        "classes of no share", "batch_size: 32", "batch_size: 32\n  stratified: true", 7, "data.valid_fraction is chosen, which is not set"
    ),
    _text("an average of no epoch", "epochs: 2", "epochs: 2\n  swa: {start_epoch: 2}", 12, "there is no epoch 2: counted from 0"),
    _text(
        "an average that another one hides",
        "epochs: 2",
        "epochs: 2\n  swa: {start_epoch: 0}\n  ema: {decay: 0.9}",
        13,
        "train.ema: train.swa is evaluated in its place from epoch 0 on; leave out one of the two",
    ),
    _text("a negative seed", "seed: 1", "seed: -1", 1, "of at least 0"),
    _text("a mapping for a list", "batch_size: 32", "batch_size: 32\n  train_transforms: {target: a}", 7, "must be a list; each entry"),
    _text(
        "a list entry", "batch_size: 32", "batch_size: 32\n  train_transforms:\n  - {size: 3}", 8, "data.train_transforms.0.target: missing"
    ),
    _text("a bad run name", "seed: 1", "run: {name: ../x}", 1, "run.name: must be up to 64 letters"),
    # Options against each other.
    _text("clip twice", "epochs: 2", "epochs: 2\n  clip: {norm: 1, value: 2}", 12, "not both"),
    _text("indivisible batch", "epochs: 2", "epochs: 2\n  virtual_ranks: 5", 6, "32 does not divide over 5 virtual ranks; use 30 or 35"),
    _text("batch below the ranks", "epochs: 2", "epochs: 2\n  virtual_ranks: 48", 6, "use 48"),
    _text("fp16 on a CPU", "epochs: 2", "epochs: 2\n  amp: fp16\nhardware: {device: cpu}", 12, "fp16 needs CUDA"),
    BrokenConfig(
        "nothing to mix",
        GOOD.replace("batch_size: 32", "batch_size: 4\n  batch_transforms: [{target: mixup, num_classes: 10}]"),
        ("train.virtual_ranks=4",),
        7,
        "mixup has nothing to mix: batch_size 4 over 4 virtual ranks is one sample in a micro-batch",
    ),
    _text("recompute what is compiled", "epochs: 2", "epochs: 2\n  compile: true\n  recompute: first", 13, "leave out one of the two"),
    _text("BatchNorm over a CPU's workers", "epochs: 2", "epochs: 2\n  sync_batchnorm: true\nhardware: {device: cpu}", 12, "it needs CUDA"),
    _text(
        "no weights to skip a part of", "seed: 1", "start: {skip: head}", 1, "start.skip: it is about start.pretrained, which is not set"
    ),
    _text("no weights to take in part", "seed: 1", "start: {strict: false}", 1, "start.strict: it is about start.pretrained"),
    _text(
        "in memory, but what",
        "{target: digits, split: train}",
        "{target: in_memory, of: digits}",
        4,
        "data.train.of: must be a mapping with",
    ),
    _text(
        "layers of what",
        '"torch.nn:Linear", in_features: 4, out_features: 2',
        "features, of: {num_classes: 3}, layers: [fc]",
        2,
        "model.of: must be a mapping with a target, such as {target: resnet18}",
    ),
    _text(
        "dots for a colon inside a transform",
        "batch_size: 32",
        "batch_size: 32\n  train_transforms:\n  - target: RandomApply\n    transforms:\n    - {target: mine.Speckle}",
        10,
        "data.train_transforms.0.transforms.0.target: 'mine.Speckle' has no ':' before its last part",
    ),
    _text("benchmark", "seed: 1", "hardware: {cudnn_benchmark: true}", 1, "set one of them to false"),
    BrokenConfig("early stop, no valid", GOOD, ("data.valid=null", "train.early_stop.patience=3"), None, "watches a validation metric"),
    BrokenConfig("monitor, no valid", GOOD, ("data.valid=null", "train.monitor=loss"), None, "'loss' is a validation metric"),
    BrokenConfig("plateau, no valid", GOOD, ("data.valid=null", "schedule.target=plateau"), None, "follows a validation metric"),
    _text("dots for a colon", '"torch.nn:Linear"', "torch.nn.Linear", 2, "write torch.nn:Linear"),
    _text("no name at all", "target: sgd", 'target: "s g d"', 8, "is no name of a target"),
    # The command line.
    _said("epochs", "not an override; write section.key=value"),
    _said("epochs=3", "did you mean train.epochs?"),
    _said("=3", "is not a key"),
    _said("train..epochs=3", "is not a key"),
    _said("--train.epochs=3", "is not a key"),
    _said("train.epochs=", "no value after '='"),
    _said("train.epochs=#3", "no value after '='"),
    _said("train.epochs=x", "command line: train.epochs=x: must be a whole number"),
    _said("train.epochs=03", "leading zero"),
    _said("train.epochs.x=3", "train.epochs is 2, which has no keys"),
    _said("optimizer=[1", "not closed"),
    _said("optimizer=adam", "must be a mapping with a target"),
    _said("data.valid={root: x}", "data.valid.target: missing"),
    _said("data.eval_transforms={}", "must be a list"),
    BrokenConfig("no such entry", GOOD, ("data.train_transforms=[]", "data.train_transforms.0.size=3"), None, "is an empty list"),
    _said("seed=" + "[" * 40, "nested deeper"),
    _said("a\nb=3", "is not a key"),
    _said("train.monitor=a\nb: c", "train.monitor"),
    # What only the target knows.
    _text("unknown model", '"torch.nn:Linear"', "resnet19", 2, "did you mean 'resnet1", "target"),
    _text("unknown class", '"torch.nn:Linear"', '"torch.nn:Linera"', 2, "did you mean 'Linear'?", "target"),
    _text("unknown module", '"torch.nn:Linear"', '"torch.nnn:Linear"', 2, "did you mean 'torch.nn'?", "target"),
    _text("unknown package", '"torch.nn:Linear"', '"my_modells:Net"', 2, "there is no module 'my_modells'", "target"),
    _text("not callable", '"torch.nn:Linear"', '"math:pi"', 2, "is a float; a target must be a class or a function", "target"),
    _text("no module class", '"torch.nn:Linear"', '"collections:OrderedDict"', 2, "OrderedDict is no model", "target"),
    _text("unknown argument", "  lr: 0.1", "  lr: 0.1\n  momentun: 0.9", 10, "did you mean 'momentum'?", "target"),
    _text("missing argument", ", out_features: 2", "", 2, "needs the argument 'out_features'", "target"),
    _text("text for a number", "  lr: 0.1", "  lr: fast", 9, "optimizer.lr: must be a number", "target"),
    _text("no for false", "  lr: 0.1", "  lr: 0.1\n  nesterov: no", 10, "must be true or false, not the text 'no'", "target"),
    _text("our argument", "  lr: 0.1", "  lr: 0.1\n  params: []", 10, "the trainer passes 'params' itself", "target"),
    _text("unknown split", "split: train", "split: trian", 4, "did you mean 'train'?", "target"),
    _text("schedule's value", "seed: 1", "schedule: {target: cosine, warmup_epochs: -1}", 1, "warm-up cannot be negative", "target"),
    _text(
        "no task",
        "seed: 1",
        'task: {target: "torch.nn:Linear"}',
        1,
        "Linear is no task; it must be a kind of trainer.tasks.base.Task",
        "target",
    ),
    _text("no schedule", "seed: 1", 'schedule: {target: "math:sqrt"}', 1, "is no schedule", "target"),
    _text("torch's plateau", "seed: 1", "schedule: {target: ReduceLROnPlateau}", 1, "write plateau", "target"),
    _text(
        "unknown argument inside a transform",
        "batch_size: 32",
        "batch_size: 32\n  train_transforms:\n  - target: RandomApply\n    transforms:\n    - {target: ColorJitter, brightnes: 0.3}",
        10,
        "data.train_transforms.0.transforms.0.brightnes: ColorJitter has no argument 'brightnes' (did you mean 'brightness'?)",
        "target",
    ),
    _text(
        "unknown transform two transforms deep",
        "batch_size: 32",
        "batch_size: 32\n  eval_transforms:\n  - target: RandomChoice\n    transforms:\n    - target: RandomOrder\n      transforms:\n"
        "      - {target: CentreCrop, size: 4}",
        12,
        "data.eval_transforms.0.transforms.0.transforms.0.target: there is no transform 'CentreCrop' (did you mean 'CenterCrop'?)",
        "target",
    ),
    _text(
        "a value that a transform inside refuses",
        "batch_size: 32",
        "batch_size: 32\n  train_transforms:\n  - target: Compose\n    transforms:\n    - {target: RandomErasing, p: 3}",
        10,
        "data.train_transforms.0.transforms.0: RandomErasing refuses its arguments",
        "target",
    ),
    _text(
        "names for transforms",
        "batch_size: 32",
        "batch_size: 32\n  train_transforms:\n  - {target: RandomOrder, transforms: [Grayscale]}",
        8,
        "must be a list of targets",
        "target",
    ),
    _text(
        "unknown argument of a data set in memory",
        "{target: digits, split: train}",
        "{target: in_memory, of: {target: digits, spilt: train}}",
        4,
        "data.train.of.spilt: digits has no argument 'spilt' (did you mean 'split'?)",
        "target",
    ),
    _text(
        "unknown model inside",
        '"torch.nn:Linear", in_features: 4, out_features: 2',
        "features, of: {target: resnet19}, layers: [fc]",
        2,
        "model.of.target: there is no model 'resnet19'",
        "target",
    ),
    _said("optimizer.target=adm", "did you mean 'adam'?", "target"),
    _said("loss.label_smoothin=0.1", "did you mean 'label_smoothing'?", "target"),
    _said("loss.target=Conv2d", "there is no loss 'Conv2d'", "target"),
    _said("schedule.every_epochs=3", "constant has no argument 'every_epochs'", "target"),
    # What could never act, or would do the opposite.
    _said("schedule={target: one_cycle, warmup_steps: 3}", "one_cycle has its own way up, the share pct_start of the run"),
    _said("schedule={target: plateau, patience: -5}", "patience cannot be negative: -5", "target"),
    _said("schedule={target: plateau, min_factor: 3.0}", "min_factor is a share below 1 of the base learning rate, not 3.0", "target"),
    _said("schedule={target: plateau, warmup_steps: -3}", "warm-up cannot be negative", "target"),
    _said("schedule={target: step, every_epochs: 1, gamma: -1}", "gamma must be more than 0, not -1", "target"),
    _said("schedule={target: multistep, epochs: [1], gamma: 0}", "gamma must be more than 0, not 0", "target"),
    _said("schedule={target: exponential, gamma: -0.5}", "gamma must be more than 0, not -0.5", "target"),
    # Initialisers are targets like any other.
    _said(
        "start.init=[{target: kaiming_norml, match: '*'}]",
        "start.init.0.target: there is no initialiser 'kaiming_norml' (did you",
        "target",
    ),
    _said("start.init=[{target: normal, match: '*', sdt: 1.0}]", "start.init.0.sdt: normal has no argument 'sdt'", "target"),
    _said("start.init=[{target: constant, match: '*'}]", "start.init.0: constant needs the argument 'val'", "target"),
    _said("start.init=[{target: zeros, match: '*', tensor: 1}]", "the trainer passes 'tensor' itself", "target"),
    _said("start.init=[{target: 'nowhere:fill', match: '*'}]", "start.init.0.target: there is no module 'nowhere'", "target"),
]
