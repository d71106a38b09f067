"""The image of a container is found from where the command is given, or is refused before anything is queued."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.batch import Batch, ask_slurm
from launcher.freeze import Tree
from launcher.profile import Container, Profile
from trainer.errors import ConfigError


def batch(folder: Path, runtime: str, image: str) -> Batch:
    profile = Profile.model_validate({"container": Container.model_validate({"runtime": runtime, "image": image})})
    return Batch(profile, None, folder / "runs" / "r" / "slurm", "r", 30.0)


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_an_image_beside_the_code_is_found_where_the_job_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("code.py", "x.sif"):
        (tmp_path / name).touch()
    text = batch(tmp_path, runtime, "x.sif").script(Tree(tmp_path, tmp_path, ("code.py",)))
    assert f"#SBATCH --chdir={tmp_path}/runs/r/slurm/code/" in text
    assert f" {tmp_path}/x.sif " in text.replace("--container-image=", " ")


def test_an_image_that_is_no_file_here_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box").mkdir()
    for runtime, image, found in (
        ("pyxis", "registry#team/image:1", "registry#team/image:1"),
        ("pyxis", "box", "box"),  # a registry's
        ("apptainer", "box", f"{tmp_path}/box"),  # an unpacked one
        ("apptainer", "docker://a/b", "docker://a/b"),
    ):
        container = batch(tmp_path, runtime, image).asked(None).container
        assert container is not None
        assert container.image == found


def test_one_that_is_not_there_is_refused_in_one_line_and_one_that_may_be_elsewhere_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("squeue", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    for image in ("x.sif", "images/x.sqsh"):
        with pytest.raises(ConfigError, match=f"container.image: {image}: no such file in {tmp_path}; make it there"):
            ask_slurm(batch(tmp_path, "apptainer", image), None)
    (tmp_path / "x.sif").touch()
    for image in ("x.sif", "library://a/b.sif", "registry#image"):
        ask_slurm(batch(tmp_path, "pyxis", image), None)
    assert capsys.readouterr().err == ""
    ask_slurm(batch(tmp_path, "apptainer", "/local/x.sif"), None)
    assert capsys.readouterr().err == "warning: container.image: /local/x.sif: no such file here; the job needs it on its machines\n"
