"""A campaign with 20 people while server, trainer, or both are killed 50 times: answers lost, answers doubled.

Fashion-MNIST as a folder of PNG files, scripted people over HTTP (5 % of their labels wrong, 10 % of the images skipped), until
2,000 labels are given. Everything that the server acknowledged is looked for in the store when it is over.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/campaign_kills.py --fashion IDX_FOLDER --work FOLDER
"""

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sqlalchemy import select

from mcdal.campaign.commands import new
from mcdal.campaign.definition import opened
from mcdal.campaign.progress import PICKED, accuracy, state
from mcdal.campaign_tables import answers, questions, standing
from mcdal.device import resolve
from mcdal.environment import environment
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.store import Store
from tests.campaign.annotators import Annotator, Server

PEOPLE, WRONG, SKIPPED = 20, 0.05, 0.1
KINDS = ("server", "trainer", "both")
ENCODER = f"{Path(__file__).with_name('campaign_pixels.py')}:Pixels14"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--budget", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "campaign_kills.json")
    given = parser.parse_args()
    truth = write_images(given.fashion, given.work / "photos", given.images)
    new(
        given.work / "campaign", str(given.work / "photos"), ",".join(f"class {i}" for i in range(10)), given.budget,
        start=given.budget // 10, batch=given.budget // 10, strategy="margin", encoder=ENCODER, size=28, audit=0.05,
        audit_answers=2, control=0.1, double=0.05, guesses=False, scale="full", seed=0, settings=None, near=1.0,
    )  # fmt: skip
    begun = time.monotonic()
    team, kills = play(given.work / "campaign", truth, given.kills)
    found = judged(given.work / "campaign", truth, team) | {"kills": kills, "seconds": round(time.monotonic() - begun)}
    command = f"benchmarks/campaign_kills.py --images {given.images} --budget {given.budget} --kills {given.kills}"
    about = {
        "command": command,
        "date": date.today().isoformat(),
        "environment": environment(resolve(torch.device("cpu"))),
    }
    given.out.write_text(json.dumps(about | found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def write_images(fashion: Path, folder: Path, count: int) -> dict[str, int]:
    """The first images of the training set as PNG files, in ten folders; the true class by id."""
    pool = Idx(fashion, classes=FASHION_MNIST, name="fashion_mnist").open(folder.parent / "cache")
    assert pool.targets is not None
    truth = {}
    for i in range(count):
        id = f"{i % 10}/{i:05d}.png"
        (folder / id).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pool.images.picture(i).squeeze()).save(folder / id)
        truth[id] = int(pool.targets[i])
    return truth


def play(folder: Path, truth: Mapping[str, int], kills: int) -> tuple[list[Annotator], dict[str, int]]:
    """Until the campaign is finished; gives the people with what was acknowledged to each, and kills by what was killed."""
    server = Server(folder)
    server.start()
    over = threading.Event()
    done: Counter[str] = Counter()
    try:
        link = invited(server)
        team = [Annotator(server, link, f"person {i}", truth, 10, WRONG, SKIPPED, i) for i in range(PEOPLE)]
        for person in team:
            person.enter()
        threads = [threading.Thread(target=person.work, args=(over.is_set, 0.3)) for person in team]
        for thread in threads:
            thread.start()
        draw = random.Random(0)
        while any(thread.is_alive() for thread in threads) and not finished(folder):
            time.sleep(draw.uniform(0.5, 5.0))
            if sum(done.values()) < kills:
                kind = KINDS[sum(done.values()) % 3]
                kill(server, folder, kind)
                done[kind] += 1
                print(f"{sum(done.values())} kills", flush=True)
        for thread in threads:
            thread.join(600)
        assert not any(thread.is_alive() for thread in threads), "the campaign does not come to its end"
    finally:
        over.set()
        server.stop()
    return team, dict(done)


def finished(folder: Path) -> bool:
    with opened(folder, create=False) as campaign:
        return state(campaign) == "finished"


def invited(server: Server) -> str:
    command = [sys.executable, "-m", "mcdal", "campaign", "invite", str(server.folder), "--url", server.url]
    told = subprocess.run([*command, "--uses", str(PEOPLE)], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def kill(server: Server, folder: Path, kind: str) -> None:
    """By SIGKILL. A trainer that is not at work cannot be killed; the server then is."""
    if kind != "server":
        gone = subprocess.run(["pkill", "-9", "-f", f"campaign train {folder}"], check=False).returncode == 0
        if kind == "trainer" and gone:
            return
    server.kill()
    server.start()


def judged(folder: Path, truth: Mapping[str, int], team: list[Annotator]) -> dict[str, Any]:
    """What the store holds against what was acknowledged, and the accuracy against the true one of the audit."""
    with opened(folder, create=False) as campaign:
        with campaign.database.read() as connection:
            kept = connection.execute(
                select(answers.c.key, answers.c.sample_id, answers.c.verdict, answers.c.value)
            ).all()
            asked = connection.execute(select(questions)).all()
            opinions = Counter(connection.execute(select(standing.c.sample_id, standing.c.person_id)).all())
        labels, reached = campaign.ledger.progress(arms=PICKED).labels, accuracy(campaign)
        store = Store(folder, create=False)
        learned = store.labels(campaign.run_id)
        store.close()
    by_key = {key: tuple(rest) for key, *rest in kept}
    said = {key: what for person in team for key, what in person.acknowledged.items()}
    closed = {q.sample_id: q.value for q in asked if q.verdict == "label"}
    pool = {q.sample_id for q in asked if q.arm != "audit"}
    return {
        "people": len(team), "answers": len(kept), "acknowledged": len(said), "labels": labels,
        "lost": sum(by_key.get(key) != what for key, what in said.items()),
        "doubled": len(kept) - len(by_key) + sum(n - 1 for n in opinions.values()),
        "refused": sum(len(person.refused) for person in team),
        "learned otherwise than people said": sum(learned.get(id) != v for id, v in closed.items() if id in pool),
        "audit images learned from": len({q.sample_id for q in asked if q.arm == "audit"} & set(learned)),
        "wrong labels": sum(truth[id] != v for id, v in closed.items()) / len(closed),
        "accuracy": None if reached is None else vars(reached),
    }  # fmt: skip


if __name__ == "__main__":
    main()
