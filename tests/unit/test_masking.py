"""Secrets of a command line, of URLs and of a change are masked, and nothing else is."""

from __future__ import annotations

import pytest

from trainer.masking import masked, masked_text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["logger.api_key=canary"], ["logger.api_key=***"]),
        (["model.hf_token=canary"], ["model.hf_token=***"]),
        (["DB_PASSWORD=canary"], ["DB_PASSWORD=***"]),
        (["a.secret.name=canary"], ["a.secret.name=***"]),
        (["--token", "canary", "x"], ["--token", "***", "x"]),
        (["--password=canary"], ["--password=***"]),
        (["data.root=https://me:canary@host/x"], ["data.root=https://***@host/x"]),
        (["s3://canary@host/x"], ["s3://***@host/x"]),
        (["model={target: x, token: canary, width: 3}"], ["model={target: x, token: ***, width: 3}"]),
        (["model={target: x, token: 'canary dry', width: 3}"], ["model={target: x, token: '***', width: 3}"]),
        (["x.y=ghp_canary0123456789abcdef"], ["x.y=***"]),
    ],
)
def test_secrets_are_masked(given: list[str], kept: list[str]) -> None:
    assert masked(given) == kept


def test_everything_else_stays() -> None:
    plain = [
        "train",
        "configs/digits.yaml",
        "train.epochs=3",
        "model.num_tokens=4",
        "model.tokenizer=bpe",
        "--fresh",
        "--nproc-per-node",
        "2",
    ]
    plain += ["optimizer={target: sgd, lr: 0.1}", "data.root=https://host/a@b", "run.name=secretary", "--tokens", "5"]
    assert masked(plain) == plain


def test_a_change_that_git_shows_is_masked_where_it_must_be() -> None:
    change = """
+API_TOKEN = "canary"
+url = "https://me:canary@example.org/repo.git"
+    my_password: 'canary'
+key = "AKIAABCDEFGHIJKLMNOP"
+tokens = tokenizer("some text")
+token = tokens[0]
+lr = 0.1
"""
    assert (
        masked_text(change)
        == """
+API_TOKEN = "***"
+url = "https://***@example.org/repo.git"
+    my_password: '***'
+key = "***"
+tokens = tokenizer("some text")
+token = tokens[0]
+lr = 0.1
"""
    )
