"""A learning curve that a refactor must reproduce.

In float64, where the last bit (the only one in which processors and versions of torch differ) decides neither a pick nor a
test image. After an intended change: `.venv/bin/python tests/test_golden.py`, and say why in the CHANGELOG.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from mcdal.config import Protocol
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.recipes.digits import digits
from mcdal.registry import load
from mcdal.store import Store

GOLDEN = Path(__file__).parent / "golden" / "digits.json"
STRATEGIES = ("random", "margin", "mcdal")


def curve(out, strategy):
    """Picks by round, accuracy exactly, and losses to 6 digits."""
    config = digits()
    training = replace(config.training, precision="float64", epochs=4, steps_per_epoch=10, batch_size=32)
    config = replace(
        config,
        training=training,
        protocol=Protocol(start=30, budget=10, rounds=3),
        strategy=load("strategies", strategy)(),
    )
    run_id = run(Plan(config, recipe="golden", strategy=strategy), out, device="cpu")
    store = Store(out)
    metrics = {(m.round, m.name): m.value for m in store.metrics(run_id)}
    return [
        {
            "picks": list(store.asked(run_id, round)),
            "accuracy": metrics[round, "test/accuracy"],
            "test_loss": float(f"{metrics[round, 'test/loss']:.6g}"),
            "train_loss": float(f"{metrics[round, 'train/loss']:.6g}"),
        }
        for round in range(3)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_golden_curve(tmp_path, strategy):
    assert curve(tmp_path, strategy) == json.loads(GOLDEN.read_text())[strategy]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        curves = {strategy: curve(Path(out), strategy) for strategy in STRATEGIES}
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n")
    sys.stdout.write(f"{GOLDEN} written\n")
