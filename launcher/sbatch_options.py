"""Which options of sbatch are not for a profile's ``sbatch:``, and why (free of torch)."""

from __future__ import annotations

import re

FROM_THE_PROFILE = {
    "nodes": ("nodes",),
    "workers_per_node": ("ntasks", "ntasks-per-node", "tasks-per-node", "ntasks-per-gpu"),
    "time": ("time",),
    "partition": ("partition",),
    "account": ("account",),
    "qos": ("qos",),
    "memory_gb": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "gpus_per_node": ("gpus", "gpus-per-node", "gpus-per-task", "gres", "gpus-per-socket"),
    "cpus_per_worker": ("cpus-per-task", "cpus-per-gpu"),
    "requeue": ("requeue", "no-requeue"),
}
SET_HERE = ("signal", "output", "error", "open-mode", "array", "chdir", "job-name")
EXPORTS = ("export", "export-file")
# They change what sbatch answers, or whether and where it queues anything.
OTHERWISE = ("wait", "parsable", "quiet", "test-only", "wrap", "clusters", "help", "usage", "version")
OURS = {
    **{name: f"follows from the profile's {field}; set that" for field, names in FROM_THE_PROFILE.items() for name in names},
    **dict.fromkeys(SET_HERE, "is set by ostinato itself"),
    **dict.fromkeys(EXPORTS, "cannot be set: the job needs the variables that its script sets; unset others under setup"),
    **dict.fromkeys(OTHERWISE, "cannot be set: the job is queued as a script, here and now, and sbatch's answer is read"),
}


def refusal(name: str, value: object) -> str | None:
    """Why an option of sbatch cannot be set by its name; None: it can. Pure."""
    # sbatch takes the beginning of an option's name for the option.
    known = name if name in OURS else next((option for option in OURS if option.startswith(name)), None)
    if known is None or (name == "gres" and not _has_gpus(str(value))):
        return None
    return OURS[known]


def _has_gpus(gres: str) -> bool:
    """Whether a list of generic resources names what another key of the profile asks for."""
    return any(re.match(r"\s*(gres[:/])?gpu\b", one, re.IGNORECASE) for one in gres.split(","))
