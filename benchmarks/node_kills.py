"""A pass over shards on a Ray cluster of two nodes while nodes, workers and drivers are killed: rows lost, doubled, other picks.

The shards are real CIFAR-10 images, measured by a ResNet-10. Each pass is killed at moments drawn by lot, by SIGKILL: a node with
all its processes, an actor's process, or the driver, which is then started again with the same call; or all three in one pass.
After half of the kills of a node a fresh one joins. Each node has room for one actor, so that a node lost is half of the work.
What the files of each pass hold, row by row, and what is picked from them is compared with a pass in this process alone.

    OMP_NUM_THREADS=1 PYTHONPATH=$PWD python benchmarks/node_kills.py --data DIR
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.node_kills_cluster import TwoNodes, alive
from benchmarks.node_kills_judged import KINDS, checks_of, compared
from benchmarks.node_kills_pass import Watched, measured, picks_of
from benchmarks.side_by_side import RESULTS, record
from mcdal.errors import ConfigError
from mcdal.events import nobody

ROOT = Path(__file__).parents[1]
LONGEST = 600.0
"""Seconds after which a pass counts as hanging."""
LAST = 4
"""Shards before the end of a pass at which no kill is drawn any more."""
EARLY = 3
"""A node joins in after a kill in the first third: Ray takes some 15 s to count a node as lost, and 5 s to start an actor."""


@dataclass(frozen=True)
class Kill:
    """kind: what is killed. after: finished shards. seconds: to wait then. joins: seconds until a fresh node does, if any."""

    kind: str
    after: int
    seconds: float
    joins: float | None = None


def plans(
    counts: Mapping[str, int], mixed: int, undisturbed: int, shards: int, draw: random.Random
) -> list[list[Kill]]:
    """The kills of each pass, in an order drawn by lot: `counts` passes with one, `mixed` with one of each kind."""
    several = [[kind] for kind in KINDS for _ in range(counts[kind])]
    several += [draw.sample(KINDS, len(KINDS)) for _ in range(mixed)]
    found = [plan_of(kinds, number % 2 == 0, shards, draw) for number, kinds in enumerate(several)]
    draw.shuffle(found)
    for i in range(undisturbed):  # from the first to the last
        found.insert(i * (len(found) + 1) // max(1, undisturbed - 1), [])
    return found


def plan_of(kinds: Sequence[str], joins: bool, shards: int, draw: random.Random) -> list[Kill]:
    """joins: whether a fresh node joins after a node was killed."""
    last = shards // EARLY if joins and "node" in kinds else shards - LAST
    moments = sorted(draw.sample(range(last), len(kinds)))
    return [
        Kill(kind, after, draw.uniform(0, 1), draw.uniform(0, 2) if joins and kind == "node" else None)
        for kind, after in zip(kinds, moments, strict=True)
    ]


@dataclass
class Pass:
    """One pass into a folder, by a driver that may be killed and started again."""

    rows: Watched
    folder: Path
    cluster: TwoNodes

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.rows = Watched(self.rows.path, self.rows.images, self.rows.size, str(self.folder / "log.txt"))
        self.drivers = 0
        self.start()

    def start(self) -> None:
        """The same call each time."""
        self.drivers += 1
        self.since = len(self.opened())
        rows = self.rows
        arguments = [rows.path, str(rows.images), str(rows.size), str(self.folder), self.cluster.address]
        command = [sys.executable, "-m", "benchmarks.node_kills_pass", *arguments]
        with self._out("stdout").open("wb") as out, self._out("stderr").open("wb") as errors:
            self.driver = subprocess.Popen(command, stdout=out, stderr=errors, cwd=ROOT)

    def opened(self) -> list[tuple[str, int, int]]:
        """Shard, process and its parent of each opening."""
        log = self.folder / "log.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(name, int(pid), int(parent)) for name, pid, parent in map(str.split, lines)]

    def finished(self) -> set[str]:
        return {path.stem for path in (self.folder / "pass").glob("*.parquet")}

    def in_hand(self) -> dict[int, tuple[str, int]]:
        """The shard that each actor of this driver has, and the raylet of its node, by process."""
        last, done = {pid: (name, parent) for name, pid, parent in self.opened()[self.since :]}, self.finished()
        return {pid: of for pid, of in last.items() if of[0] not in done and alive(pid)}

    def over(self) -> bool:
        """RuntimeError where the driver ended with an error."""
        if self.driver.poll() not in (None, 0):
            raise RuntimeError(
                f"the driver ended with {self.driver.returncode}: {self._out('stderr').read_text()[-3000:]}"
            )
        return self.driver.returncode == 0

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out("stdout").read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self.driver.kill()
        self.driver.wait()

    def _out(self, what: str) -> Path:
        return self.folder / f"driver-{self.drivers}.{what}"


def played(going: Pass, plan: Sequence[Kill], draw: random.Random) -> list[dict[str, Any]] | None:
    """What was killed, and at how many finished shards. None where the pass was over before all of it was."""
    told = []
    for kill in plan:
        wait_until(lambda kill=kill: going.over() or (len(going.finished()) >= kill.after and bool(going.in_hand())))
        time.sleep(kill.seconds)
        while not (victims := going.in_hand()):  # all of them are between two shards
            if going.over():
                return None
            time.sleep(0.02)
        before = len(going.finished())
        lost = killed(going, kill, victims, draw)
        left = len(going.rows.shards) - len(going.finished())
        if not left:
            return None
        told.append(asdict(kill) | {"finished_shards": before, "unfinished_shards": left, "in_hand": lost})
        if kill.kind == "driver":
            time.sleep(draw.uniform(0, 2))
            going.start()
        if kill.joins is not None:
            time.sleep(kill.joins)
            going.cluster.add()
    wait_until(going.over)
    return told


def killed(going: Pass, kill: Kill, victims: Mapping[int, tuple[str, int]], draw: random.Random) -> int:
    """By SIGKILL. Gives how many shards it had in hand."""
    if kill.kind == "driver":
        going.stop()
        assert going.driver.returncode == -signal.SIGKILL
        return len(victims)
    if kill.kind == "node":
        raylet = going.cluster.kill()
        return sum(parent == raylet for _, parent in victims.values())
    victim = draw.choice(sorted(victims))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not alive(victim), 10)
    return 1


def wait_until(what: Callable[[], bool], seconds: float = LONGEST) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError(f"nothing came of it in {seconds:.0f} s: does the pass hang?")
        time.sleep(0.02)


def one(
    rows: Watched, own: Path, plan: Sequence[Kill], cluster: TwoNodes, picks: Any, draw: random.Random
) -> dict[str, Any]:
    """A pass with these kills, again until all of them came before its end."""
    for attempt in range(5):
        cluster.whole()
        begun = time.monotonic()
        going = Pass(rows, Path(tempfile.mkdtemp(dir=own)) / "of", cluster)
        try:
            told = played(going, plan, draw)
        finally:
            going.stop()
        if told is None:
            continue
        end, opened = going.said()[-1], going.opened()
        return {
            "kills": told,
            "repeated": attempt,
            "wall_s": time.monotonic() - begun,
            "openings": len(opened),
            "shards": len(rows.shards),
            "by_nodes_that_joined": sum(parent in cluster.joined for _, _, parent in opened),
            "resumed_at_the_end": end["resumed"],
            "picks_equal": {name: end["picks"][name] == picks[name] for name in picks},
            **compared(going.folder / "pass", own / "plain"),
        }
    raise RuntimeError("the pass is over before it can be killed: give more --images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with CIFAR-10 as Parquet")
    parser.add_argument("--images", type=int, default=15_000)
    parser.add_argument("--shard", type=int, default=500)
    parser.add_argument("--node", type=int, default=6, help="passes in which a node is killed")
    parser.add_argument("--worker", type=int, default=6)
    parser.add_argument("--driver", type=int, default=4)
    parser.add_argument("--mixed", type=int, default=2, help="passes in which one of each is")
    parser.add_argument("--undisturbed", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "node_kills.json")
    given = parser.parse_args()
    if given.undisturbed < 1:
        raise ConfigError("--undisturbed 0: the others are compared with at least one")
    torch.set_num_threads(1)
    passes = []
    counts = {kind: getattr(given, kind) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder, TwoNodes() as cluster:
        own, draw = Path(folder), random.Random(given.seed)
        path = str(next(iter(sorted(given.data.glob("train*.parquet")))))
        rows = Watched(path, given.images, given.shard, str(own / "plain.txt"))
        picks = picks_of(measured(rows, own / "plain", None, nobody))
        for plan in plans(counts, given.mixed, given.undisturbed, len(rows.shards), draw):
            passes.append(one(rows, own, plan, cluster, picks, draw))
            print(json.dumps(passes[-1]), flush=True)
    command = (
        f"python benchmarks/node_kills.py --data DIR --images {given.images} --shard {given.shard} --node {given.node} "
        f"--worker {given.worker} --driver {given.driver} --mixed {given.mixed} --undisturbed {given.undisturbed} "
        f"--seed {given.seed}"
    )
    checks = checks_of(passes, {kind: count + given.mixed for kind, count in counts.items()})
    record(
        given.out, "A pass on a Ray cluster under kills", command, checks, unit="counts; wall seconds", passes=passes
    )


if __name__ == "__main__":
    main()
