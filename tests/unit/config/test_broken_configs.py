from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.broken_configs import BROKEN, GOOD, BrokenConfig
from trainer.config.load import load
from trainer.config.targets import check_targets
from trainer.errors import ConfigError

ONE_LINE = re.compile(r"^[^:]+:\d+: .|^command line: .")


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_config_is_refused_with_the_place_and_the_reason(broken: BrokenConfig) -> None:
    Path("a.yaml").write_text(broken.text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        loaded = load("a.yaml", broken.overrides)
        assert broken.stage == "target", "the schema alone had to see this"
        check_targets(loaded)
    problems = raised.value.problems
    assert any(broken.fragment in problem for problem in problems), problems
    assert all(ONE_LINE.match(problem) and problem.isprintable() for problem in problems), problems
    assert "Traceback" not in str(raised.value)
    assert problems[0].startswith("command line: " if broken.line is None else f"a.yaml:{broken.line}: "), problems


def test_the_config_that_all_of_these_break_is_itself_good() -> None:
    Path("a.yaml").write_text(GOOD)
    check_targets(load("a.yaml"))


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("seed: 1", "seed: x").replace("32", "010").replace("epochs: 2", "epoch: 2")
    Path("a.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load("a.yaml", ["hardware.tf32=no", "nonsense"])
    starts = [re.match(r"a.yaml:\d+: [\w.]+|command line: [\w.]+", problem) for problem in raised.value.problems]
    assert [start and start[0] for start in starts] == [
        "a.yaml:1: seed",
        "a.yaml:6: data.batch_size",
        "a.yaml:10: train.epochs",
        "a.yaml:11: train.epoch",
        "command line: hardware.tf32",
        "command line: nonsense",
    ]


def test_every_target_problem_is_told_at_once() -> None:
    Path("a.yaml").write_text(GOOD.replace("lr: 0.1", "lr: x\n  momentun: 1").replace("in_features: 4, ", ""))
    with pytest.raises(ConfigError) as raised:
        check_targets(load("a.yaml"))
    assert len(raised.value.problems) == 3


def test_a_loss_that_is_no_mean_is_refused() -> None:
    Path("a.yaml").write_text(GOOD + "loss:\n  target: mse\n  reduction: sum\n")
    with pytest.raises(ConfigError, match=r"^a.yaml:14: loss.reduction: the loss must be the mean over the samples, not the text 'sum'"):
        load("a.yaml")
    assert load("a.yaml", ["loss.reduction=mean"]).config.loss.arguments == {"reduction": "mean"}


def test_an_optimizer_that_computes_the_loss_itself_is_refused() -> None:
    Path("a.yaml").write_text(GOOD.replace("target: sgd", "target: LBFGS"))
    with pytest.raises(ConfigError, match=r"^a.yaml:8: optimizer.target: the step\(\) of LBFGS needs a closure") as raised:
        check_targets(load("a.yaml"))
    assert len(raised.value.problems) == 1
    Path("a.yaml").write_text(GOOD.replace("target: sgd", "target: Rprop"))
    check_targets(load("a.yaml"))


def test_a_missing_file_names_the_nearest_one() -> None:
    Path("digits.yaml").write_text(GOOD)
    for name in ("digts.yaml", "digits"):
        with pytest.raises(ConfigError, match=rf"{name}: no such file \(did you mean digits.yaml\?\)"):
            load(name)


def test_a_folder_a_missing_folder_and_a_forbidden_name_are_told_as_such() -> None:
    for name, reason in (
        (".", "a folder"),
        ("no/such.yaml", "no such file"),
        ("/dev/null", "no regular file"),
        ("a" * 5000, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=reason) as raised:
            load(name)
        assert len(raised.value.problems) == 1
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"\x80\x02}q\x00.", GOOD.encode("utf-16"), b"seed: 1\n# caf\xe9\n"])
def test_binary_and_other_encodings_are_no_config(data: bytes) -> None:
    Path("a.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"^a.yaml:\d: not UTF-8 text"):
        load("a.yaml")


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    Path("a.yaml").write_bytes(b"# x\n" * 2**19)
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        load("a.yaml")


def test_a_file_whose_name_cannot_name_a_run_asks_for_run_name() -> None:
    Path("my run.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"set run\.name"):
        load("my run.yaml")
    assert load("my run.yaml", ["run.name=mine"]).config.run.name == "mine"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_thing_here", "No module named 'no_such_thing_here'"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_target_whose_module_fails_is_told_in_one_line(code: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(".")
    Path("failing_module.py").write_text(f"{code}\n")
    Path("a.yaml").write_text(GOOD.replace("torch.nn:Linear", "failing_module:Net"))
    with pytest.raises(ConfigError) as raised:
        check_targets(load("a.yaml"))
    (problem,) = raised.value.problems
    assert problem.startswith("a.yaml:2: model.target: importing failing_module failed")
    assert said in problem
    assert "failing_module.py" in problem


def test_loading_needs_no_torch_and_no_numpy() -> None:
    Path("a.yaml").write_text(GOOD)
    code = (
        "import sys; from trainer.config.load import load, json_schema; import trainer.registry; load('a.yaml'); json_schema();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'torchvision')))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}).returncode == 0


def test_a_metric_without_a_direction_is_refused_before_anything_is_created() -> None:
    Path("a.yaml").write_text(GOOD)
    task = ["task={target: 'tests.unit.test_evaluate:Errors'}", "train.monitor=wape"]
    with pytest.raises(ConfigError, match=r"train\.monitor=wape: task Errors does not say whether less or more of 'wape' is better; set"):
        check_targets(load("a.yaml", task))
    with pytest.raises(ConfigError, match=r"'accurracy' is better \(did you mean 'accuracy'\?\); set train\.monitor_mode"):
        check_targets(load("a.yaml", [task[0], "train.monitor=accurracy"]))
    check_targets(load("a.yaml", [*task, "train.monitor_mode=min"]))
    check_targets(load("a.yaml", ["task={target: 'tests.unit.test_evaluate:Told'}", task[1]]))
