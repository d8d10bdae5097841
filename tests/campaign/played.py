"""A campaign on photographs, played to its end: JPEG and PNG of many sizes, one turned by EXIF, one in grey, two of one name."""

import numpy as np
from PIL import Image

from mcdal.campaign.definition import opened
from mcdal.campaign.trainer import train
from mcdal.pool.digits import Digits
from tests.campaign.conftest import begin
from tests.campaign.test_campaign import answer_all

TURNED, GREY, CLASSES = "a/turned.jpg", "b/grey.png", tuple(f"digit {i}" for i in range(10))


def photographs(root, cache, count=160):
    """The files below `root`, and what they show by id."""
    pool, draw, truth = Digits().open(cache), np.random.default_rng(0), {}
    for i in range(count):
        id = {0: TURNED, 1: GREY}.get(i, f"{'ab'[i % 2]}/{i // 2:03d}.{'jpg' if i % 4 < 2 else 'png'}")
        (root / id).parent.mkdir(parents=True, exist_ok=True)
        pixels = pool.images.pixels[i].squeeze()[..., None] * (draw.random(3) * 0.5 + 0.5)
        image = Image.fromarray(pixels.astype(np.uint8)).resize((40 + i % 50, 30 + i % 70), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        if id == TURNED:
            exif[0x0112] = 6
        (image.convert("L") if id == GREY else image).save(root / id, exif=exif)
        truth[id] = int(pool.targets[i])
    return truth


def play(folder, images, truth, **changes):
    """Begins and plays; the campaign has 30 audit labels."""
    given = {"classes": ",".join(CLASSES), "audit": 30.0, "size": 16, "budget": 60, "start": 40, "batch": 20, **changes}
    begin(folder, images, **given)
    with opened(folder) as campaign:
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth)
