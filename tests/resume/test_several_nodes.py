"""Several machines without Slurm: each types the same command with its own rank. Here they are processes that share a folder."""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from torch.distributed import PrefixStore, TCPStore

from launcher.standing import lock_of
from tests.support.jobs import LIMIT_S, events, hurry, ostinato, pid_of, slow_images, start, wait_for_step
from tests.support.slurm_machine import free_ports
from tests.support.submitted import nothing_is_lost, same, whole_run, write_config
from trainer.rundir import RunDir

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return whole_run(tmp_path_factory.getbasetemp())


def node(folder: Path, rank: int, port: int, *more: str, nodes: int = 2, workers: int = 1) -> subprocess.Popen[str]:
    """The command of one machine."""
    place = ["--nnodes", str(nodes), "--node-rank", str(rank), "--rdzv-endpoint", f"localhost:{port}"]
    return start(folder, "train", "c.yaml", *place, "--nproc-per-node", str(workers), *more)


def ends(*processes: subprocess.Popen[str]) -> list[tuple[int, str, str]]:
    """How each ended: exit code, output, errors."""
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            for one in processes:
                one.kill()
            raise
        found.append((process.returncode, out, err))
    return found


def test_two_machines_lose_a_worker_are_stopped_and_go_on_to_the_bits_of_one(tmp_path: Path, whole: RunDir) -> None:
    write_config(tmp_path, seconds=0.01)
    run, port = RunDir(tmp_path / "runs" / "c"), free_ports(1)[0]
    first, second = node(tmp_path, 0, port), node(tmp_path, 1, port)
    wait_for_step(run, 6, first)
    listening = {rank: listens(process.pid) for rank, process in ((0, first), (1, second))}
    psutil.Process(pid_of(run, 1)).kill()
    wait_for_step(run, 14, first)
    second.send_signal(signal.SIGINT)
    (code, out, err), (other, _, other_err) = ends(first, second)
    assert (code, other) == (75, 75), err + other_err
    assert [event["exit_code"] for event in events(run, "restarted")] == [5]
    assert err.count("rank 1 was killed by SIGKILL") == 1
    assert "with a checkpoint; the same command goes on" in out
    # One port, of node 0, on the address that was named.
    assert listening == {0: {("127.0.0.1", port)}, 1: set()}
    (code, out, err), (other, _, other_err) = ends(node(tmp_path, 0, port), node(tmp_path, 1, port))
    assert (code, other) == (0, 0), err + other_err
    assert nothing_is_lost(run)
    assert same(run, whole)


