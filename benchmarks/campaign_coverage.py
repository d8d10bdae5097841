"""What a campaign tells of itself against the truth: the accuracy's interval, the forecast, the gain over random labels.

Campaigns on Fashion-MNIST with 20 scripted people (5 % of their labels wrong, 10 % of the images skipped) to 2,000 labels. The
true accuracy is that of each round's model on 20,000 images that are in no campaign. The forecast is that of after round 4, of
the accuracy with the whole budget. What a campaign has told is kept in --work, and it is not played again.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/campaign_coverage.py --fashion IDX_FOLDER --work FOLDER
"""

import argparse
import json
import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.campaign_kills import ENCODER, PEOPLE, SKIPPED, WRONG, write_images
from mcdal.artifacts import Artifacts
from mcdal.campaign.commands import new
from mcdal.campaign.definition import Opened, opened
from mcdal.campaign.door import Door
from mcdal.campaign.forecast import forecast
from mcdal.campaign.judged import Curve, curves, interval
from mcdal.campaign.ledger import Given
from mcdal.campaign.outlook import as_json, outlook
from mcdal.campaign.plans import plan_of
from mcdal.campaign.progress import interval as wilson
from mcdal.campaign.trainer import train
from mcdal.classifier import Classifier
from mcdal.device import resolve
from mcdal.environment import environment
from mcdal.pool.idx import FASHION_MNIST, Idx

IMAGES, BUDGET, FRESH, EARLY = 6_000, 2_000, 20_000, 5
SIDE = 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "campaign_coverage.json")
    given = parser.parse_args()
    truth = write_images(given.fashion, given.work / "photos", IMAGES)
    x, y = fresh(given.fashion, given.work / "cache")
    found = []
    for seed in range(given.campaigns):
        told = given.work / f"told_{seed}.json"
        if not told.exists():
            told.write_text(json.dumps(play(given.work / f"campaign_{seed}", given.work / "photos", truth, seed, x, y)))
        found.append(json.loads(told.read_text()))
        print(seed, json.dumps(summary(found)), flush=True)
    about = {
        "command": f"benchmarks/campaign_coverage.py --campaigns {given.campaigns}", "date": date.today().isoformat(),
        "environment": environment(resolve(torch.device("cpu"))), "images": IMAGES, "budget": BUDGET,
    }  # fmt: skip
    given.out.write_text(json.dumps(about | summary(found) | {"campaigns": found}, indent=1) + "\n")


