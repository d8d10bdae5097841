"""A pool seen through a frozen encoder: its images are rows of features, computed once and kept memory-mapped on the disk."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from mcdal.device import Numerics
from mcdal.encoders.base import Built, Encoder
from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.assemble import chunks, digest
from mcdal.pool.base import ArrayImages, Images, LabeledView, Pool, Positions, Quarantined, Source
from mcdal.pool.cache import entry, kept, read_index, write_index

PART = 512
"""Images whose features are kept at once: what a kill loses at most."""
AT_ONCE = 64
"""Images in a forward pass."""
LOOKED_AT = 4
"""Images, evenly spaced, that are encoded again when kept features are opened: they must be the same still."""
SAME = 0.02
"""How far those may lie apart, as a share of the largest feature: other processors round otherwise, other data differ by more."""

Vectors = Float[np.ndarray, "_ e"]


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of each feature over the pool."""

    mean: list[float]
    deviation: list[float]


def open_frozen(source: Source, encoder: Encoder, cache: Path, numerics: Numerics, listen: Listener = nobody) -> Pool:
    """The pool of `source` with features in place of pixels, each shifted and scaled to mean 0 and deviation 1 over the pool.

    They lie in `cache/features-KEY`, where KEY changes with encoder, weights, preprocessing and data: `pool.npy`, `test.npy`
    (float32, as the encoder gave them) and `ids.json`. What a killed process had computed is taken up.
    """
    work = _begin(source, encoder, cache, numerics, listen)
    folder = entry(cache, work.key, work.build, listen)
    shutil.rmtree(work.parts, ignore_errors=True)
    work.check(folder)
    pool, test = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in work.views)
    index = read_index(folder)
    return work.pool_of(pool, test, Spread(index["mean"], index["deviation"]))


def expect_frozen(
    source: Source, encoder: Encoder, cache: Path, numerics: Numerics, listen: Listener = nobody
) -> tuple[Pool, float]:
    """What `open_frozen` would give, and the seconds it needs: features that are not kept yet are 0, and none are kept now."""
    work = _begin(source, encoder, cache, numerics, listen)
    if kept(cache, work.key):
        return open_frozen(source, encoder, cache, numerics, listen), 0.0
    images, positions = work.views["pool"]
    few = positions[:AT_ONCE]
    length = work.encode(images, few).shape[1]  # the first pass is slower than others
    begun = time.monotonic()
    work.encode(images, few)
    seconds = (time.monotonic() - begun) / len(few)
    counts = {name: len(positions) for name, (_, positions) in work.views.items()}
    pool, test = (np.broadcast_to(np.float32(0), (n, length)) for n in counts.values())
    return work.pool_of(pool, test, Spread([0.0] * length, [1.0] * length)), seconds * sum(counts.values())


def _begin(source: Source, encoder: Encoder, cache: Path, numerics: Numerics, listen: Listener) -> "_Encoding":
    built = encoder.build()  # first: what is wrong with it is told before images are read
    built.place(numerics)
    return _Encoding(source.open(cache, listen), encoder.digest(built), built, cache, numerics, listen, source.grows)


