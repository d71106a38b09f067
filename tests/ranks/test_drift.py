"""Ranks that drift apart are found at the next fingerprint, and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.exact import fresh, go_on, make_config
from tests.support.ranks import RankFailed, run_ranks
from trainer.build import Job


def nudge_rank_two(job: Job) -> None:
    """Change one bit of one weight of one rank."""
    if job.world.rank == 2:
        with torch.no_grad():
            job.update.parameters[0].view(-1)[7] *= 1 + 2**-20


def test_one_changed_weight_on_one_rank_ends_the_job_and_names_the_rank(tmp_path: Path) -> None:
    with pytest.raises(RankFailed, match=r"step 2: the weights of rank 2 differ from rank 0's"):
        run_ranks(go_on, 3, make_config(3), fresh(tmp_path, "run"), 4, nudge_rank_two)


def test_without_fingerprints_the_same_change_goes_unseen(tmp_path: Path) -> None:
    config = make_config(3, log={"fingerprint_every": 0})
    results = run_ranks(go_on, 3, config, fresh(tmp_path, "run"), 4, nudge_rank_two)
    assert len({result.weights for result in results}) > 1
