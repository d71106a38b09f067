"""A profile is checked like a config: each mistake with its line; the command line goes before the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.profile import Profile, load_profile, minutes_of
from launcher.sbatch_options import OURS
from tests.support.jobs import ROOT
from trainer.errors import ConfigError


def load(folder: Path, text: str, **options: object) -> Profile:
    (folder / "p.yaml").write_text(text)
    return load_profile("p", options, folder)


def refusal(folder: Path, text: str, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(folder, text, **options)
    return [line.removeprefix(f"{folder}/") for line in str(refused.value).splitlines()]


def test_what_follows_from_what() -> None:
    assert (Profile().workers, Profile().cpus_per_node, Profile().minutes) == (1, 1, 60)
    assert Profile(gpus_per_node=4, cpus_per_worker=8).workers == 4
    assert Profile(gpus_per_node=4, cpus_per_worker=8).cpus_per_node == 32
    assert Profile(gpus_per_node=4, workers_per_node=2).workers == 2


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_profiles_that_come_with_it_are_valid(path: Path) -> None:
    assert load_profile(str(path), {}).minutes > 0


def test_the_command_line_goes_before_the_file_and_silence_says_nothing(tmp_path: Path) -> None:
    found = load(tmp_path, "nodes: 2\npartition: a\n", nodes=3, partition=None)
    assert (found.nodes, found.partition) == (3, "a")
    assert refusal(tmp_path, "nodes: 2\n", nodes=0)[0].startswith("command line: --nnodes=0: must be a whole number")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p.yaml:1: empty"),
        ("- a\n", "p.yaml:1: the top level is a list"),
        ("nodes: 1\nnodes: 2\n", "p.yaml:2: "),
        ("\nnode: 2\n", "p.yaml:2: node: unknown key 'node' (did you mean 'nodes'?)"),
        ("nodes: 1.5\n", "p.yaml:1: nodes: must be a whole number of at least 1"),
        ("memory_gb: -1\n", "p.yaml:1: memory_gb: must be a number of at least 0"),
        ("time: 1 hour\n", "p.yaml:1: time: must be minutes, HH:MM:SS or D-HH:MM:SS, such as 90 or 1:30:00, not the text '1 hour'"),
        ("time: 0\n", "p.yaml:1: time: "),
        ("time: 0:00:00\n", "p.yaml:1: time: must be minutes"),
        ("account: 'my group'\n", "p.yaml:1: account: must be one word without spaces, quotes and backslashes, not the text 'my group'"),
        ("executor: slrum\n", "p.yaml:1: executor: must be slurm, local or debug, not the text 'slrum' (did you mean 'slurm'?)"),
        ("sbatch: {--exclusive: true}\n", "p.yaml:1: sbatch: --exclusive: must be a long option's name without dashes in front"),
        ("sbatch: {signal: USR1}\n", "p.yaml:1: sbatch: signal: is set by ostinato itself"),
        ("sbatch: {parsa: true}\n", "p.yaml:1: sbatch: parsa: cannot be set: the job is queued as a script, here and now"),
        ("sbatch: {export: NONE}\n", "p.yaml:1: sbatch: export: cannot be set: the job needs the variables that its script sets"),
        ('sbatch: {comment: "a\\nb"}\n', "p.yaml:1: sbatch: comment: must be one line of printable characters"),
        ("sbatch: {gres: 'gpu:1'}\n", "p.yaml:1: sbatch: gres: follows from the profile's gpus_per_node; set that"),
        ("sbatch: {gres: 'tmpdisk:9,gpu:a:1'}\n", "p.yaml:1: sbatch: gres: follows from the profile's gpus_per_node; set that"),
        ("sbatch: {gre: 'tmpdisk:9'}\n", "p.yaml:1: sbatch: gre: follows from the profile's gpus_per_node; set that"),
        ("container: {runtime: docker, image: a}\n", "p.yaml:1: container.runtime: must be apptainer or pyxis, not the text 'docker'"),
        ("container: {runtime: pyxis}\n", "p.yaml:1: container.image: missing"),
        ("executor: local\ncontainer: {runtime: pyxis, image: a}\n", "p.yaml:1: container: executor=local starts none"),
        ("gpus_per_node: 1\nworkers_per_node: 2\n", "p.yaml:1: workers_per_node=2 on gpus_per_node=1: each worker needs a GPU"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (line,) = refusal(tmp_path, text)
    assert line.startswith(said)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "nodes: 0\ntme: 5\nrequeue: maybe\n")
    assert [line.split(": ")[:2] for line in lines] == [["p.yaml:1", "nodes"], ["p.yaml:2", "tme"], ["p.yaml:3", "requeue"]]


def test_a_name_that_is_none_is_answered_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text("nodes: 1\n")
    (tmp_path / "cpu.yaml").write_text("nodes: 1\n")
    with pytest.raises(ConfigError, match=f"--profile=x: no such profile; {tmp_path}/ has cpu, gpu"):
        load_profile("x", {}, tmp_path)
    with pytest.raises(ConfigError, match="name a file"):
        load_profile("x", {}, tmp_path / "none")
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_profile(str(tmp_path / "none.yaml"), {})


@pytest.mark.parametrize("name", sorted(OURS))
def test_no_option_of_sbatch_that_follows_from_the_profile_is_taken_twice(tmp_path: Path, name: str) -> None:
    (line,) = refusal(tmp_path, f"sbatch: {{{name}: {'gpu' if name == 'gres' else 1}}}\n")
    assert line.startswith(f"p.yaml:1: sbatch: {name}: ")


def test_generic_resources_other_than_gpus_and_all_of_a_nodes_memory_can_be_asked_for(tmp_path: Path) -> None:
    found = load(tmp_path, "sbatch: {gres: 'tmpdisk:100,gpuless:1'}\nmemory_gb: 0\ngpus_per_node: 1\n")
    assert (found.sbatch, found.memory_gb) == ({"gres": "tmpdisk:100,gpuless:1"}, 0)


@given(st.integers(0, 99), st.integers(0, 999), st.integers(0, 59), st.integers(0, 59))
def test_a_time_in_slurms_forms_is_its_minutes_and_begun_ones_count(days: int, hours: int, minutes: int, seconds: int) -> None:
    up = 1 if seconds else 0
    assert minutes_of(f"{days}-{hours}:{minutes:02}:{seconds:02}") == (days * 24 + hours) * 60 + minutes + up
    assert minutes_of(f"{hours}:{minutes:02}:{seconds:02}") == hours * 60 + minutes + up
    assert minutes_of(f"{hours}:{seconds:02}") == hours + up
    assert minutes_of(f"{days}-{hours}:{minutes:02}") == (days * 24 + hours) * 60 + minutes
    assert minutes_of(f"{days}-{hours}") == (days * 24 + hours) * 60
    assert minutes_of(str(hours)) == hours


@given(st.text())
def test_any_text_is_a_time_or_none_and_never_a_traceback(text: str) -> None:
    assert minutes_of(text) >= 0
    assert minutes_of(f"x{text}") == 0
