"""Training on several GPUs of one machine: steps a second by the number of GPUs, and whether the networks are those of one.

For a machine with two GPUs or more; says so and ends where there is one. Images are noise. The batch stays the same however many
GPUs share it, so small networks gain little: their step is launched, not computed, and one GPU alone replays it. `--batch` gives
each GPU more to do. In float32 the weights after a few steps are compared with those of one GPU.

    PYTHONPATH=. python benchmarks/ddp_gpu.py --depth 50 --batch 512
"""

import argparse
import sys
from dataclasses import replace

import numpy as np
import torch

from benchmarks.side_by_side import RESULTS, Check, record
from mcdal.models.resnet import ResNet
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool
from mcdal.processes import Processes
from mcdal.registry import load
from mcdal.training import Training, train


def pool_of(n: int = 4000) -> Pool:
    """Noise of 32x32 pixels, ten classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    ids = tuple(f"{i:05d}" for i in range(n))
    parts = [(ids[part], pixels[part], np.arange(n)[part] % 10) for part in (slice(100, None), slice(100))]
    return from_arrays("memory", [str(c) for c in range(10)], parts[0], parts[1])


def trained(
    pool: Pool, network: ResNet, strategy: str, training: Training, processes: Processes
) -> tuple[float, torch.nn.Module]:
    """Steps a second, and the model."""
    labels = {id: pool.truth()[id] for id in sorted(pool.images.ids)[:2000]}
    torch.manual_seed(0)
    model = network.build(10, 3, (32, 32))
    numerics = training.numerics("cuda")
    own = load("strategies", strategy)()
    seconds = train(model, pool, labels, own, training, numerics=numerics, processes=processes).seconds
    return training.steps / seconds, model


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """The largest difference of a weight, over the largest weight of its tensor."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=18)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--strategies", nargs="+", default=["random", "mcdal"])
    parser.add_argument("--out", default=str(RESULTS / "ddp_gpu.json"))
    given = parser.parse_args()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < 2:
        print(f"nothing to measure: this machine has {gpus} GPU, and this needs two or more")
        return 0
    pool, network, checks = pool_of(), ResNet(given.depth), list[Check]()
    base = Training(epochs=1, batch_size=given.batch, unlabeled_batch_size=given.batch)
    counts = [n for n in (1, 2, 4, 8) if n <= gpus and given.batch % n == 0]
    for strategy in given.strategies:
        models = {}
        for count in counts:
            with Processes(count) as processes:
                few = replace(base, processes=count, steps_per_epoch=20, precision="float32", compile=False)
                models[count] = trained(pool, network, strategy, few, processes)[1]
                many = replace(base, processes=count, steps_per_epoch=given.steps)
                trained(pool, network, strategy, replace(many, steps_per_epoch=20), processes)  # warms up
                rate, _ = trained(pool, network, strategy, many, processes)
            name = f"ResNet-{given.depth}, {strategy}, batch {given.batch}, {count} GPUs"
            checks.append(Check(name, rate, None, "at least", unit="steps a second"))
            if count > 1:
                difference = apart(models[1].cpu(), models[count].cpu())
                checks.append(
                    Check(f"{name}: weights after 20 steps off those of one", difference, None, "at most", unit="")
                )
    command = (
        f"PYTHONPATH=. python benchmarks/ddp_gpu.py --depth {given.depth} --batch {given.batch} --steps {given.steps}"
    )
    record(type(RESULTS)(given.out), "Training on several GPUs (wall time)", command, checks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
