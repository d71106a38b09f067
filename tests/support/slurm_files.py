"""The files that a throw-away Slurm cluster reads, all in its one folder."""

import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.support.slurm_machine import free_ports

TEMPLATES = Path(__file__).with_name("slurm_templates")


@dataclass(frozen=True)
class Settings:
    """What a test may choose of a cluster."""

    cpus: int = 8  # as Slurm counts them; this machine may have fewer
    gpus: int = 0  # fake: Slurm counts them and hands them out, nothing can compute on them
    accounting: bool = False
    remembers_s: int = 86400  # so long ended jobs stay known to squeue and scontrol: the whole session; Slurm's default is 300
    kill_wait_s: int = 25  # from TERM to KILL; on a busy machine a checkpoint takes its time
    grace_s: int = 20  # of the partition low_grace: so long a preempted job may stay after its first signal
    signal_at_preemption: bool = True  # the one of the job's --signal option, if it has one; else TERM only, as on most clusters
    # Generous, because a busy machine must not look like a dead node; a dead one is found after half a minute.
    node_timeout_s: int = 10
    message_timeout_s: int = 10


def write_files(folder: Path, nodes: Sequence[str], settings: Settings) -> None:
    """Write everything that the daemons want to read."""
    for part in ("munge", "state", "log", "spool"):
        (folder / part).mkdir()
    host = socket.gethostname()
    control_port, accounting_port, *node_ports = free_ports(2 + len(nodes))
    addresses = {name: f"127.0.77.{i}" for i, name in enumerate(nodes, 2)}
    names = ["127.0.0.1 localhost", f"127.0.0.1 {host}", *(f"{address} {name}" for name, address in addresses.items())]
    (folder / "hosts").write_text("\n".join(names) + "\n")
    # Said outright, because slurmd's own search for it is fatal where /sys/fs/cgroup is not mounted.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    values: dict[str, object] = {"folder": folder, "host": host, "control_port": control_port, "accounting_port": accounting_port}
    values |= {name: getattr(settings, name) for name in ("kill_wait_s", "grace_s", "remembers_s", "node_timeout_s", "message_timeout_s")}
    values["nodes"] = "\n".join(
        f"NodeName={name} NodeHostname={name} NodeAddr={addresses[name]} Port={port} CPUs={settings.cpus} RealMemory=64000"
        f"{f' Gres=gpu:{settings.gpus}' if settings.gpus else ''} State=UNKNOWN"
        for name, port in zip(nodes, node_ports, strict=True)
    )
    values["controller"] = "SlurmctldParameters=preempt_send_user_signal" if settings.signal_at_preemption else ""
    values["gres"] = _fake_gpus(folder, settings.gpus)
    values["accounting"] = _accounting(folder, accounting_port) if settings.accounting else NO_ACCOUNTING
    for name in ("slurm.conf", "slurmdbd.conf"):
        (folder / name).write_text(Template((TEMPLATES / name).read_text()).substitute(values))
    (folder / "slurmdbd.conf").chmod(0o600)  # slurmdbd insists


NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none"


def _accounting(folder: Path, port: int) -> str:
    return (
        "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
        f"AccountingStoragePort={port}\nAccountingStoragePass={folder}/munge/socket\n"
        "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherFrequency=5"
    )


def _fake_gpus(folder: Path, count: int) -> str:
    """Make devices for Slurm to count: it insists on distinct character devices, and these are as /dev/null."""
    if not count:
        return ""
    for i in range(count):
        os.mknod(folder / f"gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={folder}/gpu{i}\n" for i in range(count)))
    return "GresTypes=gpu"
