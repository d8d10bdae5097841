"""Labels a second that people can give at once: each asks for one image, answers it, and asks again.

In the embedded store and, where MCDAL_TEST_DATABASE names a server, in PostgreSQL, by one process and by two.

    PYTHONPATH=. python benchmarks/labels.py
    MCDAL_TEST_DATABASE=postgresql://user@host/empty PYTHONPATH=. python benchmarks/labels.py
"""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from mcdal.campaign.ledger import Given, Ledger, Question
from mcdal.campaign_tables import campaigns, people
from mcdal.database import Database

CLIENTS = (1, 4, 20)
SECONDS = 6.0
IMAGES = 20_000


def prepare(folder: Path, url: str | None, campaign: str) -> None:
    """A campaign with questions enough, and as many people as there are clients at most."""
    database, now = Database(folder, url=url), datetime.now(UTC)
    with database.write() as connection:
        connection.execute(insert(campaigns).values(campaign_id=campaign, config={}, secret="s", created_at=now))
        there = [{"campaign_id": campaign, "person_id": str(i), "name": str(i), "joined_at": now} for i in range(20)]
        connection.execute(insert(people), there)
    ledger = Ledger(database, campaign)
    ledger.add_classes(["cat", "dog"])
    ledger.ask([Question(f"folder/{i:06d}.jpg", 0, i, "strategy") for i in range(IMAGES)])
    database.close()


def answer(folder: Path, campaign: str, persons: list[int]) -> int:
    """How many answers these people give in SECONDS, each in a thread."""
    database = Database(folder)
    ledger = Ledger(database, campaign)
    until = time.time() + SECONDS

    def work(person: int) -> int:
        count = 0
        while time.time() < until:
            for question in ledger.next(str(person), 1):
                key = f"{person}-{count}-{question.sample_id}"
                (receipt,) = ledger.answer(str(person), [Given(key, question.sample_id, "label", 0, 1.0)])
                assert receipt.status == "recorded"
                count += 1
        return count

    with ThreadPoolExecutor(len(persons)) as pool:
        found = sum(pool.map(work, persons))
    database.close()
    return found


def labels_a_second(folder: Path, url: str | None, clients: int, processes: int) -> float:
    campaign = f"{clients}-{processes}"
    prepare(folder, url, campaign)
    shares = [list(range(clients))[i::processes] for i in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = pool.starmap(answer, [(folder, campaign, share) for share in shares], chunksize=1)
    return sum(found) / SECONDS


def main() -> None:
    stores = [("SQLite", None, 1)]
    if url := os.environ.get("MCDAL_TEST_DATABASE"):
        stores += [("PostgreSQL", url, 1), ("PostgreSQL, two servers", url, 2)]
    for name, where, processes in stores:
        with tempfile.TemporaryDirectory() as folder:
            for clients in CLIENTS:
                if clients >= processes:
                    rate = labels_a_second(Path(folder), where, clients, processes)
                    print(f"{name}: {clients} clients: {rate:.0f} labels a second")


if __name__ == "__main__":
    main()
