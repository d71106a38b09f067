"""A throw-away Slurm cluster of two nodes on this machine: real daemons, real job steps, one folder.

Nothing of the machine is touched: no user, no service, no file outside the folder. All daemons live in one process namespace,
whose first process ends when this process ends, however it ends; the kernel then ends everything in it, and the folder goes.
Within it each node has a host name, a process table and an /etc/hosts of its own, so that a node's crash is one SIGKILL.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

import psutil

from tests.support.slurm_files import Settings, write_files
from tests.support.slurm_machine import clean_environment

# The first process of the namespaces waits for the end of its standard input. It reads the outer /proc,
# so what it says there is its process id as seen from outside.
FIRST_PROCESS = 'read -r pid rest < /proc/self/stat; echo "$pid"; read -r rest'
KEEPER = f"unshare --mount --pid --fork --kill-child -- bash -c '{FIRST_PROCESS}'; rm -rf -- \"$1\""


class Cluster:
    """Two nodes, n1 and n2, and the partitions main, low, low_grace, high and short: `with Cluster() as cluster:`."""

    nodes = ("n1", "n2")

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.folder = Path()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._keeper: subprocess.Popen[str] | None = None
        self._inside: list[str] = []  # a command's beginning that takes it into the cluster's namespaces

    def __enter__(self) -> "Cluster":
        self.folder = Path(tempfile.mkdtemp(prefix="oslurm-", dir="/tmp"))  # short: unix sockets lie in it
        command = ["sh", "-c", KEEPER, "sh", str(self.folder)]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert self._keeper.stdout
            first_process = self._keeper.stdout.readline().strip()
            self._inside = ["nsenter", "--mount", "--pid", "--target", first_process, "--"]
            write_files(self.folder, self.nodes, self.settings)
            self._start()
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # Use

    def env(self) -> dict[str, str]:
        """The environment for a process that is to use this cluster."""
        return {**clean_environment(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, cwd: Path | None = None, timeout: float = 60, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as a user on the login node would, `text` as its standard input; its exit status is the caller's to judge."""
        return subprocess.run(
            command, env=self.env(), cwd=cwd or self.folder, input=text, capture_output=True, text=True, timeout=timeout, check=False
        )

    def sbatch(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """Queue a shell script; its job id."""
        done = self.run("sbatch", "--parsable", *options, cwd=cwd, text=f"#!/bin/bash\n{script}\n")
        if done.returncode != 0:
            raise RuntimeError(f"sbatch {' '.join(options)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, or of an array's task 12_3: JobState, Restarts, BatchHost …"""
        words = self.run("scontrol", "show", "job", "-o", job_id).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_job(self, job_id: str, states: str | Collection[str], timeout: float = 60) -> dict[str, str]:
        """Wait until a job is in one of the states (PENDING, RUNNING, COMPLETED …); what is then known of it."""
        wanted = {states} if isinstance(states, str) else set(states)
        seen: dict[str, str] = {}

        def there() -> bool:
            seen.clear()
            seen.update(self.job(job_id))
            return seen.get("JobState") in wanted

        try:
            wait_until(f"job {job_id} {' or '.join(sorted(wanted))}", there, timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {seen.get('JobState')}, {seen.get('Reason')}") from None
        return seen

    def logs(self) -> str:
        """The last lines that each daemon wrote."""
        return "\n".join(f"{log.name}: {line}" for log in sorted(self.folder.glob("log/*")) for line in log.read_text().splitlines()[-20:])

    # Faults

    def kill_node(self, name: str, *, noticed: bool = False) -> None:
        """Crash a node: every process on it is gone when this returns.

        Slurm finds out by itself after half a minute. `noticed` tells it at once, where a test is about what comes after that.
        """
        daemon = self._daemons.pop(name)
        _only_child(_only_child(psutil.Process(daemon.pid))).kill()  # nsenter, unshare, and the node's first process
        daemon.wait()
        if noticed:
            self._must("scontrol", "update", f"nodename={name}", "state=down", "reason=crashed")

    def start_node(self, name: str) -> None:
        """Start a node, or start it again after a crash; it is there when Slurm calls it idle."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        # A shell stays its first process, for somebody must collect what daemons leave behind.
        script = f"hostname {name} && mount --bind {self.folder}/hosts /etc/hosts && {{ slurmd -D -N {name} & wait $!; }}"
        namespaces = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
        self._spawn(name, *namespaces, "bash", "-c", script)

    def stop_controller(self) -> None:
        """Take slurmctld away: jobs run on, and Slurm's commands get no answer."""
        daemon = self._daemons.pop("slurmctld")
        _only_child(psutil.Process(daemon.pid)).terminate()  # not killed: it saves what it knows
        daemon.wait()

    def start_controller(self) -> None:
        """Start slurmctld and wait for its answer."""
        self._spawn("slurmctld", "slurmctld", "-D")
        wait_until("an answer of slurmctld", lambda: self.run("scontrol", "ping").returncode == 0)

    def clear(self) -> None:
        """Cancel all jobs and bring everything back: the cluster is as new, but for its memory of ended jobs."""
        if "slurmctld" not in self._daemons:
            self.start_controller()
        self.run("scancel", "--full", "--signal=KILL", f"--user={os.getuid()}")
        self.run("scancel", f"--user={os.getuid()}")
        for name in set(self.nodes) - set(self._daemons):
            self.start_node(name)
        wait_until("an empty queue", lambda: not self.run("squeue", "--noheader").stdout.strip())
        for name in self._nodes_that_are("drain", "fail"):
            self._must("scontrol", "update", f"nodename={name}", "state=resume")
        wait_until("idle nodes", self._all_idle)

    def stop(self) -> None:
        """End every process of the cluster and remove its folder."""
        if self._keeper:
            self._keeper.communicate()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()
        self._keeper = None

    # Start

    def _start(self) -> None:
        self._start_munge()
        if self.settings.accounting:
            self._start_accounting()
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)
        wait_until("idle nodes", self._all_idle)

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        key = munge / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        files = [f"--key-file={key}", f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log"]
        # Forced, because it would rather have a folder that all can read; from this address, because it would look up the host's name.
        self._spawn("munged", "munged", "-F", "--force", *files, f"--seed-file={munge}/seed", "--origin=127.0.0.1")
        wait_until("munged", lambda: self.run("munge", "-n", f"--socket={munge}/socket").returncode == 0)

    def _start_accounting(self) -> None:
        data, database = self.folder / "database", self.folder / "database.socket"
        data.mkdir()
        # In memory, where only the cluster sees it, and without waiting for it to be safe: nobody reads it after a crash.
        self._must(*self._inside, "mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(data))
        common = ["--no-defaults", "--user=root", f"--datadir={data}", "--skip-log-bin", "--innodb-flush-method=nosync"]
        common.append("--innodb-log-file-size=4M")
        self._must(*self._inside, "mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db")
        # The long lock wait and the buffer pool are what slurmdbd asks for.
        more = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900"]
        private = [f"--socket={database}", f"--pid-file={self.folder}/database.pid", "--skip-networking", "--skip-name-resolve"]
        self._spawn("mariadbd", "mariadbd", *common, *more, *private)
        asking = ["mariadb", "--no-defaults", "-uroot", f"--socket={database}", "-e", "select 1"]
        wait_until("the database", lambda: self.run(*asking).returncode == 0)
        # This variable is how the client library inside slurmdbd learns of the private socket.
        self._spawn("slurmdbd", "env", f"MYSQL_UNIX_PORT={database}", "slurmdbd", "-D")
        adding = ["sacctmgr", "--immediate", "--quiet", "add", "cluster", "ostinato"]
        wait_until("slurmdbd", lambda: self.run(*adding).returncode == 0)

    def _spawn(self, name: str, *command: str) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                [*self._inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env(), start_new_session=True
            )

    def _must(self, *command: str) -> None:
        done = self.run(*command)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _nodes_that_are(self, *states: str) -> list[str]:
        return sorted(set(self.run("sinfo", "--noheader", "--Node", f"--states={','.join(states)}", "--format=%N").stdout.split()))

    def _all_idle(self) -> bool:
        return self._nodes_that_are("idle") == list(self.nodes)


def _only_child(process: psutil.Process) -> psutil.Process:
    (child,) = process.children()
    return child


def wait_until(what: str, true: Callable[[], bool], timeout: float = 60) -> None:
    """Look until it is so."""
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.05)


if __name__ == "__main__":  # one to play with: python -m tests.support.slurm_cluster
    with Cluster() as cluster, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={cluster.env()['SLURM_CONF']}\nIn another terminal; Ctrl-C here ends the cluster.", flush=True)
        signal.pause()
