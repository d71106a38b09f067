import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launcher.agent import to_name
from tests.support.command import environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")


class Node:
    """A launcher of one node in a process of its own."""

    def __init__(self, entry, folder, workers, *times):
        self.folder, self.workers = folder, workers
        command = [sys.executable, "-m", "tests.support.node", entry, str(folder), str(workers), *map(str, times)]
        self.process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)

    def rank(self, rank):
        return json.loads((self.folder / f"rank-{rank}.json").read_text())

    def wait_for_workers(self):
        """The workers' pids, once all of them are at work."""
        return [wait_until(lambda r=r: self.rank(r)["pid"]) for r in range(self.workers)]

    def result(self, timeout=60):
        _, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stderr
        assert stderr == "", stderr
        return json.loads((self.folder / "result.json").read_text())


def wait_until(ask, timeout=60.0):
    """What `ask` returns, once it returns something."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            answer = ask()
            if answer:
                return answer
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def gone(pids):
    return wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


@pytest.fixture
def node(tmp_path):
    nodes = []

    def start(entry, workers=2, *times):
        nodes.append(Node(entry, tmp_path, workers, *times))
        return nodes[-1]

    yield start
    for each in nodes:
        each.process.kill()
        each.process.communicate(timeout=10)  # a worker left behind would hold the pipe


def test_each_worker_has_its_place_the_given_variables_and_a_private_meeting_place(node):
    result = (started := node("report", 2)).result()
    assert [end["exit_code"] for end in result["ends"]] == [0, 0]
    assert [end["value"] for end in result["ends"]] == [0, 0]
    for rank in range(2):
        env = started.rank(rank)["env"]
        assert (env["RANK"], env["LOCAL_RANK"], env["WORLD_SIZE"], env["LOCAL_WORLD_SIZE"]) == (str(rank), str(rank), "2", "2")
        assert env["GREETING"] == "hello"
        assert not Path(env["OSTINATO_STORE"]).parent.exists()  # cleared away at the end


def test_a_worker_does_not_run_the_launchers_main_module_again_and_can_be_asked_to_stop(node):
    (started := node("report", 1)).result()
    facts = started.rank(0)
    assert facts["main_file"] is None
    assert "typer" not in facts["modules"]
    assert all(facts["listens"].values())  # what the fork server ignores is not ignored here


def test_the_folder_in_which_workers_meet_is_the_owners_alone_and_nobody_listens_on_the_network(node):
    started = node("deaf", 2)
    started.wait_for_workers()
    store = Path(started.rank(0)["store"])
    assert store.parent.stat().st_mode & 0o777 == 0o700
    launcher = psutil.Process(started.process.pid)
    family = [launcher, *launcher.children(recursive=True)]
    assert [c for process in family for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP], ids=lambda n: n.name)
def test_a_request_reaches_each_worker_once_and_they_take_their_time(node, number):
    started = node("wait_for_stop", 2)
    started.wait_for_workers()
    started.process.send_signal(number)
    result = started.result()
    assert result["stop_requested"]
    assert [end["value"] for end in result["ends"]] == [75, 75]
    assert [started.rank(r)["asked"] for r in range(2)] == [1, 1]


def test_a_request_to_the_whole_process_group_is_the_same_one_request(node):
    started = node("wait_for_stop", 2)
    started.wait_for_workers()
    os.killpg(started.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    assert [end["value"] for end in started.result()["ends"]] == [75, 75]
    assert [started.rank(r)["asked"] for r in range(2)] == [1, 1]


def test_a_request_to_every_process_of_the_job_does_not_end_the_fork_server(node):
    started = node("wait_for_stop", 2)
    started.wait_for_workers()
    launcher = psutil.Process(started.process.pid)
    for process in launcher.children(recursive=True):
        if "resource_tracker" not in " ".join(process.cmdline()):
            process.send_signal(signal.SIGTERM)  # what scancel does
    started.process.send_signal(signal.SIGTERM)
    assert [end["value"] for end in started.result()["ends"]] == [75, 75]


@pytest.mark.parametrize(
    ("number", "left_s", "code"),
    [(signal.SIGUSR2, 120, 75), (signal.SIGUSR2, 0, -signal.SIGKILL), (signal.SIGTERM, 120, -signal.SIGKILL)],
)
def test_a_save_that_is_longer_than_the_grace_has_what_is_left_of_the_jobs_time_when_that_is_what_ends(node, number, left_s, code):
    started = node("save_slowly", 1, 1, left_s)
    started.wait_for_workers()
    started.process.send_signal(number)
    result = started.result()
    [end] = result["ends"]
    assert (end["value"] or end["exit_code"], result["too_late"]) == (code, code != 75)


def test_a_request_before_the_workers_listen_ends_them(node):
    started = node("slow_to_listen", 2)
    started.wait_for_workers()
    started.process.send_signal(signal.SIGTERM)
    result = started.result(timeout=25)  # the grace would be 30 s
    assert result["stop_requested"]
    assert {end["exit_code"] for end in result["ends"]} == {75}


def test_a_second_ctrl_c_ends_everything_at_once(node):
    started = node("deaf", 2)
    pids = started.wait_for_workers()
    started.process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # two that come at once are one
    start = time.monotonic()
    started.process.send_signal(signal.SIGINT)
    result = started.result()
    assert time.monotonic() - start < 15  # the grace would be 28 s
    assert result["abandoned"]
    assert gone(pids)


def test_no_worker_survives_a_killed_launcher(node):
    started = node("deaf", 3)
    pids = started.wait_for_workers()
    started.process.kill()
    assert gone(pids)


def test_the_death_of_a_worker_is_told_by_its_signal_and_its_peers_by_their_exit_codes(node):
    result = node("last_rank_is_killed", 3).result()
    assert [end["exit_code"] for end in result["ends"]][2] == -signal.SIGKILL
    assert [end["exit_code"] for end in result["ends"]][:2] == [4, 4]


def test_peers_that_hang_after_a_death_are_ended_in_seconds(node):
    started = node("last_rank_is_killed_and_others_hang", 2)
    wait_until(lambda: started.rank(0)["pid"])
    start = time.monotonic()
    result = started.result()
    assert time.monotonic() - start < 25  # torch would give them 30 s
    assert [end["by_launcher"] for end in result["ends"]] == [True, False]
    assert [end["exit_code"] for end in result["ends"]] == [-signal.SIGKILL, -signal.SIGKILL]


def test_what_a_worker_lets_out_is_kept_for_the_verdict_and_not_printed_by_the_agent(node):
    started = node("raises", 1)
    _, stderr = started.process.communicate(timeout=60)
    [end] = json.loads((started.folder / "result.json").read_text())["ends"]
    assert end["exit_code"] == 1
    assert "the shape (3, 4) does not fit" in end["message"]
    assert "ChildFailedError" not in stderr


LEAVING = """
import json
from launcher import forkserver
forkserver.start(["tests.unit.launcher.leaving"])
from launcher.agent import run_node
from launcher.failure import judge
from launcher.requests import Requests
from tests.unit.launcher.leaving import last_rank_leaves
result = run_node(last_rank_leaves, "", workers={workers}, env={{}}, requests=Requests())
print(json.dumps([judge(result.ends).exit_code, judge(result.ends).rank]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_leaves_with_exit_code_0_and_without_a_word_ends_the_job_as_a_failure(workers):
    code = LEAVING.format(workers=workers)
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [4, workers - 1]


PART = """
import os
def say(): print("{which}", os.getcwd(), flush=True)
"""
FROZEN = """
import multiprocessing, sys
sys.path.insert(0, sys.argv[1])
from launcher import forkserver
forkserver.start(["part"])
import part
worker = multiprocessing.get_context("forkserver").Process(target=part.say)
worker.start()
worker.join()
"""


def test_workers_of_a_job_run_its_frozen_code_from_the_first_import_on_in_the_folder_of_the_command(tmp_path):
    for which in ("frozen", "edited"):
        (tmp_path / which).mkdir()
        (tmp_path / which / "part.py").write_text(PART.format(which=which))
    frozen = str(tmp_path / "frozen")
    variables = environment(OSTINATO_FROZEN=frozen)
    variables["PYTHONPATH"] = os.pathsep.join([frozen, variables["PYTHONPATH"]])
    variables.pop("PYTHONSAFEPATH", None)  # Python 3.10 does not know it
    done = subprocess.run(
        [sys.executable, "-c", FROZEN, frozen],
        cwd=tmp_path / "edited",
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"frozen {tmp_path / 'edited'}\n", done.stderr


@pytest.mark.parametrize(
    ("address", "named"),
    [("127.0.0.1", {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"}), ("10.1.2.3", {"GLOO_SOCKET_IFNAME"})],
)
def test_nccl_chooses_its_own_interface_but_between_nodes_that_share_a_machine(address, named):
    assert set(to_name(address)) == named
