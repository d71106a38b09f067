"""Whether a cluster can ever run what is asked: no refusal of what fits, and one line about what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.limits import Cluster, Node, Partition, ask, problems, remarks
from launcher.profile import Profile

PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL Default=YES MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=UP
PartitionName=gpu AllowAccounts=a,b AllowQos=normal Default=NO MaxNodes=2 MaxTime=2-00:00:00 MinNodes=1 State=DRAIN Hidden=YES
"""
NODES = """\
NodeName=n1 CPUTot=8 AvailableFeatures=(null) Gres=(null) RealMemory=64000 Partitions=main
NodeName=n2 CPUTot=64 AvailableFeatures=ib,avx512 Gres=gpu:a100:4(S:0-1),gpu:1g.5gb:7,gpu:2,shard:8 RealMemory=512000 Partitions=main,gpu
"""
MAIN, GPU = Partition("main", default=True), Partition("gpu", max_nodes=2, max_minutes=120)
SMALL = [Node(f"n{number}", 8, 64000, {}, ("main",)) for number in range(4)]
LARGE = [Node(f"g{number}", 64, 512000, {"a100": 4}, ("gpu",), ("ib",)) for number in range(3)]
HERE = Cluster((MAIN, GPU), (*SMALL, *LARGE))


def test_slurms_own_words_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "scontrol"
    command.write_text(f'#!/bin/sh\ncase "$*" in *partition) cat {tmp_path}/p;; *node) cat {tmp_path}/n;; esac\n')
    command.chmod(0o755)
    (tmp_path / "p").write_text(PARTITIONS)
    (tmp_path / "n").write_text(NODES)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = ask()
    assert isinstance(found, Cluster)
    assert found.partitions == (
        Partition("main", default=True),
        Partition("gpu", False, "DRAIN", 2, 1, 2880, ("a", "b"), ("normal",)),
    )
    assert found.nodes[0] == Node("n1", 8, 64000, {}, ("main",))
    assert found.nodes[1] == Node("n2", 64, 512000, {"a100": 4, "1g.5gb": 7, "": 2}, ("main", "gpu"), ("ib", "avx512"))
    assert (found.nodes[1].gpus_of(None), found.nodes[1].gpus_of("a100"), found.nodes[1].gpus_of("h100")) == (13, 4, 0)
    command.write_text("#!/bin/sh\necho 'slurm_load: Unable to contact slurm controller' >&2\nexit 1\n")
    assert ask() == "Slurm does not say what it has (slurm_load: Unable to contact slurm controller)"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, None),
        ({"nodes": 4, "workers_per_node": 8}, None),
        ({"partition": "gpu", "gpus_per_node": 4, "gpu_type": "a100", "time": "2:00:00", "nodes": 2}, None),
        ({"nodes": 5}, "nodes: 5 asked for, partition main has 4"),
        ({"partition": "gpu", "nodes": 3}, "nodes: 3 asked for, partition gpu gives at most 2 to a job"),
        ({"partition": "gpu", "time": 121}, "time: 121 minutes asked for, partition gpu allows 120"),
        ({"workers_per_node": 9}, "cpus_per_worker: 9 processors on a node asked for (9 workers with 1 each), partition main has 8"),
        ({"memory_gb": 63}, "memory_gb: 63 GB of memory on a node asked for, partition main has 62.5"),
        ({"gpus_per_node": 1}, "gpus_per_node: 1 GPUs on a node asked for, partition main has 0"),
        ({"partition": "gpu", "gpus_per_node": 1, "gpu_type": "h100"}, "gpus_per_node: 1 GPUs of type h100 on a node asked for"),
        ({"sbatch": {"constraint": "ib"}}, "sbatch.constraint: 0 nodes of partition main have ib, 1 asked for"),
        ({"partition": "gpu", "sbatch": {"constraint": "ib&x"}}, None),
        ({"partition": "main,gpu", "gpus_per_node": 1}, None),
        ({"partition": "nope"}, "partition: this cluster has no nope; it has main, gpu"),
    ],
)
def test_what_can_never_run_is_one_line(asked: dict[str, object], said: str | None) -> None:
    found = problems(Profile(**asked), HERE)  # type: ignore[arg-type]
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_a_cluster_without_a_default_wants_a_name() -> None:
    assert problems(Profile(), Cluster((GPU,), HERE.nodes)) == ["partition: this cluster has no default; name one of gpu"]


