"""Slurm: here or not, answering or not, with which queues (free of torch)."""

from __future__ import annotations

import os
import shutil
from typing import Any

from launcher.doctor.finding import OK, WARNING, Facts, Finding
from launcher.slurm_query import NO_SLURM, call, last_line, present

SHOWN = 6


def look_at_slurm(options: Facts) -> dict[str, Any]:
    """Ask for the version, the partitions and old jobs; when one does not answer, the rest is not asked."""
    if not present():
        return {"there": False}
    found: dict[str, Any] = {"there": True, "version": None, "partitions": [], "why": None, "accounting": None}
    code, out, _ = call("squeue", "--version")  # asks nobody
    found["version"] = out.split()[-1] if code == 0 and out.strip() else None
    if shutil.which("sinfo") is None:
        return {**found, "why": "there is no sinfo beside squeue"}
    code, out, err = call("sinfo", "--noheader", "--format=%P|%a|%D")
    if code != 0:
        if NO_SLURM.search(err):
            return {**found, "conf": os.environ.get("SLURM_CONF", ""), "why": "no cluster is configured on this machine"}
        return {**found, "why": last_line(err) or f"sinfo ended with {code}"}
    found["partitions"] = partitions(out)
    if shutil.which("sacct") is not None:
        code, _, err = call("sacct", "--noheader", "--allocations", "--format=JobID", "--starttime=now")
        found["accounting"] = True if code == 0 else False if "disabled" in err else None
    else:
        found["accounting"] = False
    return found


def partitions(text: str) -> list[dict[str, Any]]:
    """What sinfo says, a line for each partition and state of nodes, as one entry a partition."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 3 and parts[0]:
            entry = found.setdefault(parts[0], {"name": parts[0], "up": parts[1] == "up", "nodes": 0})
            entry["nodes"] += int(parts[2]) if parts[2].isdigit() else 0
    return list(found.values())


def judge_slurm(facts: Facts) -> Finding:
    """Whether `ostinato submit` has somebody to talk to."""
    if not facts["there"]:
        return Finding("Slurm", OK, "not here: submit cannot be used, and all else can")
    name = facts["version"] or "its commands are here"
    if facts.get("conf"):
        return Finding("Slurm", WARNING, f"{name}; SLURM_CONF={facts['conf']} is no configuration that can be read", "mend it, or unset it")
    if facts.get("conf") == "":
        return Finding("Slurm", OK, f"{name}, and {facts['why']}: submit cannot be used, and all else can")
    if facts["why"]:
        return Finding(
            "Slurm",
            WARNING,
            f"{name}, and there is no answer ({facts['why']})",
            "submit and status need one: scontrol ping says who is down",
        )
    if not facts["partitions"]:
        return Finding("Slurm", WARNING, f"{name} answers, and shows no partition", "ask the administrator which ones you may use")
    shown = [
        f"{one['name']} ({one['nodes']:,} node{'' if one['nodes'] == 1 else 's'}{'' if one['up'] else ', down'})"
        for one in facts["partitions"]
    ]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    accounting = {True: "with accounting", False: "no accounting, which is not needed", None: "accounting: not known"}[facts["accounting"]]
    found = f"{name} answers; partitions {', '.join(shown[:SHOWN])}{more}; {accounting}"
    if not any(one["up"] for one in facts["partitions"]):
        return Finding("Slurm", WARNING, found, "none is up: jobs would wait")
    return Finding("Slurm", OK, found)
