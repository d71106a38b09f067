"""Can a cluster ever run this? Its own words (``scontrol show``) against a profile, before the job stands in the queue (free of torch)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from launcher.profile import Profile
from launcher.slurm_query import call, seconds

WITHOUT_LIMIT = ("UNLIMITED", "INFINITE", "NONE", "ALL", "(null)", "N/A", "")


@dataclass(frozen=True)
class Partition:
    """A queue. None: no limit."""

    name: str
    default: bool = False
    state: str = "UP"
    max_nodes: int | None = None
    min_nodes: int = 0
    max_minutes: int | None = None
    accounts: tuple[str, ...] | None = None
    qos: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Node:
    """A machine."""

    name: str
    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]
    """Of each type; of no type: an empty name."""
    partitions: tuple[str, ...]
    features: tuple[str, ...] = ()

    def gpus_of(self, wanted: str | None) -> int:
        """How many there are of a type, or of any."""
        return sum(self.gpus.values()) if wanted is None else self.gpus.get(wanted, 0)


@dataclass(frozen=True)
class Cluster:
    """What a cluster has."""

    partitions: tuple[Partition, ...]
    nodes: tuple[Node, ...]


def ask() -> Cluster | str:
    """The cluster here, or one line on why nothing is known about it."""
    answers = []
    for what in ("partition", "node"):
        code, out, err = call("scontrol", "--all", "--oneliner", "show", what)
        if code:
            return f"Slurm does not say what it has ({(err or out).strip().splitlines()[-1] if (err or out).strip() else 'no answer'})"
        answers.append([_fields(line) for line in out.splitlines() if line.strip()])
    return Cluster(tuple(map(_partition, answers[0])), tuple(map(_node, answers[1])))


def _fields(line: str) -> dict[str, str]:
    """The fields of one line. The first of a name counts: what an administrator writes about a node comes last, and may be anything."""
    found: dict[str, str] = {}
    for word in line.split():
        key, equals, value = word.partition("=")
        if equals:
            found.setdefault(key, value)
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _list(text: str) -> tuple[str, ...] | None:
    return None if text in WITHOUT_LIMIT else tuple(text.split(","))


def _partition(fields: Mapping[str, str]) -> Partition:
    limit = seconds(fields.get("MaxTime", ""))
    return Partition(
        name=fields["PartitionName"],
        default=fields.get("Default") == "YES",
        state=fields.get("State", "UP"),
        max_nodes=_number(fields.get("MaxNodes", "")),
        min_nodes=_number(fields.get("MinNodes", "")) or 0,
        max_minutes=None if limit is None else limit // 60,
        accounts=_list(fields.get("AllowAccounts", "")),
        qos=_list(fields.get("AllowQos", "")),
    )


def _node(fields: Mapping[str, str]) -> Node:
    gpus: dict[str, int] = {}
    for kind, count in re.findall(r"(?:^|,)gpu(?::([^:,(]+))?:(\d+)", fields.get("Gres", "")):
        gpus[kind] = gpus.get(kind, 0) + int(count)
    return Node(
        name=fields["NodeName"],
        cpus=_number(fields.get("CPUTot", "")) or 0,
        memory_mb=_number(fields.get("RealMemory", "")) or 0,
        gpus=gpus,
        partitions=_list(fields.get("Partitions", "")) or (),
        features=_list(fields.get("AvailableFeatures", "")) or (),
    )


def problems(profile: Profile, cluster: Cluster) -> list[str]:
    """Why this cluster can never run what a profile asks, one line each; empty: it can. Pure."""
    by_name = {partition.name: partition for partition in cluster.partitions}
    wanted = profile.partition or next((name for name, partition in by_name.items() if partition.default), None)
    if wanted is None:
        return [f"partition: this cluster has no default; name one of {', '.join(by_name)}"]
    found = []
    usable = []
    for name in wanted.split(","):  # Slurm takes the first that fits
        if name not in by_name:
            found.append(f"partition: this cluster has no {name}; it has {', '.join(by_name)}")
            continue
        here = _problems_in(profile, by_name[name], [node for node in cluster.nodes if name in node.partitions])
        found += here
        usable += [] if here else [name]
    return [] if usable else found


def remarks(profile: Profile, cluster: Cluster) -> list[str]:
    """What does not keep a job from the queue, and should be known. Pure."""
    wanted = profile.partition.split(",") if profile.partition else [found.name for found in cluster.partitions if found.default]
    asked = [found for found in cluster.partitions if found.name in wanted]
    down = [f"partition {found.name} is down; the job waits until it is up again" for found in asked if found.state == "DOWN"]
    # An account that is not named there may be below one that is; only Slurm knows.
    others = [
        f"account: partition {found.name} is for {', '.join(found.accounts)}; the job waits for ever unless {profile.account} is below it"
        for found in asked
        if found.accounts is not None and profile.account is not None and not _among(profile.account, found.accounts)
    ]
    over = [limit for found in asked for limit in _over(profile, found)] if profile.qos is not None else []
    return [*down, *others, *(f"{limit}; the qos {profile.qos} may allow it, else the job waits for ever" for limit in over)]


def _among(name: str, names: Sequence[str]) -> bool:
    """Whether a name is one of these; Slurm's accounting keeps them all in small letters."""
    return name.lower() in [one.lower() for one in names]


