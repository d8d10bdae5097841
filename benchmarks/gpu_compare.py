"""The paper's Fig. 3 on a GPU, as much of it as fits: runs of the full CIFAR-10 protocol one after the other, in pieces.

Works for --minutes, seed by seed, and stops where it is. What is worth keeping goes to --keep: the store, which `mcdal report`
reads, and of a run that is not finished the training state of its last finished round, so that another machine can go on from
there (--from, the folder that --keep was). A round that was under way is trained again there; on the same machine it goes on in
--work.

    PYTHONPATH=.:benchmarks python benchmarks/gpu_compare.py --data CIFAR_FOLDER --strategies random,mcdal --minutes 9 \\
        --work FOLDER --keep KEPT
"""

import argparse
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from gpu_round import CHECKPOINT_SECONDS, Watch

from mcdal.command import Command
from mcdal.compare.asked import commands, entries, seeds
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10")
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--strategies", default="random,mcdal")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--scale", default="full", help="small, to try the script itself without a GPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--keep", type=Path, required=True, help="folder for what another machine needs to go on")
    parser.add_argument("--from", dest="before", type=Path, help="what an earlier call kept, on another machine")
    given = parser.parse_args()
    watch = Watch(given.minutes)
    if given.before is not None and not (given.work / "mcdal.db").exists():
        shutil.copytree(given.before, given.work, dirs_exist_ok=True)
    of = Command(given.recipe, given.data, scale=None if given.scale == "full" else given.scale)
    plans = [plan for _, plan in commands(of, entries(given.strategies), seeds(given.seeds))]
    try:
        for plan in plans:
            often = replace(plan, config=replace(plan.config, checkpoint_seconds=CHECKPOINT_SECONDS))
            run(often, given.work, device=given.device, listen=watch.tell)
    except KeyboardInterrupt:
        pass
    keep(plans, given.work, given.keep)
    for line in standing(plans, given.work):
        print(line)


def keep(plans: list[Plan], work: Path, to: Path) -> None:
    """The store, and of each run that is not finished the state of its last finished round."""
    to.mkdir(parents=True, exist_ok=True)
    copy = to / "mcdal.db"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(work / "mcdal.db")) as database:
        database.execute("vacuum into ?", [str(copy)])
    store = Store(work, create=False)
    for plan in plans:
        finished = [r.round for r in store.rounds(plan.run_id) if r.finished_at is not None]
        if finished and len(finished) < plan.config.protocol.rounds:
            state = Path("runs") / plan.run_id / f"round_{finished[-1]:03d}" / "training.pt"
            (to / state).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work / state, to / state)
    store.close()


def standing(plans: list[Plan], work: Path) -> list[str]:
    """A line a run: its curve so far."""
    store = Store(work, create=False)
    lines = []
    for plan in plans:
        curve = [f"{m.value:.4f}" for m in store.metrics(plan.run_id) if m.name == "test/accuracy"]
        lines.append(f"{plan.run_id}: {len(curve)}/{plan.config.protocol.rounds} {' '.join(curve)}")
    store.close()
    return lines


if __name__ == "__main__":
    main()
