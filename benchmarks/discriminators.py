"""What the discriminators of VAAL and SRAAL have learned: to tell labeled images, or to tell kinds of image?

The start set is drawn at random, so nothing true tells it from the rest: a discriminator that ranks labeled below unlabeled
images (area under the ROC curve above .5) has learned its labeled images by heart. The share of the scores' variance that lies
between the classes says how far the score is one of the kind of image. Fashion-MNIST as in areas.py, its first round.

    OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python benchmarks/discriminators.py --data IDX_FOLDER
"""

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import recipes
import torch
from areas import NARROW
from sklearn.metrics import roc_auc_score

import mcdal
from mcdal.config import Config
from mcdal.environment import environment
from mcdal.selection import at_random
from mcdal.settings import override


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for the cache")
    given = parser.parse_args()
    config = recipes.fashion(given.data)
    pool = config.source.open(given.work / "cache")
    found = {name: [one(name, config, pool, seed) for seed in range(given.seeds)] for name in NARROW}
    result = {
        "command": f"benchmarks/discriminators.py --data IDX_FOLDER --seeds {given.seeds}",
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "environment": {k: v for k, v in environment(config.training.numerics("cpu")).items() if k != "host"},
        "strategies": found,
    }
    path = Path(__file__).parent / "results" / "discriminators.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


def one(name: str, config: Config, pool: mcdal.Pool, seed: int) -> dict[str, Any]:
    config = override(config, {"strategy": name} | dict(NARROW[name]))
    truth, numerics = pool.truth(), config.training.numerics("cpu")
    labels = {id: truth[id] for id in at_random(pool.images.ids, int(config.protocol.start), seed).ids}
    torch.manual_seed(seed)
    model = config.model.build(len(pool.classes), *pool.shape)
    mcdal.train(model, pool, labels, config.strategy, config.training, numerics=numerics, seed=seed)
    rows = mcdal.measure(model, pool, labels, config.strategy, numerics=numerics)
    assert rows.score is not None
    unlabeled, score = ~rows.labeled, rows.score[~rows.labeled]
    y = np.array([truth[id] for id in rows.ids])[unlabeled]
    means = np.array([score[y == c].mean() for c in range(len(pool.classes))])
    between = ((means[y] - score.mean()) ** 2).sum() / ((score - score.mean()) ** 2).sum()
    picks = mcdal.select(config.strategy, rows, 100)
    print(name, seed, round(float(roc_auc_score(unlabeled, rows.score)), 3), round(float(between), 3), flush=True)
    return {
        "auc_unlabeled_over_labeled": round(float(roc_auc_score(unlabeled, rows.score)), 3),
        "variance_between_classes": round(float(between), 3),
        "classes_of_100_picks": np.bincount([truth[id] for id in picks.ids], minlength=len(pool.classes)).tolist(),
    }


if __name__ == "__main__":
    main()
