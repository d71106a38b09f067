"""Secrets of a command line, of URLs and of a change are masked, and nothing else of a command line is."""

from __future__ import annotations

import time

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
        (["db.url=https://me:c@nary/x@host/x"], ["db.url=https://***@host/x"]),
        (["db=me:can@ary@host"], ["db=me:***@host"]),
        (["x=[1, {SECRET_KEY: canary}]"], ["x=[1, {SECRET_KEY: ***}]"]),
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
    plain += ["image=python:3.11@sha256:abcdef", "url=http://host:80/a@b", "remote=git@host:repo.git"]
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
+token = ***
+lr = 0.1
"""
    )


# What is assigned, or given, to a telling name in the many ways of YAML, shells, JSON and python.
SHOWN = [
    ("password: canary", "password: ***"),
    ("hf_token: canary, dry  # note", "hf_token: ***"),
    ("export WANDB_API_KEY=canary", "export WANDB_API_KEY=***"),
    ("awsSecretAccessKey: canary", "awsSecretAccessKey: ***"),
    ("DB_PASS=canary", "DB_PASS=***"),
    ("Authorization: Bearer canary", "Authorization: ***"),
    ("curl -H 'Authorization: Bearer canary' https://host/x", "curl -H 'Authorization: ***' https://host/x"),
    ("send('Bearer canary-0123')", "send('Bearer ***')"),
    ("run --password canary --epochs 3", "run --password *** --epochs 3"),
    ('os.environ["HF_TOKEN"] = "canary"', 'os.environ["HF_TOKEN"] = "***"'),
    ("os.environ.setdefault('HF_TOKEN', 'canary')", "os.environ.setdefault('HF_TOKEN', '***')"),
    ('SECRET_KEY = "canary"', 'SECRET_KEY = "***"'),
    ('API_KEY=b"canary"', 'API_KEY=b"***"'),
    ('x = {"a": 1, "password": "cana\'ry", "b": 2}', 'x = {"a": 1, "password": "***", "b": 2}'),
    ('    "token": "canary",', '    "token": "***",'),
    ("my_secret: 'it''s canary'", "my_secret: ***"),
    ('KEY = login(token="cana, ry", n=1)', 'KEY = login(token="***", n=1)'),
    ('def net(api_key: str = "canary", n: int = 3):', "def net(api_key: ***, n: int = 3):"),
    ("def net(api_key: str, n: int = 3) -> None:", "def net(api_key: str, n: int = 3) -> None:"),
    ('get("https://host/?access_token=canary&x=1", 3)', 'get("https://host/?access_token=***", 3)'),
    ("{password: canary dry}", "{password: ***}"),
    ("# don't tell the password: canary's", "# don't tell the password: ***"),
    ("db = 'postgres://me:c@nary@host/x'", "db = 'postgres://***@host/x'"),
    ("class Token:", "class Token:"),
    ("tokens: 3", "tokens: 3"),
]


@pytest.mark.parametrize(("line", "shown"), SHOWN)
@pytest.mark.parametrize("sign", ["+", "-", " ", "@@ -1,2 +1,3 @@ "])
def test_what_is_assigned_to_a_telling_name_is_masked_in_every_language(line: str, shown: str, sign: str) -> None:
    assert masked_text(f"{sign}{line}\n lr: 0.1") == f"{sign}{shown}\n lr: 0.1"


@pytest.mark.parametrize(
    "lines",
    [
        "+password: |\n+  canary\n+  canary",
        "+secrets:\n+  db: canary\n+\n+  other:\n+    x: canary",
        "+credentials:\n+- canary\n+- canary",
        '+TOKEN = (\n+    "canary"\n+    "canary"\n+)',
        '+TOKEN = """\n+canary\n+canary"""',
        "+-----BEGIN RSA PRIVATE KEY-----\n+canary\n+-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_in_the_lines_below_its_name_is_masked_and_what_follows_is_not(lines: str) -> None:
    shown = masked_text(f"+epochs: 3\n{lines}\n+lr: 0.1")
    assert "canary" not in shown
    assert "***" in shown
    assert shown.startswith("+epochs: 3\n")
    assert shown.endswith("\n+lr: 0.1")


@pytest.mark.parametrize("part", ['{"token": 1, ', "a:", "a://", "--a", "-", "'", "token: a(", "token  ", "a@", "x"])
def test_no_text_takes_long(part: str) -> None:
    began = time.monotonic()
    masked_text(part * (256_000 // len(part)))
    assert time.monotonic() - began < 20  # a second at most; without bounds it is a minute
