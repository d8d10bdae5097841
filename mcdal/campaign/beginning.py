"""How a campaign begins: which images there are, what may be wrong with them, and what whoever begins it should know."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np

from mcdal.campaign.definition import Campaign
from mcdal.campaign.draws import audit_bound, shards_bound
from mcdal.campaign.images import list_images
from mcdal.campaign.shards import ADVICE, shards_of
from mcdal.device import choose_device
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.groups import read_costs, read_groups
from mcdal.pool.streaming.index import Index, Indexed
from mcdal.pool.streaming.kind import Kind
from mcdal.pool.streaming.kinds import kind_in
from mcdal.pool.streaming.listing import Terms
from mcdal.pool.streaming.source import Shards
from mcdal.pool.streaming.storage import Storage

MANY = 1_000_000
"""Images from which on it is told what an encoder keeps of each."""


@dataclass(frozen=True)
class Asked:
    """What was said of the images. images: a folder, a file or a URL. kind: of the shards, if there must be some."""

    images: str
    kind: str | None = None
    image_column: str | None = None
    id_column: str | None = None

    @property
    def local(self) -> Path | None:
        """Where they are on this machine, if they are."""
        path = self.images.removeprefix("file://")
        return None if "://" in path else Path(path).resolve()


class Stock(ABC):
    """The images that there are. kind: of the shards that they lie in; None of files in a folder."""

    kind: Kind | None

    @property
    @abstractmethod
    def ids(self) -> Sequence[str]: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def audit_bound(self, seed: int, count: int) -> float:
        """Below which exactly `count` of the numbers lie that are drawn for them."""


@dataclass(frozen=True)
class FolderStock(Stock):
    """Files, as they were found."""

    found: Sequence[str]
    kind: Kind | None = None

    @property
    def ids(self) -> Sequence[str]:
        return self.found

    def __len__(self) -> int:
        return len(self.found)

    def audit_bound(self, seed: int, count: int) -> float:
        return audit_bound(seed, list(self.found), count)


@dataclass(frozen=True)
class ShardStock(Stock):
    """Images in shards, as they were listed."""

    index: Index
    shards: Sequence[Indexed]
    kind: Kind | None

    @property
    def ids(self) -> Sequence[str]:
        return [id for shard in self.shards for id in self.index.read(shard, ["sample_id"]).ids.to_pylist()]

    def __len__(self) -> int:
        return sum(shard.samples for shard in self.shards)

    def audit_bound(self, seed: int, count: int) -> float:
        found = [self.index.read(shard, ["hash"]).hashes for shard in self.shards]
        return shards_bound(np.concatenate(found), seed, count)


def stock_of(asked: Asked, folder: Path, listen: Listener = nobody) -> Stock:
    """The images for a campaign in this folder.

    Shards are what lies at a URL or in one file, in a folder that holds shards and no image files, and what a `kind` is given of.
    PoolError where there is none; CampaignError where what the campaign writes would become its images.
    """
    where = asked.local
    if where is not None and folder.resolve().is_relative_to(where):
        raise CampaignError(
            f"{folder} lies within {asked.images}: what a campaign writes would become its images; give another folder"
        )
    if asked.kind is None and where is not None and not where.is_file():
        files = list_images(where, folder)
        if files or not _holds_shards(where):
            if asked.image_column is not None or asked.id_column is not None:
                raise CampaignError(f"--image-column and --id-column are for shards, and {where} holds image files")
            return FolderStock([file.id for file in files])
    kind = _kind(asked)
    shards = Shards(
        asked.images if where is None else str(where), kind, asked.image_column or "image", None, asked.id_column,
        relist=kind == "files",
    )  # fmt: skip
    place = shards.place(folder / "cache")
    return ShardStock(place.index, shards.listed(place, Terms(shards.relist, True, ADVICE), listen), kind)


def _holds_shards(folder: Path) -> bool:
    return kind_in(Storage.of(folder)) != "files"


def _kind(asked: Asked) -> Kind:
    kinds = get_args(Kind)
    if asked.kind is not None and asked.kind not in kinds:
        raise CampaignError(f"--kind {asked.kind}: there are {', '.join(kinds)}")
    if asked.kind not in (None, "auto"):
        return cast(Kind, asked.kind)
    return kind_in(Storage.of(asked.images))


def check_files(stock: Stock, groups: Path | None, costs: Path | None, per_group: int | None) -> None:
    """What files say of the images, and whether there are groups. ConfigError or CampaignError says what is missing."""
    if groups is not None:
        read_groups(groups, tuple(stock.ids))
    if costs is not None:
        read_costs(costs, tuple(stock.ids))
    if per_group is not None and groups is None and len({id.rpartition("/")[0] for id in stock.ids}) == 1:
        raise CampaignError(f"--per-group {per_group}: all images lie in one folder; give --groups as well")


def check_shards(campaign: Campaign, folder: Path, classes: Sequence[str], listen: Listener = nobody) -> None:
    """Opens them as the trainer will, but for the audit: ids that come twice and images that are none are told now."""
    if campaign.kind is not None:
        source = shards_of(campaign, folder)
        source.shards(tuple(classes)).open_unlabeled(
            folder / "cache", source.split, Terms(campaign.kind == "files", True, ADVICE), listen
        )


def class_names(given: str) -> list[str]:
    """From a list with commas, or from a file with a name a line. CampaignError for a name that is given twice."""
    path = Path(given)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else given.split(",")
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CampaignError(f"the class {twice[0]!r} is named twice")
    return names


def notes(campaign: Campaign, images: int) -> Iterator[str]:
    """What whoever begins it should know."""
    if campaign.kind is not None:
        yield f"the images are read from where they lie ({campaign.kind}); labels that lie beside them are not read"
        if campaign.kind in ("parquet", "lance") and campaign.id_column is None:
            yield (
                "images are told by file and row: a Parquet file or Lance table that is written anew, or compacted, is refused "
                "once people were asked about it; --id-column names a column that tells them for good (begin again in another "
                "folder)"
            )
    if campaign.control and int(campaign.control * campaign.batch) == 0:
        yield (
            f"a batch of {campaign.batch} holds no image that is drawn at random, so the gain over random labeling stays "
            "unknown; give a larger --batch or --control (begin again in another folder)"
        )
    if campaign.encoder is None and campaign.scale == "full" and choose_device("auto").type == "cpu":
        yield (
            "without a GPU a round of training takes hours at this size; --encoder efficientnet_lite0 takes seconds, and "
            "--scale small minutes (begin again in another folder)"
        )
    if campaign.encoder is not None and images > MANY:
        yield (
            f"the encoder's features of all {images:,} images are kept on this disk, 4 bytes a number (of 1,280 of them 5 KB an "
            "image), and their ids in memory; without --encoder neither is"
        )
