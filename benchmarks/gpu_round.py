"""The first round of the full CIFAR-10 protocol on a GPU: accuracy at 10 %, images a second, and where the time went.

Works for a given number of minutes, keeps its state in `--state`, and goes on from there when it is started again. Writes
what it has reached so far as JSON.

    PYTHONPATH=. python benchmarks/gpu_round.py --data CIFAR_FOLDER --minutes 9 --result results/gpu_round.json
"""

import argparse
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.recipes.cifar10 import cifar10
from mcdal.registry import load
from mcdal.store import Store

CHECKPOINT_SECONDS = 60.0


class Watch:
    """Listens to the run: notes the speed of training, and stops it when the time is over."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes
        self._first: tuple[float, int] | None = None
        self.reached: dict[str, Any] = {}

    def tell(self, kind: str, **fields: Any) -> None:
        now = time.monotonic()
        if kind == "round":
            self._first = None
        if kind == "train":
            # The first words come after compilation and the first steps; speed is counted from there.
            self._first = self._first or (now, fields["done"])
            seconds, steps = now - self._first[0], fields["done"] - self._first[1]
            self.reached = {**fields, "steps_a_second": steps / seconds if steps else None}
        if now > self._end:
            raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--strategy", default="mcdal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", default="full", help="small, to try the script itself without a GPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--state", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "gpu_round.json")
    given = parser.parse_args()
    config = cifar10(given.data, given.scale)
    config = replace(
        config,
        strategy=load("strategies", given.strategy)(),
        protocol=replace(config.protocol, rounds=given.rounds),
        checkpoint_seconds=CHECKPOINT_SECONDS,
    )
    plan = Plan(config, given.seed, "cifar10", given.scale, {"protocol.rounds": str(given.rounds)}, given.strategy)
    watch = Watch(given.minutes)
    try:
        run(plan, given.state, listen=watch.tell)
        finished = True
    except KeyboardInterrupt:
        finished = False
    result = {
        "command": "python benchmarks/gpu_round.py",
        "date": datetime.date.today().isoformat(),
        "finished": finished,
    }
    result |= reached(given.state, plan.run_id) | {"training": watch.reached}
    if speed := watch.reached.get("steps_a_second"):
        result["labeled_images_a_second"] = speed * config.training.batch_size
    given.result.parent.mkdir(parents=True, exist_ok=True)
    given.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def reached(state: Path, run_id: str, metric: str = "test/accuracy") -> dict[str, Any]:
    """The rounds recorded so far, and with what they were computed."""
    store = Store(state, create=False)
    metrics = {(m.round, m.name): m.value for m in store.metrics(run_id)}
    rounds = [
        {"labels": r.labeled, metric.replace("/", "_"): metrics.get((r.round, metric)), "seconds": dict(r.seconds)}
        for r in store.rounds(run_id)
    ]
    environment = dict(store.last_environment(run_id) or {})
    environment.pop("host", None)
    store.close()
    return {"run": run_id, "rounds": rounds, "environment": environment}


if __name__ == "__main__":
    main()
