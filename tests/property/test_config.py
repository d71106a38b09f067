from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.broken_configs import GOOD
from trainer.config.load import config_hash, differences, dump, load
from trainer.config.resolved import to_yaml
from trainer.config.strict_yaml import Unreadable, parse
from trainer.errors import ConfigError

# Text that looks like something else is what goes wrong in YAML.
TRICKY = st.sampled_from(
    ["1e-3", "010", "08", "no", "null", "~", "<<", ".inf", "0x1", "a: b", "# x", "- a", "[", "&a", "*a", "!t", "", " ", "\t", "%"]
)
WORDS = TRICKY | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types throughout: 1, 1.0 and true differ."""
    return type(one) is type(other) and repr(one) == repr(other)


@given(VALUES)
def test_whatever_is_written_is_read_back(value: Any) -> None:
    for flow in (False, True):
        read = parse(to_yaml(value, flow=flow))
        assert read.problems == []
        assert same(read.value, value)


@given(st.dictionaries(WORDS.filter(lambda key: key != "target"), VALUES, max_size=4))
def test_a_config_with_any_arguments_survives_its_dump(arguments: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_text(GOOD + to_yaml({"loss": {"target": "mse", **arguments}}), encoding="utf-8")
        config = load(path).config
        assert same(config.loss.arguments, arguments)
        path.write_text(dump(config), encoding="utf-8")
        again = load(path).config
        assert again == config
        assert config_hash(again) == config_hash(config)
        assert differences(config, again) == []


@given(st.text(max_size=200) | st.lists(st.sampled_from([*"[]{}:,-&*!|>'\"%@#\n \t?", "a", "0", "<<: "])).map("".join))
@example('"\\UFFFFFFFF"')
@example("%YAML 9.9\n---\na")
@example("? [a]\n: b")
@example("!<")
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        parse(text)
    except Unreadable as refused:
        assert 1 <= refused.line <= len(text) + 2
        assert refused.message.isprintable()


@given(st.text(max_size=60) | st.builds("{}={}".format, st.text("abc._-0", max_size=9), WORDS))
def test_any_override_is_taken_or_refused_in_single_lines(override: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_text(GOOD)
        try:
            load(path, [override, f"train.{override}", f"optimizer.{override}"])
        except ConfigError as refused:
            assert all(problem.isprintable() for problem in refused.problems)
            assert all(problem.startswith(("command line: ", f"{path}:")) for problem in refused.problems)
