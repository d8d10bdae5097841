"""A campaign of a million images: how long until the page is there, and until an image is.

A folder of 1,000,000 files (links to a hundred pictures of 1,024 x 768), a campaign on it with 100,000 questions of which most
are answered, and a real server. Seconds of wall time over HTTP, medians.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/campaign_size.py --work FOLDER
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image

from mcdal.campaign.commands import new
from mcdal.campaign.definition import opened
from mcdal.campaign.door import Door
from mcdal.campaign.ledger import Given, Question
from mcdal.campaign.tell import status
from mcdal.device import resolve
from mcdal.environment import environment
from tests.campaign.annotators import HEADERS, Server

PHOTOS, PART, OPEN = 100, 10_000, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "campaign_size.json")
    given = parser.parse_args()
    photos, folder = given.work / "photos", given.work / "campaign"
    write_photos(photos, given.images)
    seconds: dict[str, float] = {}
    if not (folder / "mcdal.db").exists():
        seconds["campaign new"] = timed(lambda: begin(folder, photos, given.questions))
        ask(folder, given.images, given.questions)
    with opened(folder) as campaign:
        seconds["campaign status"] = timed(lambda: status(campaign))
        link = Door(campaign.ledger, campaign.secret).invite()
    server = Server(folder)
    seconds["server start"] = timed(server.start)
    try:
        seconds |= over_http(server, link)
    finally:
        server.stop()
    about = {
        "command": f"benchmarks/campaign_size.py --images {given.images} --questions {given.questions}",
        "date": date.today().isoformat(), "environment": environment(resolve(torch.device("cpu"))), "seconds": seconds,
    }  # fmt: skip
    given.out.write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(seconds, indent=1))


def write_photos(folder: Path, count: int) -> None:
    """Links, as a million copies would say nothing more."""
    random = np.random.default_rng(0)
    for photo in range(PHOTOS):
        path = folder / f"{photo:03d}" / "000000.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((1_024, 768), Image.Resampling.BICUBIC).save(path, quality=90)
        for i in range(1, count // PHOTOS):
            os.link(path, path.with_name(f"{i:06d}.jpg"))


def begin(folder: Path, photos: Path, questions: int) -> None:
    new(folder, str(photos), "cat,dog,other", questions, start=questions, audit=0.05, scale="small", settings=None)


def ask(folder: Path, images: int, questions: int) -> None:
    """As a trainer would, and people's answers to all but OPEN of them."""
    with opened(folder) as campaign:
        ids = [f"{i % PHOTOS:03d}/{i // PHOTOS:06d}.jpg" for i in range(questions)]
        for first in range(0, questions, PART):
            campaign.ledger.ask([Question(id, 0, first + i, "start") for i, id in enumerate(ids[first : first + PART])])
        door = Door(campaign.ledger, campaign.secret)
        person = door.enter(door.invite(), "Ann").person_id
        for first in range(0, questions - OPEN, PART):
            part = ids[first : first + PART]
            campaign.ledger.answer(person, [Given(f"key {id}", id, "label", i % 3) for i, id in enumerate(part)])


def over_http(server: Server, token: str) -> dict[str, float]:
    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=60) as client:
        client.post(f"/enter/{token}", data={"name": f"Bob {os.urandom(3).hex()}"})
        state: dict[str, object] = {}

        def page() -> None:
            client.get("/").raise_for_status()
            state.update(client.get("/api/state").raise_for_status().json())
            said = client.post(
                "/api/next", json={"count": 1}, headers={"X-CSRF": str(state["csrf"])}
            ).raise_for_status()
            client.get(said.json()["items"][0]["image"]).raise_for_status()

        first = timed(page)
        pages = [timed(page) for _ in range(9)]
        asked = client.post("/api/next", json={"count": 40}, headers={"X-CSRF": str(state["csrf"])}).json()["items"]
        images = [timed(lambda item=item: client.get(item["image"]).raise_for_status()) for item in asked]
        thumbs = [timed(lambda item=item: client.get(item["thumb"]).raise_for_status()) for item in asked]
        answers = [timed(lambda item=item: label(client, state, item["id"])) for item in asked[:20]]
    return {
        "page with its first image, first time": first, "page with its first image": statistics.median(pages),
        "an image": statistics.median(images), "an image, slowest of 40": max(images),
        "a thumbnail": statistics.median(thumbs), "an answer": statistics.median(answers),
    }  # fmt: skip


def label(client: httpx.Client, state: dict[str, object], id: str) -> None:
    answer = {"key": os.urandom(12).hex(), "id": id, "verdict": "label", "value": 1, "seconds": 1.0}
    response = client.post("/api/answers", json={"answers": [answer]}, headers={"X-CSRF": str(state["csrf"])})
    response.raise_for_status()


def timed(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return round(time.monotonic() - begun, 4)


if __name__ == "__main__":
    main()
