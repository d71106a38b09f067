"""A launcher of its own process around `launcher.agent.run_node`: `python -m tests.support.node ENTRY FOLDER WORKERS [GRACE LEFT]`.

GRACE: how long a stop may take; LEFT: what is left of the job's time, by which a USR2 is understood.
"""

import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    start = time.time()
    name, folder, workers, *times = sys.argv[1:]
    grace_s, left_s = map(float, times or (30, 0))
    from launcher import forkserver
    from launcher.requests import Requests

    with Requests() as requests:
        if left_s:
            requests.time_limit = (0.0, time.monotonic() + left_s)
        forkserver.start(["tests.support.entry"])
        from launcher.agent import run_node

        entry = getattr(importlib.import_module("tests.support.entry"), name)
        result = run_node(entry, folder, workers=int(workers), env={"GREETING": "hello"}, requests=requests, grace_s=grace_s)
    facts = {"start": start, "stop_requested": requests.stop, "abandoned": requests.abandoned, **asdict(result)}
    (Path(folder) / "result.json").write_text(json.dumps(facts))
