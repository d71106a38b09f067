"""What is saved is the state of one moment, whatever training does afterwards."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import store
from trainer.checkpoint.staging import Staging
from trainer.fingerprint import sha256


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    return model, torch.optim.AdamW(model.parameters())


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(3, 1, 4, 4)).square().sum().backward()
    optimizer.step()


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"step": 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "rates": [0.1, 0.2]}


def test_training_that_goes_on_does_not_change_the_copy(tmp_path: Path) -> None:
    model, optimizer = trained()
    step(model, optimizer)
    state = state_of(model, optimizer)
    wanted = {part: sha256(state[part]) for part in ("model", "optimizer")}
    copy = Staging().copy(state)
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 5.0
    state["rates"].append(0.3)
    assert sha256(model.state_dict()) != wanted["model"]
    assert {part: sha256(copy[part]) for part in wanted} == wanted
    assert copy["rates"] == [0.1, 0.2]
    assert copy["optimizer"]["param_groups"][0]["lr"] == 1e-3
    found = store.load(tmp_path / store.write(tmp_path, copy, {}))
    assert sha256(found["model"]) == wanted["model"]


def test_each_copy_has_the_present_values_in_the_room_of_the_one_before() -> None:
    model, optimizer = trained()
    step(model, optimizer)
    staging = Staging()
    first = staging.copy(state_of(model, optimizer))
    places = [t.data_ptr() for t in first["model"].values()]
    step(model, optimizer)
    second = staging.copy(state_of(model, optimizer))
    assert [t.data_ptr() for t in second["model"].values()] == places
    assert sha256(second["model"]) == sha256(model.state_dict())
    assert sha256(second["optimizer"]) == sha256(optimizer.state_dict())


def test_a_state_that_grows_or_changes_its_shapes_gets_new_room() -> None:
    staging = Staging()
    for state in ({"a": torch.ones(2)}, {"a": torch.ones(3), "b": torch.zeros(1)}, {"a": torch.ones(3, dtype=torch.int64)}):
        found = staging.copy(state)
        assert list(found) == list(state)
        assert all(found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in state.items())


def test_tied_weights_stay_tied_and_take_their_room_once(tmp_path: Path) -> None:
    weight = torch.randn(1000, 100)
    copy = Staging().copy({"step": 1, "model": {"embedding": weight, "head": weight, "other": weight[:10]}})
    assert copy["model"]["embedding"].data_ptr() == copy["model"]["head"].data_ptr() != weight.data_ptr()
    name = store.write(tmp_path, copy, {})
    assert (tmp_path / name / store.STATE).stat().st_size < 1.5 * weight.numel() * 4
    found = store.load(tmp_path / name)["model"]
    assert torch.equal(found["head"], weight)
    assert torch.equal(found["other"], weight[:10])


def test_the_order_of_dimensions_and_a_dictionarys_attributes_come_along() -> None:
    plain = torch.randn(2, 3, 4, 5)
    model = OrderedDict(image=plain.to(memory_format=torch.channels_last), wide=torch.ones(3, 1).expand(3, 4), empty=torch.empty(0))
    model._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    staging = Staging()
    for _ in range(2):
        found = staging.copy({"model": model})["model"]
        assert found["image"].stride() == model["image"].stride()
        assert all(torch.equal(found[name], tensor) for name, tensor in model.items())
        assert found._metadata == {"": {"version": 2}}
        assert found is not model


def test_keys_that_look_alike_have_rooms_of_their_own() -> None:
    staging = Staging()
    state = {1: torch.zeros(3), "1": torch.ones(3), "a.b": torch.full((3,), 2.0), "a": {"b": torch.full((3,), 3.0)}}
    for _ in range(2):
        copied = staging.copy(state)
        assert [float(t[0]) for t in (copied[1], copied["1"], copied["a.b"], copied["a"]["b"])] == [0.0, 1.0, 2.0, 3.0]