def listens(pid: int) -> set[tuple[str, int]]:
    """Where a process itself listens, not what it has started."""
    return {(one.laddr.ip, one.laddr.port) for one in psutil.Process(pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN}


def test_a_machine_that_is_lost_ends_the_others_and_the_same_commands_go_on(tmp_path: Path, whole: RunDir) -> None:
    write_config(tmp_path, seconds=0.01)
    run, port = RunDir(tmp_path / "runs" / "c"), free_ports(1)[0]
    first, second = node(tmp_path, 0, port), node(tmp_path, 1, port)
    wait_for_step(run, 6, first)
    second.kill()
    (code, _, err), _ = ends(first, second)
    assert code == 5
    assert err.splitlines()[0].startswith("node 1 (")
    assert "does not answer any more; the same command goes on" in err
    first, second = node(tmp_path, 0, port), node(tmp_path, 1, port)
    wait_for_step(run, 20, first)
    began = time.monotonic()
    first.kill()
    _, (code, _, err) = ends(first, second)
    assert time.monotonic() - began < 60
    assert code == 5
    assert len(err.splitlines()) == 1
    assert "node 0 (" in err
    ended = ends(node(tmp_path, 0, port), node(tmp_path, 1, port))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert nothing_is_lost(run)
    assert same(run, whole)


def test_numbers_that_do_not_fit_are_refused_on_both(tmp_path: Path) -> None:
    write_config(tmp_path)
    port = free_ports(1)[0]
    told = ends(node(tmp_path, 0, port), node(tmp_path, 1, port, workers=2))
    assert [code for code, _, _ in told] == [2, 2], told
    for _, _, err in told:
        assert err.startswith("command line: --nproc-per-node: 2 on node 1 (")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs" / "c").exists()


def test_a_rank_that_is_taken_is_refused_and_the_job_goes_on(tmp_path: Path) -> None:
    write_config(tmp_path)
    slowly = slow_images(free=0)
    run, port = RunDir(tmp_path / "runs" / "c"), free_ports(1)[0]
    first, second = node(tmp_path, 0, port, slowly), node(tmp_path, 1, port, slowly)
    wait_for_step(run, 1, first)
    [(code, _, err)] = ends(node(tmp_path, 1, port, slowly))
    hurry(tmp_path)
    assert code == 2
    assert err == "command line: --node-rank=1: another machine has this number already; each needs its own\n"
    assert [code for code, _, _ in ends(first, second)] == [0, 0]


def test_a_machine_that_never_comes_is_named(tmp_path: Path) -> None:
    write_config(tmp_path)
    port = free_ports(1)[0]
    told = ends(
        node(tmp_path, 0, port, "supervision.start_within_s=20", "train.virtual_ranks=3", nodes=3),
        node(tmp_path, 2, port, "supervision.start_within_s=20", "train.virtual_ranks=3", nodes=3),
        node(tmp_path, 1, free_ports(1)[0], "supervision.start_within_s=1"),
    )
    assert [code for code, _, _ in told] == [5, 5, 5]
    assert told[0][2].startswith("ostinato: node 1 of 3 has not come to localhost:")
    assert "node 0 has not answered at localhost:" in told[2][2]
    assert all(len(err.splitlines()) == 1 for _, _, err in told), told


def test_a_run_that_waits_for_its_other_machine_is_under_way_and_can_be_stopped(tmp_path: Path) -> None:
    write_config(tmp_path)
    run = RunDir(tmp_path / "runs" / "c")
    begun = start(tmp_path, "train", "c.yaml", "--nproc-per-node", "2")
    wait_for_step(run, 2, begun)
    begun.terminate()
    ((code, _, err),) = ends(begun)
    assert code == 75, err
    waiting = node(tmp_path, 0, free_ports(1)[0])
    limit = time.monotonic() + LIMIT_S
    while not lock_of(run.lock)[0] and time.monotonic() < limit:
        time.sleep(0.01)
    status, stopped = ostinato(tmp_path, "status", "runs/c", "--json"), ostinato(tmp_path, "stop", "runs/c")
    ((code, _, err),) = ends(waiting)
    assert json.loads(status.stdout)[0]["state"] == "running"
    assert (stopped.returncode, stopped.stdout.splitlines()[0]) == (0, f"c: asked to stop (process {waiting.pid})")
    assert (code, err) == (75, "ostinato: stopped before training began; the same command starts it\n")


def test_a_run_folder_that_is_not_shared_is_found_out(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name)
    port = free_ports(1)[0]
    soon = "supervision.start_within_s=20"
    told = ends(node(tmp_path / "here", 0, port, soon), node(tmp_path / "there", 1, port, soon))
    assert [code for code, _, _ in told] == [2, 2], told
    assert "node 1 (" in told[0][2]
    assert "run.root must be a folder that all nodes share" in told[0][2]
    assert len(told[0][2].splitlines()) == 1
    shutil.rmtree(tmp_path / "there")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_pickle_in_every_key_of_the_store_never_runs(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.01)
    run, port, sprung = RunDir(tmp_path / "runs" / "c"), free_ports(1)[0], tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    pickle.loads(trap)
    assert sprung.exists()  # it would
    sprung.unlink()
    first, second = node(tmp_path, 0, port), node(tmp_path, 1, port)
    wait_for_step(run, 4, first)
    store = TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False)
    keys = store.list_keys()
    assert len(keys) > 10
    with suppress(RuntimeError):  # the job may have fallen, and the store with it
        for key in keys:
            store.set(key, trap)
        for key in ("stop", "end", "order-1", "ended-0/1", "failed-0", "prepared"):
            PrefixStore("ostinato", store).set(key, trap)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid_of(run, 1)).kill()  # a new attempt, which reads more of them
    told = ends(first, second)
    assert all(code in (2, 4, 5, 75) for code, _, _ in told), told
    assert all("Traceback" not in err for _, _, err in told), told
    assert not sprung.exists()