def _problems_in(profile: Profile, partition: Partition, nodes: Sequence[Node]) -> list[str]:
    found = []
    where = f"partition {partition.name}"
    if partition.state in ("DRAIN", "INACTIVE"):
        found.append(f"partition: {partition.name} is closed ({partition.state}); ask when it opens, or take another one")
    if profile.nodes > len(nodes):
        found.append(f"nodes: {profile.nodes} asked for, {where} has {len(nodes)}")
    if profile.qos is None:
        found += _over(profile, partition)
    if partition.qos is not None and profile.qos is not None and not _among(profile.qos, partition.qos):
        found.append(f"qos: {profile.qos} may not use {where}, which is for {', '.join(partition.qos)}")
    return found or _too_large(profile, where, nodes)


def _over(profile: Profile, partition: Partition) -> list[str]:
    """The partition's own limits that a profile passes; a quality of service can lift them (PartitionTimeLimit, PartitionMaxNodes …)."""
    found = []
    where = f"partition {partition.name}"
    if partition.max_nodes is not None and profile.nodes > partition.max_nodes:
        found.append(f"nodes: {profile.nodes} asked for, {where} gives at most {partition.max_nodes} to a job")
    elif profile.nodes < partition.min_nodes:
        found.append(f"nodes: {profile.nodes} asked for, {where} gives no job fewer than {partition.min_nodes}")
    if partition.max_minutes is not None and profile.minutes > partition.max_minutes:
        found.append(
            f"time: {profile.minutes} minutes asked for, {where} allows {partition.max_minutes}; a run that needs longer goes on by itself"
        )
    return found


def _too_large(profile: Profile, where: str, nodes: Sequence[Node]) -> list[str]:
    """What a node would have to have, and too few do."""
    feature = str(profile.sbatch.get("constraint", ""))
    kind = f" of type {profile.gpu_type}" if profile.gpu_type else ""
    needs: list[tuple[str, str, float, Callable[[Node], float]]] = [
        ("gpus_per_node", f"GPUs{kind}", profile.gpus_per_node, lambda node: node.gpus_of(profile.gpu_type)),
        ("cpus_per_worker", "processors", profile.cpus_per_node, lambda node: node.cpus),
        ("memory_gb", "GB of memory", profile.memory_gb or 0, lambda node: round(node.memory_mb / 1024, 1)),
    ]
    left = list(nodes)
    if re.fullmatch(r"[\w.-]+", feature):  # a plain name; more than that is Slurm's to judge
        left = [node for node in nodes if feature in node.features]
        if len(left) < profile.nodes:
            return [f"sbatch.constraint: {len(left)} nodes of {where} have {feature}, {profile.nodes} asked for"]
    for field, noun, asked, has in needs:
        enough = [node for node in left if has(node) >= asked]
        if len(enough) < profile.nodes:
            most = sorted((has(node) for node in left), reverse=True)[profile.nodes - 1]
            detail = f" ({profile.workers} workers with {profile.cpus_per_worker} each)" if field == "cpus_per_worker" else ""
            on = "a node" if profile.nodes == 1 else f"each of {profile.nodes} nodes"
            return [f"{field}: {asked:g} {noun} on {on} asked for{detail}, {where} has {most:g}"]
        left = enough
    return []