@dataclass(frozen=True)
class _Encoding:
    """One pool and one encoder. whole: all test images are encoded, not only those that have a label by now."""

    pool: Pool
    encoder: str
    built: Built
    cache: Path
    numerics: Numerics
    listen: Listener
    whole: bool = False

    @property
    def key(self) -> str:
        ids = digest(self.pool.images.ids, self._test_ids)
        return f"features-{digest(self.pool.fingerprint, ids, self.encoder)[:16]}"

    @property
    def parts(self) -> Path:
        """Where features lie until all are there."""
        return self.cache / f"{self.key}.parts"

    @property
    def views(self) -> dict[str, tuple[Images, Positions]]:
        test = self.pool.test
        return {
            "pool": (self.pool.images, np.arange(len(self.pool))),
            "test": (test.images, np.arange(len(test.images)) if self.whole else test.positions),
        }

    @property
    def _test_ids(self) -> tuple[str, ...]:
        images, positions = self.views["test"]
        return tuple(images.ids[i] for i in positions)

    def encode(self, images: Images, positions: Positions) -> Vectors:
        device = self.numerics.device
        batches = images.batches(chunks(positions, AT_ONCE), device)
        found = torch.cat([self.built.features(x) for x in batches]).cpu().numpy()
        fine = np.isfinite(found).all(axis=1)
        if not fine.all():
            bad = images.ids[positions[int(np.argmin(fine))]]
            raise PoolError(f"the encoder gives a feature of {bad!r} that is not a finite number")
        return found

    def build(self, folder: Path) -> None:
        """Fills the folder from parts, computing those that are not there."""
        self.parts.mkdir(parents=True, exist_ok=True)
        total, done = sum(len(positions) for _, positions in self.views.values()), 0
        for name, (images, positions) in self.views.items():
            for number, some in enumerate(chunks(positions, PART)):
                self.listen("prepare", done=done, total=total, what="encoding images")
                part = self.parts / f"{name}-{number:06d}.npy"
                if not part.exists():
                    _write(part, self.encode(images, some))
                done += len(some)
            _join(sorted(self.parts.glob(f"{name}-*.npy")), len(positions), folder / f"{name}.npy")
        ids = {"pool": tuple(self.pool.images.ids), "test": self._test_ids}
        (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
        spread = _spread(np.load(folder / "pool.npy", mmap_mode="r"))
        write_index(folder, {"encoder": self.encoder, **asdict(spread)})

    def check(self, folder: Path) -> None:
        """PoolError where the kept features are not what the encoder gives of the images today."""
        images, _ = self.views["pool"]
        looked_at = np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(np.int64))
        now, before = self.encode(images, looked_at), np.load(folder / "pool.npy", mmap_mode="r")[looked_at]
        if now.shape != before.shape or np.abs(now - before).max() > SAME * max(np.abs(before).max(), 1e-12):
            raise PoolError(
                f"the features in {folder} are not those that the encoder gives of these images now: an image or a library "
                "has changed; remove that folder to compute them again, and give runs on the old ones another --out"
            )

    def pool_of(self, pool: Vectors, test: Vectors, spread: Spread) -> Pool:
        """The same pool with these features."""
        old, length = self.pool, pool.shape[1]
        images = FeatureImages(pool, old.images, self.views["pool"][1], spread)
        seen = FeatureImages(test, old.test.images, self.views["test"][1], spread)
        labeled = old.test.positions if self.whole else np.arange(len(seen))
        return replace(
            old, images=images, test=LabeledView(seen, labeled, old.test.y), mean=(0.0,) * length,
            std=(1.0,) * length, fingerprint=digest(old.fingerprint, self.encoder), sharded=None,
        )  # fmt: skip


class FeatureImages(Images):
    """Rows of features as images of one pixel, (b, e, 1, 1); to a person they are shown as the images that they are of."""

    def __init__(self, features: Vectors, of: Images, positions: Positions, spread: Spread):
        self.ids = tuple(of.ids[i] for i in positions)
        self.spread = spread
        self.of = of
        self._features, self._positions = features, positions
        self._rows = ArrayImages(self.ids, features[:, None, None, :])
        mean, scale = torch.tensor(spread.mean), 1 / torch.tensor(spread.deviation)
        self._shift, self._scale = (-mean * scale)[:, None, None], scale[:, None, None]

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What turned out to be unusable when features were made of it; these say nothing."""
        return self.of.quarantined

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        shift, scale = self._shift.to(device), self._scale.to(device)
        for x in self._rows.batches(positions, device):
            yield torch.addcmul(shift, x, scale)

    def scaled(self, spread: Spread) -> "FeatureImages":
        """The same features, shifted and scaled by another spread."""
        return FeatureImages(self._features, self.of, self._positions, spread)

    def picture(self, position: int) -> UInt8[np.ndarray, "h w c"]:
        return self.of.picture(int(self._positions[position]))


def _spread(features: Vectors) -> Spread:
    """In float64; a feature that never varies gets a deviation of 1."""
    total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for first in range(0, len(features), PART):
        some = features[first : first + PART].astype(np.float64)
        total += some.sum(axis=0)
        squares += np.square(some).sum(axis=0)
    mean = total / len(features)
    deviation = np.sqrt(np.maximum(squares / len(features) - np.square(mean), 0))
    # Rounding leaves a feature that never varies with a deviation of about 1e-8 of its size.
    deviation = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1.0)
    return Spread(mean.tolist(), deviation.tolist())


def _write(path: Path, features: Vectors) -> None:
    """Whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _join(parts: list[Path], n: int, path: Path) -> None:
    """All parts in one array. The disk holds the features twice until the parts are removed."""
    joined, done = None, 0
    for part in parts:
        some = np.load(part)
        if joined is None:
            joined = np.lib.format.open_memmap(path, "w+", np.float32, (n, some.shape[1]))
        joined[done : done + len(some)] = some
        done += len(some)
    assert joined is not None and done == n
    joined.flush()
