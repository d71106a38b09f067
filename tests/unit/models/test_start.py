"""First weights from files; what does not fit is told readably, and nothing but tensors is ever unpickled."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.unit.models.training import cnn, copies, moved, same, saved, train
from trainer.config.schema import StartSection
from trainer.errors import ConfigError
from trainer.models.simple import MLP
from trainer.models.start import apply_start


def as_is(state: Any, path: Path) -> str:
    return saved(state, path.with_suffix(".pt"))


FORMS: dict[str, Callable[[Any, Path], str]] = {
    "plain": as_is,
    "pth": lambda state, path: saved(state, path.with_suffix(".pth")),
    "model": lambda state, path: as_is({"epoch": 3, "model": state, "optimizer": {}}, path),
    "state_dict": lambda state, path: as_is({"state_dict": state, "best": 0.5}, path),
    "nested": lambda state, path: as_is({"model": {"state_dict": state}}, path),
    "from DDP": lambda state, path: as_is({f"module.{name}": value for name, value in state.items()}, path),
    "from compile": lambda state, path: as_is({f"_orig_mod.{name}": value for name, value in state.items()}, path),
    "from both": lambda state, path: as_is({"model": {f"module._orig_mod.{name}": value for name, value in state.items()}}, path),
    "half": lambda state, path: as_is(
        {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}, path
    ),
    "old": lambda state, path: as_is({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_in_every_usual_form(form: str, tmp_path: Path) -> None:
    source, model = cnn(), cnn(seed=1)
    if form == "half":
        source = source.bfloat16().float()
    lines = apply_start(model, StartSection(pretrained=FORMS[form](source.state_dict(), tmp_path / "weights")))
    assert same(model, source)
    assert re.fullmatch(r"start: \d+ of \d+ tensors from .*weights\.ptx?h?", lines[0])
    assert len(lines) == 1


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    source, model = cnn(), cnn(seed=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    apply_start(model, StartSection(pretrained=str(tmp_path / "w.safetensors")))
    assert same(model, source)


def test_pretrained_weights_do_not_stay_tied_to_the_file(tmp_path: Path) -> None:
    source, model = cnn(), cnn(seed=1)
    path = saved(source.state_dict(), tmp_path / "w.pt")
    apply_start(model, StartSection(pretrained=path))
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert not same(model, source)
    other = cnn(seed=2)
    apply_start(other, StartSection(pretrained=path))
    assert same(other, source)


class Attack:
    def __reduce__(self) -> Any:
        return (print, ("unpickled!",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: pickle.dumps({"model": Attack()}), "never unpickled"),
        (lambda: serialised({"model": Attack(), "w": torch.ones(1)}), "never unpickled"),
        (lambda: serialised(cnn().state_dict())[:-300], "damaged"),
        (lambda: b"", "damaged"),
        (lambda: serialised([1, 2]), r"no state dict: a list; save model\.state_dict\(\)"),
        (lambda: serialised({"epoch": 1, "lr": 0.1}), "no state dict: a mapping of epoch, lr; "),
    ],
    ids=["pickle", "pickle in torch's form", "torn", "empty", "list", "no tensor"],
)
def test_a_file_that_is_no_state_dict_is_one_line_and_never_run(
    content: Callable[[], bytes], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.pt").write_bytes(content())
    with pytest.raises(ConfigError, match=message) as error:
        apply_start(cnn(), StartSection(pretrained=str(tmp_path / "w.pt")))
    assert str(error.value).startswith(f"start.pretrained: {tmp_path}/w.pt: ")
    assert "\n" not in str(error.value)
    assert "unpickled!" not in capfd.readouterr().out


def serialised(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_torn_safetensors_file_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ConfigError, match=r"no readable safetensors file \([^\n]*\)$"):
        apply_start(cnn(), StartSection(pretrained=str(tmp_path / "w.safetensors")))
    with pytest.raises(ConfigError, match=r"/v\.safetensors: there is no such file \(did you mean 'w\.safetensors'\?\)$"):
        apply_start(cnn(), StartSection(pretrained=str(tmp_path / "v.safetensors")))


def test_a_head_for_other_classes_is_refused_with_both_shapes_and_the_way_out(tmp_path: Path) -> None:
    path = saved(cnn(classes=5).state_dict(), tmp_path / "w.pt")
    model = cnn(seed=1)
    before = copies(model)
    with pytest.raises(ConfigError) as error:
        apply_start(model, StartSection(pretrained=path))
    assert str(error.value).splitlines() == [
        f"start.pretrained: {path}: 2 tensors do not fit; if the head is for other classes, write start.skip: head",
        "  head.1.weight: (5, 8) there, (3, 8) in the model",
        "  head.1.bias: (5) there, (3) in the model",
    ]
    assert moved(model, before) == set()
    for section in (
        StartSection(pretrained=path, skip="head"),
        StartSection(pretrained=path, skip=["head.1.*"]),
        StartSection(pretrained=path, strict=False),
    ):
        model = cnn(seed=1)
        lines = apply_start(model, section)
        assert moved(model, before) & {"head.1.weight", "head.1.bias"} == set()
        assert torch.equal(model.get_parameter("features.0.0.weight"), cnn().get_parameter("features.0.0.weight"))
        assert any("head.1.weight" in line for line in lines)


def test_missing_and_strange_tensors_are_named_at_most_eight_lines(tmp_path: Path) -> None:
    state = cnn().state_dict()
    renamed = {name.replace("features.0", "body.0"): value for name, value in state.items()}
    path = saved(renamed, tmp_path / "w.pt")
    with pytest.raises(ConfigError) as error:
        apply_start(cnn(), StartSection(pretrained=path))
    head, *lines = str(error.value).splitlines()
    assert (
        head
        == f"start.pretrained: {path}: 11 tensors do not fit; leave them out by name (start.skip), or all of them (start.strict: false)"
    )
    assert lines[0] == "  features.0.0.weight: missing there"
    assert lines[5] == "  body.0.0.weight: there, and not in the model"
    assert lines[-1] == "  and 5 more"
    assert 1 + len(lines) <= 8
    model = cnn(seed=1)
    told = apply_start(model, StartSection(pretrained=path, strict=False))
    assert told[1] == "start: 11 tensors do not fit:"
    assert torch.equal(model.get_parameter("head.1.weight"), state["head.1.weight"])


def test_weights_of_another_model_are_refused_even_when_not_strict(tmp_path: Path) -> None:
    path = saved(MLP(4, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="and none does; it is of another model"):
        apply_start(cnn(), StartSection(pretrained=path, strict=False))


def test_a_skip_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    path = saved(cnn().state_dict(), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"^start\.skip: 'haed' is the name of no tensor \(did you mean 'head'\?\)$"):
        apply_start(cnn(), StartSection(pretrained=path, skip="haed"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_weights_saved_on_a_gpu_load_on_the_cpu_and_back(tmp_path: Path) -> None:
    source, model = cnn().cuda(), cnn(seed=1)
    path = saved(source.state_dict(), tmp_path / "w.pt")
    apply_start(model, StartSection(pretrained=path))
    assert same(model, source.cpu())
    other = cnn(seed=2).cuda()
    apply_start(other, StartSection(pretrained=path))
    assert same(other.cpu(), source.cpu())
