"""The cluster of these tests is a real one, does what real ones do, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.command import REPOSITORY, environment
from tests.support.slurm_cluster import Cluster, wait_until

# Says that it runs and for the how-manieth time, and stays until it is ended.
LINGERING = 'echo "start ${SLURM_RESTART_COUNT:-0} on $(hostname)"; sleep 600'


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.out")))


def test_each_node_answers_with_its_own_name(cluster: Cluster) -> None:
    answer = cluster.run("srun", "--nodes=2", "--ntasks=2", "bash", "-c", "hostname; getent hosts n1 n2 >/dev/null && echo resolved")
    assert sorted(answer.stdout.split()) == ["n1", "n2", "resolved", "resolved"], answer.stderr


def test_a_job_can_ask_for_gpus_but_not_for_more_than_there_are(cluster: Cluster) -> None:
    seeing = ["bash", "-c", "echo ${CUDA_VISIBLE_DEVICES-none}"]
    assert cluster.run("srun", "--gres=gpu:2", *seeing).stdout.strip() == "0,1"
    assert cluster.run("srun", *seeing).stdout.strip() == "none"
    assert "not available" in cluster.run("srun", "--gres=gpu:3", *seeing).stderr


def test_nothing_of_the_job_around_the_tests_reaches_a_job(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    assert {"SLURM_JOB_ID", "SBATCH_PARTITION"}.isdisjoint(cluster.env())
    job = cluster.sbatch("true", "--output=/dev/null")
    assert cluster.wait_job(job, "COMPLETED")["Partition"] == "main"


def test_a_job_whose_node_crashes_is_queued_again(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(LINGERING, "--output=%j.%N.out", cwd=tmp_path)
    crashed = cluster.wait_job(job, "RUNNING")["BatchHost"]
    wait_until("its first words", lambda: "start 0" in log(tmp_path))
    cluster.kill_node(crashed, noticed=True)
    wait_until("a second start", lambda: "start 1" in log(tmp_path), timeout=120)
    assert f"start 0 on {crashed}" in log(tmp_path)
    assert f"start 1 on {({*cluster.nodes} - {crashed}).pop()}" in log(tmp_path)
    assert cluster.job(job)["Restarts"] == "1"


def test_a_crash_spares_no_process_of_the_node(cluster: Cluster, tmp_path: Path) -> None:
    cluster.sbatch("setsid --fork sleep 98765; sleep 600", "--nodelist=n2", "--output=/dev/null", cwd=tmp_path)

    def survivors() -> list[list[str]]:
        return [process.info["cmdline"] for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "98765"]]

    wait_until("a process that left its session", lambda: bool(survivors()))
    cluster.kill_node("n2", noticed=True)
    assert survivors() == []


def test_the_job_of_a_low_partition_gives_way_and_starts_again(cluster: Cluster, tmp_path: Path) -> None:
    whole = ["--nodes=2", "--exclusive"]
    low = cluster.sbatch(LINGERING, "--partition=low", *whole, "--output=low.out", "--open-mode=append", cwd=tmp_path)
    cluster.wait_job(low, "RUNNING")
    high = cluster.sbatch("sleep 1", "--partition=high", *whole, "--output=/dev/null", cwd=tmp_path)
    cluster.wait_job(high, "COMPLETED")
    wait_until("a second start", lambda: "start 1" in log(tmp_path))
    assert cluster.job(low)["Restarts"] == "1"


def preempted(cluster: Cluster, partition: str, tmp_path: Path) -> tuple[str, list[str]]:
    """A job whose step leaves at its first signal, and says which it was; what became of it when the preemptor has ended."""
    step = "trap 'echo USR2; exit' USR2; trap 'echo TERM; exit' TERM; echo ready; while true; do sleep 0.1; done"
    whole = ["--nodes=2", "--exclusive"]
    options = [f"--partition={partition}", "--signal=USR2@60", "--output=low.out", "--open-mode=append"]
    low = cluster.sbatch(f'srun --ntasks=1 --nodes=1 bash -c "{step}"', *whole, *options, cwd=tmp_path)
    wait_until("the step", lambda: "ready" in log(tmp_path))
    high = cluster.sbatch("true", "--partition=high", *whole, "--output=/dev/null", cwd=tmp_path)
    cluster.wait_job(high, "COMPLETED")
    return low, log(tmp_path).splitlines()


def test_a_preemption_with_grace_time_sends_the_signal_asked_for_and_who_leaves_then_is_not_queued_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    job, words = preempted(cluster, "low_grace", tmp_path)
    assert "USR2" in words
    assert "TERM" not in words
    assert cluster.job(job)["JobState"] == "COMPLETED"
    assert cluster.job(job)["Restarts"] == "0"


def test_most_clusters_send_term_instead_and_queue_again_whatever_the_job_does(term_only_cluster: Cluster, tmp_path: Path) -> None:
    job, words = preempted(term_only_cluster, "low", tmp_path)
    assert "TERM" in words
    assert "USR2" not in words
    assert term_only_cluster.job(job)["Restarts"] == "1"


def test_without_accounting_sacct_fails_and_with_it_it_knows_every_end(cluster: Cluster, accounting_cluster: Cluster) -> None:
    assert cluster.run("sacct").returncode == 1
    job = accounting_cluster.sbatch("exit 7", "--output=/dev/null")
    accounting_cluster.wait_job(job, "FAILED")
    asking = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode"]
    wait_until("sacct to know", lambda: accounting_cluster.run(*asking).stdout.strip() == "FAILED|7:0")


def test_a_job_runs_on_while_the_controller_is_away(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch("echo ready; until [ -e go ]; do sleep 0.1; done; echo done", "--output=away.out", cwd=tmp_path)
    wait_until("the job", lambda: "ready" in log(tmp_path))
    cluster.stop_controller()
    assert cluster.run("scontrol", "ping").returncode != 0
    (tmp_path / "go").touch()
    wait_until("its end", lambda: "done" in log(tmp_path))
    cluster.start_controller()
    cluster.wait_job(job, "COMPLETED")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_however_the_tests_end(cluster: Cluster, how: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import time\nfrom tests.support.slurm_cluster import Cluster, wait_until\n"
        "with Cluster() as cluster:\n"
        "    cluster.sbatch('sleep 4321', '--nodes=2', '--output=/dev/null')\n"
        "    wait_until('a job', lambda: 'R' in cluster.run('squeue', '-h', '-o', '%t').stdout)\n"
        "    print(cluster.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert user.stdout
    with user.stdout as told:
        folder = Path(told.readline().strip())
        processes = [process for process in psutil.process_iter() if _belongs(process, folder)]
        assert len(processes) >= 6  # munged, slurmctld, two slurmd and what holds them
        assert f"{folder}/hosts" not in Path("/proc/mounts").read_text()
        os.kill(user.pid, how)
        user.wait()
    wait_until("the folder to go", lambda: not folder.exists())
    wait_until("the processes to end", lambda: not any(_belongs(process, folder) for process in processes))


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("SLURM_CONF", "").startswith(f"{folder}/")
    except psutil.Error:
        return False
