"""DRN-D-22 on CamVid at full size on a GPU: Random and MCDAL from 10 % to 40 % of the labels, one seed.

The recipe as it is, but for its 150 epochs a round where that would take longer than --budget minutes for both: then as many as
fit, by the speed that is measured first. Works for --minutes, keeps its state in --work, and goes on from there when it is
started again. Writes what it has reached so far as JSON.

    PYTHONPATH=.:benchmarks python benchmarks/scene_gpu.py --data CAMVID --minutes 9 --budget 12 --work FOLDER
"""

import argparse
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_round import Watch, reached

from mcdal.config import Config
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.recipes.camvid import camvid
from mcdal.registry import load
from mcdal.training import train

STRATEGIES = ("random", "mcdal")
PROBED_STEPS = 40
SECONDS_A_ROUND = 6.0
"""For what is not training: opening, measuring, testing, writing a model of 63 MB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid in SegNet's layout, or a tar file of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", default="full", help="small, to try the script itself without a GPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument("--budget", type=float, default=12.0, help="minutes of all calls together, for both strategies")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "scene_gpu.json")
    given = parser.parse_args()
    watch = Watch(given.minutes)
    config = camvid(given.data, given.scale)
    decided = given.work / "speed.json"
    if not decided.is_file():
        given.work.mkdir(parents=True, exist_ok=True)
        speed = {name: steps_a_second(config, name, given.work / "cache", given.device) for name in STRATEGIES}
        decided.write_text(json.dumps(speed | {"epochs": epochs(config, speed, given.budget)}))
    speed = json.loads(decided.read_text())
    config = replace(config, training=replace(config.training, epochs=int(speed["epochs"])), checkpoint_seconds=60.0)
    found: dict[str, Any] = {
        "command": "python benchmarks/scene_gpu.py",
        "date": datetime.date.today().isoformat(),
        "epochs a round": config.training.epochs,
        "steps a round": config.training.steps,
        "steps a second": {name: round(speed[name], 2) for name in STRATEGIES},
        "runs": {},
    }
    for name in STRATEGIES:
        chosen = replace(config, strategy=load("strategies", name)())
        plan = Plan(chosen, given.seed, "camvid", given.scale, {"training.epochs": str(config.training.epochs)}, name)
        try:
            run(plan, given.work, device=given.device, listen=watch.tell)
            finished = True
        except KeyboardInterrupt:
            finished = False
        found["runs"][name] = {"finished": finished, **reached(given.work, plan.run_id, "test/mean_iou")}
        if not finished:
            break
    if given.device == "cuda":
        found["peak GiB on the device, of this call"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    given.result.parent.mkdir(parents=True, exist_ok=True)
    given.result.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def steps_a_second(config: Config, strategy: str, cache: Path, device: str) -> float:
    """Of training, without what the first steps take: compilation and recording."""
    numerics = config.training.numerics(device)
    pool = config.open(cache, numerics)
    labels = dict(list(pool.truth().items())[:145])
    training = replace(config.training, epochs=3, steps_per_epoch=PROBED_STEPS)
    words: list[tuple[float, int]] = []

    def listen(kind: str, **said: Any) -> None:
        if kind == "train":
            words.append((time.monotonic(), said["done"]))

    train(
        config.model.build(len(pool.classes), *pool.shape), pool, labels, load("strategies", strategy)(), training,
        numerics=numerics, listen=listen,
    )  # fmt: skip
    (first, before), (last, after) = next(w for w in words if w[1] > PROBED_STEPS), words[-1]
    return (after - before) / (last - first)


def epochs(config: Config, speed: dict[str, float], minutes: float) -> int:
    """As many epochs a round as fit, at most those of the recipe."""
    rounds = config.protocol.rounds
    seconds = 60 * minutes - len(STRATEGIES) * rounds * SECONDS_A_ROUND
    an_epoch = rounds * config.training.steps_per_epoch * sum(1 / speed[name] for name in STRATEGIES)
    return max(1, min(config.training.epochs, int(seconds / an_epoch)))


if __name__ == "__main__":
    main()
