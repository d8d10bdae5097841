"""A folder of images as people have it, and a campaign on it."""

import pytest
from PIL import Image

from mcdal.campaign.commands import new
from mcdal.campaign.door import Door
from mcdal.pool.digits import Digits

DIGITS = ",".join(map(str, range(10)))
QUICK = ["training.epochs=2", "training.steps_per_epoch=10"]


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """200 digits as PNG files in two folders, and what they show by id."""
    root = tmp_path_factory.mktemp("photos")
    pool = Digits().open(tmp_path_factory.mktemp("cache"))
    truth = {}
    for i in range(200):
        id = f"{'ab'[i % 2]}/{i:03d}.png"
        (root / id).parent.mkdir(exist_ok=True)
        Image.fromarray(pool.images.pixels[i].squeeze()).save(root / id)
        truth[id] = int(pool.targets[i])
    return root, truth


def begin(folder, images, **changes):
    """`mcdal campaign new`, small enough that a round takes a second."""
    given = {
        "classes": DIGITS, "budget": 40, "start": 20, "batch": 10, "audit": 15.0, "control": 0.2, "double": 0.1,
        "guesses": True, "strategy": "margin", "encoder": None, "weights": None, "scale": "small", "size": 8, "seed": 0,
        "settings": QUICK, "near": 1.0, "audit_answers": 1,
    }  # fmt: skip
    new(folder, str(images), **{**given, **changes})


def join(campaign, name):
    """The id of the person of this name, who comes in where they have not."""
    door = Door(campaign.ledger, campaign.secret)
    there = {person.name: person for person in door.people()}
    return (there.get(name) or door.enter(door.invite(), name)).person_id
