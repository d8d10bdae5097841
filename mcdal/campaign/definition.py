"""What a campaign is: which images, which classes, how many labels, and how it goes on."""

import hashlib
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mcdal.address import address_of, is_store
from mcdal.campaign.ledger import Ledger
from mcdal.campaign_tables import campaigns
from mcdal.checked import at_least
from mcdal.database import Database
from mcdal.errors import CampaignError, ConfigError
from mcdal.pool.streaming.kind import Kind

SCALES = ("full", "small")
PATHS = ("groups", "costs")


@dataclass(frozen=True)
class Campaign:
    """What a campaign is. Of all that only the budget may change while people work.

    images: the folder; ids are paths within it. kind: of the shards that images lie in, at a URL or in a folder (None: they are
    files, and copied); image_column, id_column: of these shards, as in `mcdal run shards`. budget, start, batch: labels in all,
    of the first round and of each later one.
    audit: images that are labeled first and never trained on nor picked, so that accuracy has an honest estimate; `audit_below`
    says which they are, new images included: those whose number drawn from `seed` and id is smaller. control: share of each later
    batch that is drawn at random. double: share of the images that two people label. guesses: whether people may see the model's.
    strategy, encoder, scale, settings: as in `mcdal run`. target: accuracy that is enough, 0 to 1. cost: that it may have in
    all, in money; price: of an answer; wage: of an hour; seconds_per_label: that a person is expected to look at an image.
    near: likeness from which images are near-duplicates, of
    which a batch holds one; fan_out: the others take over its label. easy: share of each batch that the model is sure of.
    per_group, groups, costs: of a batch, as in `mcdal run`; groups are the folders of the images where no file says otherwise.
    classes: how many there were at the beginning; 0: begun before that was kept. audit_answers: of different people, to each
    audit image; 1 in campaigns that were begun before that was kept. changed_at: when the budget was changed last (ISO 8601).
    """

    name: str
    images: Path | str
    budget: int
    start: int
    batch: int
    audit: int
    audit_below: float
    control: float = 0.1
    double: float = 0.05
    guesses: bool = False
    strategy: str = "alfa_mix"
    encoder: str | None = None
    scale: str = "full"
    size: int = 64
    seed: int = 0
    settings: tuple[tuple[str, str], ...] = ()
    target: float | None = None
    cost: float | None = None
    price: float | None = None
    wage: float | None = None
    seconds_per_label: float | None = None
    near: float | None = None
    fan_out: bool = False
    easy: float = 0.0
    per_group: int | None = None
    groups: Path | None = None
    costs: Path | None = None
    classes: int = 0
    audit_answers: int = 1
    changed_at: str | None = None
    kind: Kind | None = None
    image_column: str = "image"
    id_column: str | None = None

    def __post_init__(self) -> None:
        at_least(self, "campaign", 1, "budget", "start", "batch", "audit", "size", "audit_answers")
        at_least(self, "campaign", 0, "double", "control", "easy")
        if self.fan_out and self.near is None:
            raise ConfigError("campaign.fan_out: give --near as well, from which likeness images take over a label")
        if self.fan_out and self.kind is not None:
            raise ConfigError(
                "campaign.fan_out: every image would be read in each round to find near-duplicates, and those in shards are too "
                "many: leave --fan-out out (--near still lets a batch hold one of several)"
            )
        for name in ("double", "control", "easy"):
            if getattr(self, name) >= 1:
                raise ConfigError(f"campaign.{name} = {getattr(self, name)}: give a share below 1")
        if self.target is not None and not 0 < self.target < 1:
            raise ConfigError(f"campaign.target = {self.target}: give an accuracy between 0 and 1, such as 0.9")
        for name in ("cost", "price", "wage", "seconds_per_label"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"campaign.{name} = {value}: give a number of at least 0")
        if self.scale not in SCALES:
            raise ConfigError(f"campaign.scale = {self.scale!r}: there are {', '.join(SCALES)}")
        fixed = [path for path, _ in self.settings if path.split(".")[0] in ("protocol", "source")]
        if fixed:
            raise ConfigError(
                f"--set {fixed[0]}: a campaign has its own; give --budget, --start, --batch, --size and so on"
            )
        if self.start > self.budget:
            raise ConfigError(
                f"campaign.start = {self.start}: the first round would take more than the budget of {self.budget} labels"
            )

    @property
    def starts_at_random(self) -> bool:
        """Whether the start set is a random sample; not where a strategy picks it from features."""
        return dict(self.settings).get("cold_start", "null") == "null"

    @property
    def files(self) -> Path | None:
        """The folder in which ids are paths of image files; None where there is none on this machine."""
        return self.images if isinstance(self.images, Path) and self.kind in (None, "files") else None

    def holds(self, path: Path) -> bool:
        """Whether this path lies among the images."""
        return isinstance(self.images, Path) and path.resolve().is_relative_to(self.images.resolve())

    @property
    def rounds(self) -> int:
        """A first one, then batches until the budget is spent; the audit images are not of it."""
        return 1 + -(-(self.budget - self.start) // self.batch)


@dataclass(frozen=True)
class Opened:
    """A campaign with its store: close it after use. run_id: of the run that it is.

    images: of a folder that joined, which has its own: it shows the page, and what is trained lies in another.
    """

    name: str
    run_id: str
    folder: Path
    database: Database
    secret: str
    images: Path | None = None

    @property
    def joined(self) -> bool:
        """Whether the campaign was begun in another folder."""
        return self.images is not None

    @property
    def campaign(self) -> Campaign:
        """As the store has it now: another process may change the budget."""
        with self.database.read() as connection:
            query = select(campaigns.c.config).where(campaigns.c.campaign_id == self.name)
            found = from_json(self.name, connection.execute(query).scalar_one())
        return found if self.images is None else replace(found, images=self.images)

    @property
    def identity(self) -> str:
        """Tells this campaign from another one of the same name, to browsers; says nothing of the secret."""
        return hashlib.blake2b(self.secret.encode(), digest_size=6, person=b"identity").hexdigest()

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.database, self.name)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def opened(folder: Path, create: bool = True) -> Opened:
    """The campaign of this folder. CampaignError where there is none."""
    if not is_store(folder):
        raise CampaignError(f"there is no campaign in {folder}: `mcdal campaign new {folder} --images DIR` begins one")
    database, address = Database(folder, create), address_of(folder)
    return of_database(folder, database, None if address is None else address.images)


