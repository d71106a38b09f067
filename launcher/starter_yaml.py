"""A first config as text: YAML in which each line says in plain words what it is for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.starter import Choice, Subject
from trainer.config.resolved import to_yaml
from trainer.config.strict_yaml import one_line

_PRETRAINED = (
    "start.pretrained=IMAGENET1K_V1",
    "start.skip=head",
    "data.train_transforms=[{target: imagenet_train, scale: [0.35, 1.0]}]",
    "data.eval_transforms=[{target: imagenet_eval}]",
    "optimizer.lr=0.0005",
    "train.epochs=10",
)


def text(subject: Subject, choice: Choice, *, asked: str, path: str, fetch: int = 0) -> str:
    """The whole file.

    Args:
        subject: what is to be learnt from.
        choice: what was decided.
        asked: what was typed behind ``init``.
        path: of the file.
        fetch: megabytes that the first start fetches.
    """
    blocks = [
        _head(subject, asked, path, fetch),
        [f"run: {{name: {subject.name}}}"] if subject.name != Path(path).stem else [],
        ["seed: 0  # all that is drawn by chance follows from it; the same seed gives the same run, to the last bit"],
        _model(subject, choice),
        _loss(subject, choice),
        _data(subject, choice),
        _training(choice),
        _hint(subject, choice, path),
    ]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block) + "\n"


def _head(subject: Subject, asked: str, path: str, fetch: int) -> list[str]:
    file = one_line(shlex.quote(path), 200)
    changed = f"optimizer.lr=0.0005 run.name={subject.name[:50]}-slower"
    commands = [
        (f"inspect data {file}", "what the data are, and a sheet of pictures"),
        (f"train {file}", "train; again: go on where it stopped"),
    ]
    commands += [(f"train {file} {changed}", "any value can be changed for one run")]
    width = max(len(command) for command, _ in commands)
    what = "pictures" if subject.own or len(next(iter(subject.sizes))) == 2 else "samples"
    head = [f"# {subject.name}: {subject.samples:,} {what} of {len(subject.counts)} classes to learn from."]
    head += [f"# A first config, made by: ostinato init {one_line(shlex.quote(asked), 200)}", "# Each line is there to be changed.", "#"]
    head += [f"#   ostinato {command.ljust(width)}   # {meaning}" for command, meaning in commands]
    return head + ([f"#\n# The first start fetches {fetch} MB into data/; later ones need no network."] if fetch else [])


def _model(subject: Subject, choice: Choice) -> list[str]:
    names = f"  # {one_line(', '.join(subject.counts), 80)}" if subject.own else ""
    if choice.model["target"] == "cnn":
        why = "a small network, which learns from few pictures and trains in minutes without a GPU"
        return [
            "model:  # turns a picture into one number a class; the largest is its answer",
            f"  target: cnn  # {why}",
            f"  in_channels: {choice.channels}  # {'grey; 3 would be colours' if choice.channels == 1 else 'red, green, blue'}",
            f"  num_classes: {choice.model['num_classes']}{names}",
            f"  width: {choice.model['width']}  # more can learn more, and takes longer",
        ]
    lines = [
        "model:  # turns a picture into one number a class; the largest is its answer",
        f"  target: {choice.model['target']}  # eighteen layers; slow without a GPU. Any other of torchvision's models by its name",
        f"  num_classes: {choice.model['num_classes']}{names}",
    ]
    if not choice.pretrained:
        return lines
    return [
        *lines,
        "",
        "start:",
        "  pretrained: IMAGENET1K_V1  # knows a million pictures already; the weights are on this machine",
        "  skip: head  # all but the last layer, which must learn your classes",
        "",
        "freeze:",
        '  - {match: "*", but: head, until_epoch: 3}  # the last layer alone first, then all of them',
    ]


def _loss(subject: Subject, choice: Choice) -> list[str]:
    if not choice.weights:
        return []
    most, least = max(subject.counts.values()), min(subject.counts.values())
    weights = ", ".join(f"{weight:g}" for weight in choice.weights) if len(choice.weights) <= 100 else "…"
    return [
        f"# The largest class has {most:,} pictures, the smallest {least:,}: a model may do well by never naming the small ones. Read the",
        "# figures of each class (ostinato evaluate), or let rare ones count for more:",
        f"# loss: {{target: cross_entropy, weight: [{weights}]}}",
    ]


def _data(subject: Subject, choice: Choice) -> list[str]:
    said = {
        "train": "learnt from",
        "valid": "looked at after each epoch; says which weights are the best",
        "test": "looked at once, at the end",
    }
    lines = ["data:"]
    for part, target in subject.parts.items():
        mode = {"mode": "gray"} if subject.own and choice.channels == 1 else {}
        lines.append(f"  {part}: {_flow({**target, **mode})}  # {said[part]}")
        if part == "train" and choice.valid_fraction is not None:
            lines.append(f"  valid_fraction: {choice.valid_fraction}  # set aside, not learnt from: says which weights are the best")
            lines.append("  stratified: true  # that share of each class")
    lines.append(f"  batch_size: {choice.batch_size}  # pictures between two updates of the weights, whatever the number of workers")
    if choice.bad_samples:
        lines.append("  bad_samples: skip  # a file that cannot be read is named and passed over; fail would end the run")
        lines.append(f"  max_bad_samples: {choice.bad_samples}  # more than that end it all the same")
    if choice.loader_workers:
        lines.append(f"  loader_workers: {choice.loader_workers}  # processes that read and decode pictures ahead of the training")
    return lines + _transforms(subject, choice)


def _transforms(subject: Subject, choice: Choice) -> list[str]:
    height, width = choice.size
    shown = f"[{height}, {width}]"
    normalize = f"    - {{target: Normalize, mean: {_numbers(choice.mean)}, std: {_numbers(choice.std)}}}"
    source = (
        "ImageNet's, as the weights expect it" if choice.pretrained else "measured on these pictures" if subject.own else "of this data set"
    )
    lines = ["  train_transforms:  # done to a picture on its way to the model, each time by chance: nothing is learnt by heart so soon"]
    edge = ", padding_mode: edge" if subject.own else ""
    if choice.resize:
        lines.append(f"    - {{target: RandomResizedCrop, size: {shown}, scale: [0.5, 1.0]}}  # half of it or more, brought to this size")
    elif subject.moved:
        lines.append(f"    - {{target: RandomCrop, size: {shown}, padding: {max(1, min(height, width) // 8)}{edge}}}  # moved a little")
    mirror = "- {target: RandomHorizontalFlip}"
    if subject.mirror:
        lines.append(f"    {mirror}  # mirrored, half of the time; take it out where left and right matter")
    else:
        lines.append(f"    # {mirror}  for pictures that may be mirrored: not of letters and digits")
    lines.append(f"{normalize}  # numbers around 0; {source}")
    lines.append("  eval_transforms:  # the same without chance: validation, test, predictions")
    if choice.resize:
        lines.append(f"    - {{target: Resize, size: {min(choice.size)}}}  # the shorter side")
        lines.append(f"    - {{target: CenterCrop, size: {shown}}}")
    return [*lines, normalize]


def _training(choice: Choice) -> list[str]:
    lines = [
        f"optimizer: {{target: adamw, lr: {choice.lr}, weight_decay: 0.05}}  # moves the weights; lr: how far. The first to try others of",
        "schedule: {target: one_cycle}  # lr rises to that and falls to nearly 0, once",
        "",
        "train:",
        f"  epochs: {choice.epochs}  # passes over all pictures; more of them while the validation loss still falls",
    ]
    if choice.by_loss:
        lines.append(
            "  monitor: loss  # few validation pictures give few different accuracies; their loss tells good weights from lucky ones"
        )
    return [*lines, "", "log: {every_steps: 10}"]


def _hint(subject: Subject, choice: Choice, path: str) -> list[str]:
    """How to begin from pretrained weights, where it needs a network and may be worth it."""
    if choice.pretrained or not subject.own or subject.short < 48:
        return []
    model = f"model={{target: resnet18, num_classes: {len(subject.counts)}}}"
    colours = ["data.train.mode=rgb"] if choice.channels == 1 else []
    colours += [f"data.{part}.mode=rgb" for part in ("valid", "test") if colours and part in subject.parts]
    words = [path, model, *_PRETRAINED, *colours, f"run.name={subject.name[:50]}-pretrained"]
    return [
        "# Photographs? A network that knows ImageNet's pictures learns yours from far fewer. Its weights (45 MB) are fetched from the",
        "# network, once; without a GPU it takes its time:",
        "#",
        f"#   ostinato train {one_line(shlex.join(words), 2000)}",
    ]


def _flow(value: Mapping[str, Any]) -> str:
    return to_yaml(dict(value), flow=True).strip()


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
