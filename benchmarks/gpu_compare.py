"""The paper's Fig. 3 on a GPU, as much of it as fits: `mcdal compare` of the full CIFAR-10 protocol, in pieces.

Works for --minutes, or until Ctrl-C, with --workers runs at once, so that all strategies get equally far; processes share the
device best where CUDA's multi-process service runs (`nvidia-cuda-mps-control -d`). What is worth keeping goes to --keep: the
store, which `mcdal report` reads, and of a run that has finished a round and not begun the next its training state, so that
another machine can go on from there (--from, the folder that --keep was). A round that was under way is trained again there; on
the same machine it goes on in --work. With `--minutes 0` nothing is played: what others play in --work meanwhile is kept.
results/fig3_cifar10.db.xz is the store of what was played so far: unpacked as KEPT/mcdal.db it is continued with `--from KEPT`.

    PYTHONPATH=.:benchmarks python benchmarks/gpu_compare.py --data CIFAR_FOLDER --strategies mcdal,random --minutes 9 \\
        --work FOLDER --keep KEPT
"""

import argparse
import datetime
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gpu_round import reached

from mcdal.command import Command
from mcdal.compare.asked import commands, entries, seeds
from mcdal.errors import McdalError
from mcdal.plan import Plan
from mcdal.store import Store

SECONDS_TO_STOP = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10")
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--strategies", default="mcdal,random", help="the first lends its first round to the others")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--scale", help="small, to try the script itself without a GPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--keep", type=Path, required=True, help="folder for what another machine needs to go on")
    parser.add_argument("--result", type=Path, help="a JSON file for the curves")
    parser.add_argument("--from", dest="before", type=Path, help="what an earlier call kept, on another machine")
    given = parser.parse_args()
    if given.before is not None and not (given.work / "mcdal.db").exists():
        shutil.copytree(given.before, given.work, dirs_exist_ok=True)
    of = Command(given.recipe, given.data, scale=given.scale)
    try:
        plans = [plan for _, plan in commands(of, entries(given.strategies), seeds(given.seeds))]
    except McdalError as error:
        sys.exit(str(error))
    code = compare(given) if given.minutes else 0
    if not (given.work / "mcdal.db").exists():
        sys.exit(code or f"nothing was played in {given.work}")
    keep(plans, given.work, given.keep)
    runs = standing(plans, given.work)
    for run in runs:
        curve = " ".join(
            f"{round['test_accuracy']:.4f}" for round in run["rounds"] if round["test_accuracy"] is not None
        )
        print(f"{run['run']}: {curve}")
    if given.result:
        told = {"command": "python benchmarks/gpu_compare.py", "date": datetime.date.today().isoformat(), "runs": runs}
        given.result.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(code)


def compare(given: argparse.Namespace) -> int:
    """`mcdal compare` until the minutes are over; what is under way then stops at its last checkpoint.

    Gives its exit code, or 0 where it was stopped.
    """
    words = {
        "--strategies": given.strategies, "--seeds": given.seeds, "--data": given.data, "--scale": given.scale,
        "--out": given.work, "--device": given.device, "--workers": given.workers,
    }  # fmt: skip
    options = [str(word) for pair in words.items() if pair[1] is not None for word in pair]
    process = subprocess.Popen([sys.executable, "-m", "mcdal", "compare", given.recipe, *options])
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        return process.wait(60 * given.minutes)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
    return 0


def keep(plans: list[Plan], work: Path, to: Path) -> None:
    """The store, and of each run that waits to choose what its last finished round has learned."""
    to.mkdir(parents=True, exist_ok=True)
    copy = to / "mcdal.db"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(work / "mcdal.db")) as database:
        database.execute("vacuum into ?", [str(copy)])
    store = Store(work, create=False)
    for plan in plans:
        rounds = store.rounds(plan.run_id) if store.run(plan.run_id) is not None else []
        if rounds and rounds[-1].finished_at is not None and len(rounds) < plan.config.protocol.rounds:
            state = Path("runs") / plan.run_id / f"round_{rounds[-1].round:03d}" / "training.pt"
            (to / state).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work / state, to / state)
    store.close()


def standing(plans: list[Plan], work: Path) -> list[dict[str, Any]]:
    """What each run that has begun has reached."""
    store = Store(work, create=False)
    begun = [plan.run_id for plan in plans if store.run(plan.run_id) is not None]
    store.close()
    return [reached(work, run_id) for run_id in begun]


if __name__ == "__main__":
    main()