def of_database(folder: Path, database: Database, images: Path | None = None) -> Opened:
    """The campaign that the database holds; it is closed where it holds none. images: where a folder that joined has them."""
    try:
        with database.read() as connection:
            row = connection.execute(select(campaigns)).first()
        if row is None:
            raise CampaignError(
                f"{database.name} holds no campaign: `mcdal campaign new` begins one in a folder of its own"
            )
        from_json(row.campaign_id, row.config)  # a newer one is refused here
        return Opened(row.campaign_id, row.config["run_id"], folder, database, row.secret, images)
    except BaseException:
        database.close()
        raise


def to_json(campaign: Campaign, run_id: str) -> dict[str, Any]:
    """Without its name, which is the campaign's id."""
    given = asdict(campaign) | {"settings": [list(pair) for pair in campaign.settings]}
    given |= {name: None if given[name] is None else str(given[name]) for name in ("images", *PATHS)}
    del given["name"]
    return given | {"run_id": run_id}


def from_json(name: str, given: dict[str, Any]) -> Campaign:
    known = {field.name for field in fields(Campaign)}
    given = {key: value for key, value in given.items() if key != "run_id"}
    if foreign := sorted(set(given) - known):
        raise CampaignError(f"the campaign {name!r} was begun by a newer mcdal ({', '.join(foreign)}): upgrade it")
    settings = tuple((path, text) for path, text in given["settings"])
    paths = {key: None if given.get(key) is None else Path(given[key]) for key in PATHS}
    images = given["images"] if "://" in given["images"] else Path(given["images"])
    return Campaign(name, **{**given, **paths, "images": images, "settings": settings})
