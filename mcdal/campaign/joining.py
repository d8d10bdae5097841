"""A folder on another machine from which a server shows the page of a campaign: rows by URL, images of its own."""

from pathlib import Path

from mcdal.address import address_of
from mcdal.campaign.definition import of_database
from mcdal.campaign.showing import Pictures
from mcdal.database import Database
from mcdal.errors import CampaignError


def join(folder: Path, url: str, images: Path) -> list[str]:
    """Makes the folder; says what it joined and what is missing.

    images: a folder with the same images under the same names. CampaignError where it has none of those that are asked about,
    and where the folder is that of the campaign itself.
    """
    if not images.is_dir():
        raise CampaignError(f"the folder {images} does not exist: give --images a copy of the images")
    if folder.resolve().is_relative_to(images.resolve()):
        raise CampaignError(f"{folder} lies within {images}: give another folder")
    there = address_of(folder)
    if there is not None and there.images is None:
        raise CampaignError(
            f"{folder} is the folder of a campaign itself: `mcdal campaign serve {folder}` shows its page"
        )
    with of_database(folder, Database(folder, create=False, url=url, remember=False), images.resolve()) as campaign:
        if campaign.campaign.kind is not None:
            raise CampaignError(
                f"the images of {campaign.campaign.name} lie in shards, whose index is in the folder that it was begun in: one "
                "server shows their page; let people reach it with `mcdal campaign serve --host 0.0.0.0`"
            )
        waiting, pictures = campaign.ledger.open(), Pictures.of(campaign)
        missing = [id for id in waiting if not pictures.is_there(id)]
        if waiting and len(missing) == len(waiting):
            raise CampaignError(
                f"{images} has none of the {len(waiting)} images that are asked about, such as {missing[0]!r}"
            )
        campaign.database.remember(images.resolve())
    told = [f"joined {campaign.campaign.name} in {campaign.database.name}"]
    if missing:
        told.append(
            f"note: {len(missing)} of {len(waiting)} images that are asked about are not there: they are passed over"
        )
    return told
