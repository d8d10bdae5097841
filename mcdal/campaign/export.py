"""The labels of a campaign as files that others read, with checksums of the images that they are of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mcdal.campaign.definition import Opened
from mcdal.campaign.formats.coco import to_coco
from mcdal.campaign.formats.cvat import to_cvat
from mcdal.campaign.formats.folders import folder_names, to_folders
from mcdal.campaign.formats.label_studio import to_label_studio
from mcdal.campaign.formats.tables import to_csv, to_parquet
from mcdal.campaign.records import COLUMNS, Labels, anonymous
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody

__all__ = ["COLUMNS", "FORMATS", "Exported", "export", "folder_names"]


@dataclass(frozen=True)
class Exported:
    """labels: how many. gone: ids of images that are not there any more; only their labels could be written."""

    labels: int
    gone: tuple[str, ...] = ()


def export(
    campaign: Opened, to: str, out: Path, names: bool = False, device: str = "auto", listen: Listener = nobody
) -> Exported:
    """Writes all labels in this format. CampaignError for a format that there is not, and for no label.

    Formats that hold the images have a card, for which the model is judged. names: people by their names in what is made to be
    published (huggingface, and every card); in other formats they have them anyway.
    """
    if to not in FORMATS:
        raise CampaignError(f"--to {to}: there are {', '.join(FORMATS)}")
    if to in OF_FILES and campaign.campaign.files is None:
        raise CampaignError(
            f"--to {to}: it is read beside image files, and the images of this campaign lie in shards: take huggingface or "
            "folders, which hold the images, or csv or parquet"
        )
    published = to == "huggingface" and not names
    labels = Labels(campaign, anonymous(campaign) if published else {})
    if not labels.rows:
        raise CampaignError(f"{campaign.folder}: nothing is labeled yet")
    FORMATS[to](labels, out)
    if to in WITH_CARD:
        from mcdal.campaign.card import Beside, write_card

        write_card(campaign, out / WITH_CARD[to], names, device, listen, Beside(labels, out))
    return Exported(len(labels.rows), labels.gone)


def _to_huggingface(labels: Labels, out: Path) -> None:
    from mcdal.campaign.formats.huggingface import to_huggingface

    to_huggingface(labels, out)


FORMATS: Mapping[str, Callable[[Labels, Path], None]] = {
    "csv": to_csv,
    "parquet": to_parquet,
    "coco": to_coco,
    "folders": to_folders,
    "huggingface": _to_huggingface,
    "cvat": to_cvat,
    "label-studio": to_label_studio,
}
OF_FILES = ("cvat", "label-studio")
"""Formats that name image files of a folder which the reader has too."""
WITH_CARD = {"folders": "card.md", "huggingface": "README.md"}
