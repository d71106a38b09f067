"""What a throw-away Slurm cluster needs of this machine, and what it must not inherit from it."""

import contextlib
import os
import random
import shutil
import socket
import subprocess

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "slurmdbd", "mariadb-server-core", "mariadb-client-core")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "munged", "mariadbd", "mariadb-install-db", "unshare", "nsenter")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Input that Slurm's commands, and submitit, take from the environment.
SLURM_VARIABLES = ("SLURM", "SBATCH_", "SALLOC_", "SRUN_", "SCANCEL_", "SCONTROL_", "SQUEUE_", "SINFO_", "SACCT_", "SUBMITIT_")


def in_ci() -> bool:
    """Whether a cluster that cannot be had is a failure here, and not a reason to skip."""
    return bool(os.environ.get("CI") or os.environ.get("OSTINATO_CI"))


def install() -> None:
    """Install the packages that a cluster needs, if they are missing and this is root on a machine with apt-get."""
    if not _absent() or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", *arguments], env=quiet, stdout=subprocess.DEVNULL, check=True)


def missing() -> str | None:
    """What keeps this machine from running a cluster, and what to do about it, in one line; None if nothing does."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root, for nodes with host names of their own; run these tests as root in a container"
    if absent := _absent():
        return f"a Slurm cluster needs {', '.join(absent)}; apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    attempt = ["unshare", "-u", "-m", "-p", "--fork", "--mount-proc", "true"]
    if subprocess.run(attempt, capture_output=True, check=False).returncode != 0:
        return "a Slurm cluster needs namespaces, which this container may not make; give it CAP_SYS_ADMIN"
    return None


def _absent() -> list[str]:
    return [program for program in PROGRAMS if not shutil.which(program, path=SYSTEM_PATH)]


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that a Slurm job, or a user's settings for Slurm, left in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SLURM_VARIABLES)}
    return {**kept, "PATH": f"{kept.get('PATH', '')}:{SYSTEM_PATH}"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the kernel gives to outgoing connections, and the docs' 29400."""
    found: list[int] = []
    for port in random.Random().sample(range(20000, 29000), 200):  # of its own seed: two sessions at a time differ
        with contextlib.suppress(OSError), socket.socket() as trial:
            trial.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between 20000 and 29000")
