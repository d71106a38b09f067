"""A launcher of its own process around `launcher.agent.run_node`: `python -m tests.support.node ENTRY FOLDER WORKERS`."""

import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    start = time.time()
    name, folder, workers = sys.argv[1:]
    from launcher import forkserver
    from launcher.requests import Requests

    with Requests() as requests:
        forkserver.start(["tests.support.entry"])
        from launcher.agent import run_node

        entry = getattr(importlib.import_module("tests.support.entry"), name)
        result = run_node(entry, folder, workers=int(workers), env={"GREETING": "hello"}, requests=requests)
    facts = {"start": start, "stop_requested": requests.stop, "abandoned": requests.abandoned, **asdict(result)}
    (Path(folder) / "result.json").write_text(json.dumps(facts))