def fresh(fashion: Path, cache: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Images of the training set that are in no campaign, as bytes, and their classes."""
    pool = Idx(fashion, classes=FASHION_MNIST, name="fashion_mnist").open(cache)
    assert pool.targets is not None
    chosen = np.arange(IMAGES, IMAGES + FRESH)
    pictures = np.stack([pool.images.picture(int(i)) for i in chosen])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), pool.targets[chosen]


def play(
    folder: Path, photos: Path, truth: Mapping[str, int], seed: int, x: torch.Tensor, y: np.ndarray
) -> dict[str, Any]:
    new(
        folder, str(photos), ",".join(f"class {i}" for i in range(10)), BUDGET, start=BUDGET // 10, batch=BUDGET // 10,
        strategy="margin", encoder=ENCODER, size=SIDE, audit=0.05, audit_answers=2, control=0.1, double=0.05, guesses=False,
        scale="full", seed=seed, settings=None, near=1.0,
    )  # fmt: skip
    with opened(folder) as campaign:
        draw = random.Random(seed)
        while train(folder, "cpu") == "asks":
            answer(campaign, truth, draw)
        return judged(campaign, x, y)


def answer(campaign: Opened, truth: Mapping[str, int], draw: random.Random) -> None:
    """All people in turn, a few images each, until nothing is open."""
    door, ledger = Door(campaign.ledger, campaign.secret), campaign.ledger
    there = {person.name: person.person_id for person in door.people()}
    team = [there.get(f"person {i}") or door.enter(door.invite(), f"person {i}").person_id for i in range(PEOPLE)]
    while ledger.waits():
        for person in team:
            said = []
            for question in ledger.next(person, 10):
                value: int | None = truth[question.sample_id]
                verdict = "skip" if draw.random() < SKIPPED else "label"
                if verdict == "skip":
                    value = None
                elif draw.random() < WRONG:
                    value = (truth[question.sample_id] + draw.randrange(1, 10)) % 10
                said.append(Given(f"{draw.getrandbits(96):024x}", question.sample_id, verdict, value, 3.0))
            ledger.answer(person, said)


def judged(campaign: Opened, x: torch.Tensor, y: np.ndarray) -> dict[str, Any]:
    """Of each round what the campaign says and what is true; its forecast after round EARLY - 1, and its gain at the end."""
    picked, _, images = curves(campaign)
    told = as_json(outlook(campaign))
    early = Curve(picked.rounds[:EARLY], picked.labels[:EARLY], picked.accuracy[:, :EARLY])
    going = forecast(early)
    assert going is not None
    true = [accuracy(campaign, round, x, y) for round in picked.rounds]
    return {
        "labels": picked.labels.tolist(), "said": picked.accuracy[0].tolist(), "images": images, "true": true,
        "intervals": [wilson(float(a), images) for a in picked.accuracy[0]],
        "forecast": vars(interval(going.at(picked.labels[-1]))), "gain": told["gain"], "random": told["random"],
    }  # fmt: skip


def accuracy(campaign: Opened, round: int, x: torch.Tensor, y: np.ndarray) -> float:
    plan = plan_of(campaign.campaign, campaign.folder)
    artifacts = Artifacts(campaign.folder / "runs" / campaign.run_id)
    weights, inputs = artifacts.read_model(round), artifacts.read_inputs(round)
    assert weights is not None and inputs is not None and plan.config.encoder is not None
    channels, height, width = inputs.shape
    model = plan.config.model.build(len(inputs.classes), channels, (height, width))
    model.load_state_dict(weights)
    whole = Classifier.of(model, inputs, encoder=plan.config.encoder.build(), size=(SIDE, SIDE))
    with torch.inference_mode():
        said = np.concatenate([whole(part).argmax(1).numpy() for part in x.split(4_096)])
    return float((said == y).mean())


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of intervals that hold what is true."""
    rounds = [
        (low <= true <= high, said - true, high - low)
        for each in found
        for (low, high), said, true in zip(each["intervals"], each["said"], each["true"], strict=True)
    ]
    last = [each["intervals"][-1][0] <= each["true"][-1] <= each["intervals"][-1][1] for each in found]
    ahead = [each["forecast"]["low"] <= each["true"][-1] <= each["forecast"]["high"] for each in found]
    gains = [each["gain"] for each in found if each["gain"] is not None]
    curve = np.mean([each["true"] for each in found], axis=0)
    labels = np.mean([each["labels"] for each in found], axis=0)
    return {
        "accuracy, last round: intervals that hold the true one": f"{sum(last)} of {len(last)}",
        "accuracy, all rounds": f"{sum(hit for hit, _, _ in rounds)} of {len(rounds)}",
        "accuracy, mean error in points": round(100 * float(np.mean([off for _, off, _ in rounds])), 2),
        "accuracy, mean width in points": round(100 * float(np.mean([width for *_, width in rounds])), 2),
        "forecast with the whole budget: intervals that hold the true one": f"{sum(ahead)} of {len(ahead)}",
        "forecast, mean error in points": round(
            100 * float(np.mean([each["forecast"]["value"] - each["true"][-1] for each in found])), 2
        ),
        "gain in points, mean and mean interval": [
            round(100 * float(np.mean([gain["points"][end] for gain in gains])), 2) for end in ("value", "low", "high")
        ],
        "gains that are claimed": f"{sum(gain['points']['low'] > 0 for gain in gains)} of {len(gains)}",
        "true accuracy by labels": [[round(float(n)), round(float(a), 4)] for n, a in zip(labels, curve, strict=True)],
    }


if __name__ == "__main__":
    main()
