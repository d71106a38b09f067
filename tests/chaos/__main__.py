"""``python -m tests.chaos [--seed N] [--tier quick|full] [--only NAME…]``: the storm that the promises must stand."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.result import Result


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble."""

    function: str
    """``module:name``, imported when it runs: a module that cannot be imported fails its own row only."""
    quick: int
    full: int
    meaning: str
    quick_options: tuple[tuple[str, Any], ...] = ()

    def run(self, seed: int, tier: str) -> Result:
        """Carry it out."""
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(f"tests.chaos.{module}"), name)
        options = dict(self.quick_options) if tier == "quick" else {}
        result: Result = function(seed, self.quick if tier == "quick" else self.full, **options)
        return result


SCENARIOS: dict[str, Scenario] = {
    "storm": Scenario("storm:storm", 12, 200, "SIGKILL of workers at any instant and inside saves: the same bits in the end"),
    "no_tree": Scenario("healthy:no_tree", 1, 4, "the control: without the tree a resume changes the bits"),
    "kills": Scenario("kills:kills", 3, 30, "SIGKILL of a worker or the launcher: nothing stays, the next start goes on"),
    "signals": Scenario("signals:signals", 4, 60, "requests to stop, to any process at any moment: 0 or 75, at most one step lost"),
    "crowd": Scenario("crowd:crowd", 2, 10, "many starts of one run at once: exactly one winner", (("starts", 8),)),
    "payload": Scenario("crowd:payload", 2, 8, "a pickle in the job's store and in a checkpoint never runs"),
    "healthy": Scenario("healthy:healthy", 6, 100, "undisturbed runs: exit code 0, no false alarm"),
    "operations": Scenario(
        "disk:every_operation", 1, 8, "a kill or a full disk at every file operation of a save: nothing acknowledged is lost"
    ),
    "crash_states": Scenario("crash_states:crash_states", 40, 300, "power cuts, and the controls that must lose"),
    "corruption": Scenario("corruption:corruption", 65, 650, "damaged checkpoints: never loaded, the newest good one is used"),
    "naive_kills": Scenario("disk:naive_kills", 1, 1, "the control: a naive write loses an acknowledged checkpoint"),
    "torn_rows": Scenario("disk:torn_rows", 1, 3, "rows of metrics torn at every byte: whole rows only"),
    "hangs": Scenario("hangs:hangs", 3, 20, "hangs: told in time with the right rank and line, restarted, the same bits"),
    "failures": Scenario("failures:failures", 5, 30, "injected failures: the first cause is named"),
    "malformed": Scenario("malformed:malformed", 60, 300, "malformed inputs: the documented exit code, one line, nothing written or lost"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the scenarios in turn; 1 if one failed."""
    chosen = _parse(arguments)
    rows: list[tuple[str, Result, float]] = []
    for name in chosen.only or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].meaning} …", flush=True)
        began = time.monotonic()
        rows.append((name, _carried_out(name, chosen.seed, chosen.tier), time.monotonic() - began))
        for failure in rows[-1][1].failures:
            print(f"  {failure}", flush=True)
    print(f"\n{'scenario':<14}{'asked':>6}{'good':>6}{'seconds':>9}  notes")
    for name, result, seconds in rows:
        print(f"{name:<14}{result.wanted:>6}{result.good:>6}{seconds:>9.1f}  {'' if result.ok else 'FAILED. '}{result.notes}")
    failed = [name for name, result, _ in rows if not result.ok]
    for name in failed:
        print(f"once more: python -m tests.chaos --seed {chosen.seed} --tier {chosen.tier} --only {name}")
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="chooses who is hit, when and how (default 0)")
    parser.add_argument("--tier", choices=("quick", "full"), default="full", help="quick: minutes; full: all that is promised")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    return parser.parse_args(arguments)


def _carried_out(name: str, seed: int, tier: str) -> Result:
    """The result; a scenario that breaks down has failed."""
    try:
        return SCENARIOS[name].run(seed, tier)
    except Exception as fault:
        traceback.print_exc()
        scenario = SCENARIOS[name]
        asked = scenario.quick if tier == "quick" else scenario.full
        return Result(name, asked, 0, [f"{name} broke down: {type(fault).__name__}: {fault}"])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
