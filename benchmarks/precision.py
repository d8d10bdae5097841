"""Training speed on this CPU: float32 or bfloat16, contiguous or channels-last, one thread or two."""

import argparse
import itertools
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import cast

import torch
from torch import nn

from mcdal.device import Numerics, Precision, native_bfloat16, resolve
from mcdal.models.resnet import ResNet

NETWORKS = {"resnet18": (ResNet(), 16), "resnet10_width16": (ResNet(depth=10, width=16), 64)}
CPU = torch.device("cpu")


def seconds_of_a_step(network: str, numerics: Numerics, threads: int) -> float:
    """One SGD step on random 32x32 images after one to warm up."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    architecture, batch = NETWORKS[network]
    model = numerics.place(architecture.build(10, 3, (32, 32)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    x, y = numerics.arrange(torch.randn(batch, 3, 32, 32)), torch.randint(10, (batch,))
    start = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with numerics.autocast():
            loss = nn.functional.cross_entropy(model(x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return time.perf_counter() - start


def measure(
    networks: list[str], precisions: list[str], threads: list[int], repetitions: int, patience: float
) -> list[dict[str, object]]:
    """Images a second of every setting: medians of interleaved repetitions, so that a busy minute touches all alike.

    A setting that takes more than `patience` seconds a step is not repeated.
    """
    settings = list(itertools.product(networks, precisions, (False, True), threads))
    times: dict[tuple[str, str, bool, int], list[float]] = {setting: [] for setting in settings}
    for _ in range(repetitions):
        for setting in settings:
            network, precision, channels_last, count = setting
            if times[setting] and times[setting][0] > patience:
                continue
            numerics = Numerics(CPU, cast(Precision, precision), channels_last, compile=False)
            times[setting].append(seconds_of_a_step(network, numerics, count))
    return [
        {
            "network": network,
            "batch": NETWORKS[network][1],
            "precision": precision,
            "channels_last": channels_last,
            "threads": count,
            "images_per_second": round(NETWORKS[network][1] / median(taken), 1),
            "seconds": [round(second, 4) for second in taken],
        }
        for (network, precision, channels_last, count), taken in times.items()
    ]


def surroundings() -> dict[str, object]:
    """What the numbers depend on."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    auto = resolve(CPU)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git.stdout.strip() if git.returncode == 0 else "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": about.get("model name", platform.processor()),
        "cpu_flags": about.get("flags", about.get("Features", "")).split(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": os.getloadavg(),  # of all programs, these included: above the number of cores, measure again
        "cores": os.cpu_count(),
        "native_bfloat16": native_bfloat16(CPU),
        "auto": {"precision": auto.precision, "channels_last": auto.channels_last, "compile": auto.compile},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="measured steps of each setting")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds a step; a slower setting runs once")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "precision.json")
    arguments = parser.parse_args()
    rows = measure(
        arguments.networks, arguments.precisions, arguments.threads, arguments.repetitions, arguments.patience
    )
    for row in rows:
        layout = "channels-last" if row["channels_last"] else "contiguous"
        print(
            f"{row['network']:18}{row['precision']:10}{layout:15}{row['threads']} threads"
            f"{row['images_per_second']:>9} /s"
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**surroundings(), "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
