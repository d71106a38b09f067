"""Reads back what a run has drawn: TensorBoard's event files, and what is kept for Weights & Biases."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ALL = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}


def board(folder: Path) -> Any:
    """Everything in a folder of event files, as TensorBoard shows it: what was taken back is not there."""
    found = EventAccumulator(str(folder), size_guidance=ALL)
    found.Reload()
    return found


def scalars(found: Any) -> dict[str, list[tuple[int, float]]]:
    """The points of each curve but the system's."""
    tags = [tag for tag in found.Tags()["scalars"] if not tag.startswith("system/")]
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags}


def picture(event: Any) -> Any:
    """The pixels of an image event, uint8 (height, width, 3)."""
    return np.array(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def hparams(found: Any) -> tuple[dict[str, Any], set[str]]:
    """The run's line in the table of runs: its options, and the tags of its metrics."""
    from tensorboard.plugins.hparams import metadata

    plugin = found.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(plugin[metadata.SESSION_START_INFO_TAG])
    experiment = metadata.parse_experiment_plugin_data(plugin[metadata.EXPERIMENT_TAG])
    options = {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.hparams.items()}
    return options, {info.name.tag for info in experiment.metric_infos}


def _records(path: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file, which has LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def sent(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
    """What a run's ``wandb`` folder holds: its config, its rows in order, and the kinds of all records."""
    config: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    kinds: set[str] = set()
    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        for record in _records(path):
            kinds.add(str(record.WhichOneof("record_type")))
            if record.HasField("run"):
                config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
            if record.HasField("history"):
                items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
                rows.append(items)
    return config, rows, kinds