def test_a_partition_that_is_down_is_no_refusal() -> None:
    down = Cluster((replace(MAIN, state="DOWN"), GPU), HERE.nodes)
    assert problems(Profile(), down) == []
    assert remarks(Profile(), down) == ["partition main is down; the job waits until it is up again"]
    assert remarks(Profile(partition="gpu"), down) == []


NODE = st.builds(
    Node,
    name=st.text(),
    cpus=st.integers(0, 64),
    memory_mb=st.integers(0, 10**6),
    gpus=st.dictionaries(st.sampled_from(["", "a100", "v100"]), st.integers(0, 8)),
    partitions=st.just(("main",)),
)
ASKED = st.builds(
    Profile,
    nodes=st.integers(1, 6),
    workers_per_node=st.just(1),
    gpus_per_node=st.integers(1, 8),
    cpus_per_worker=st.integers(1, 64),
    memory_gb=st.floats(0.5, 900),
)


@given(st.lists(NODE, max_size=6), ASKED)
def test_a_job_is_refused_exactly_when_too_few_nodes_have_all_it_asks_for(nodes: list[Node], asked: Profile) -> None:
    fits = [
        node
        for node in nodes
        if sum(node.gpus.values()) >= asked.gpus_per_node
        and node.cpus >= asked.cpus_per_node
        and round(node.memory_mb / 1024, 1) >= (asked.memory_gb or 0)
    ]
    assert (len(fits) >= asked.nodes) == (problems(asked, Cluster((MAIN,), tuple(nodes))) == [])


def test_a_quality_of_service_may_lift_the_partitions_limits_and_that_is_said(tmp_path: Path) -> None:
    asked = Profile(partition="gpu", time=121, nodes=3)
    assert len(problems(asked, HERE)) == 2
    assert remarks(asked, HERE) == []
    lifted = Profile(partition="gpu", time=121, nodes=3, qos="long")
    assert problems(lifted, HERE) == []
    assert remarks(lifted, HERE) == [
        "nodes: 3 asked for, partition gpu gives at most 2 to a job; the qos long may allow it, else the job waits for ever",
        "time: 121 minutes asked for, partition gpu allows 120; a run that needs longer goes on by itself; "
        "the qos long may allow it, else the job waits for ever",
    ]
    assert problems(Profile(partition="gpu", nodes=4, qos="long"), HERE) == ["nodes: 4 asked for, partition gpu has 3"]


@pytest.mark.parametrize(
    ("account", "known"), [("physics", True), ("Physics", True), ("physics_ml", False), ("chemistry", False), (None, True)]
)
def test_an_account_may_be_below_one_that_is_allowed_so_that_only_slurm_can_refuse_it(account: str | None, known: bool) -> None:
    here = Cluster((MAIN, replace(GPU, accounts=("math", "physics"), qos=("normal",))), HERE.nodes)
    asked = Profile(partition="gpu", account=account, qos="Normal")
    assert problems(asked, here) == []
    said = f"account: partition gpu is for math, physics; the job waits for ever unless {account} is below it"
    assert remarks(asked, here) == ([] if known else [said])


def test_what_an_administrator_writes_about_a_node_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "scontrol"
    node = NODES.splitlines()[1] + " Reason=was Gres=gpu:a100:8 and CPUTot=1 before"
    command.write_text(f"#!/bin/sh\ncase \"$*\" in *partition) echo PartitionName=main;; *) echo '{node}';; esac\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = ask()
    assert isinstance(found, Cluster)
    assert (found.nodes[0].cpus, found.nodes[0].gpus_of("a100")) == (64, 4)
