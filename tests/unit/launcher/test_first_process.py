"""The first process of a container hears no signal that it does not listen to: so every command of ours listens from its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.command import environment

CODE = """
import sys, time
sys.argv[1:] = [{command!r}]
from launcher.requests import listen_early
listen_early()
print(1, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a process namespace wants root on Linux")
@pytest.mark.parametrize(("command", "code"), [("sweep", 75), ("train", 75), ("submit", 143), ("logs", 143)])
def test_a_request_to_stop_ends_it(command: str, code: int) -> None:
    inside = ["unshare", "--pid", "--fork", "--kill-child", "--", sys.executable, "-c", CODE.format(command=command)]
    process = subprocess.Popen(inside, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    (first,) = psutil.Process(process.pid).children()
    first.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
