"""A data-set card: Markdown with a front matter as Hugging Face reads it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcdal.campaign.card_sections import answers, checksums, choice, classes, intro, people, worth
from mcdal.campaign.definition import Opened
from mcdal.campaign.escape import yaml
from mcdal.campaign.facts import Facts
from mcdal.campaign.formats.huggingface import EXTRA, NUMBERS, splits
from mcdal.campaign.formats.tables import csv_bytes
from mcdal.campaign.images import list_images
from mcdal.campaign.judging import judge
from mcdal.campaign.progress import finished_rounds
from mcdal.campaign.records import Labels, anonymous
from mcdal.campaign.shares import class_shares
from mcdal.campaign.trained import round_model
from mcdal.errors import CampaignError, McdalError
from mcdal.events import Listener, nobody
from mcdal.writing import write_atomically

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
SECTIONS = (intro, choice, classes, people, answers, worth, checksums)


@dataclass(frozen=True)
class Data:
    """What lies beside a card. parquet: in Parquet files with splits, that the front matter names."""

    files: Sequence[Path] = ()
    parquet: bool = False


def write_card(
    campaign: Opened, out: Path, names: bool = False, device: str = "auto", listen: Listener = nobody,
    exported: Path | None = None,
) -> None:  # fmt: skip
    """names: people by their names; else by numbers. exported: the folder of an export that the card is of."""
    files = (
        [] if exported is None else sorted(path for path in exported.rglob("*") if path.suffix in (".parquet", ".csv"))
    )
    data = Data(files, any(path.suffix == ".parquet" for path in files))
    found = facts(campaign, names, device, listen, data)
    parts = [_front_matter(found, data), *(section(found) for section in SECTIONS)]
    write_atomically(out, ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8"))


def facts(campaign: Opened, names: bool, device: str, listen: Listener, data: Data) -> Facts:
    """CampaignError where nothing is labeled yet."""
    called = {} if names else anonymous(campaign)
    labels = Labels(campaign, called)
    if not labels.rows:
        raise CampaignError(f"{campaign.folder}: nothing is labeled yet")
    outcomes = campaign.ledger.outcomes()
    ids = [file.id for file in list_images(campaign.campaign.images, campaign.folder)]
    audit, why, sums = None, "No model is trained yet.", _sums(labels, data)
    if finished_rounds(campaign):
        try:
            audit = judge(round_model(campaign, None, device, listen))
            model = f"runs/{campaign.run_id}/round_{audit.round:03d}/model.safetensors"
            sums |= {f"model of round {audit.round}": _sha256(campaign.folder / model)}
        except McdalError as error:  # labels are worth a card without a model
            why = f"The model could not be judged now: {error}"
    return Facts(
        campaign, labels, called, outcomes, len(ids), class_shares(campaign, outcomes, ids), audit, why, sums
    )  # fmt: skip


def _sums(labels: Labels, data: Data) -> dict[str, str]:
    """SHA-256 by file; where there is none, of the labels as `mcdal campaign export --to csv` writes them."""
    if not data.files:
        as_csv = hashlib.sha256(csv_bytes(Labels(labels.campaign, {}))).hexdigest()
        return {"labels, as mcdal campaign export --to csv writes them": as_csv}
    root = min((path.parent for path in data.files), key=lambda folder: len(folder.parts))
    return {path.relative_to(root).as_posix(): _sha256(path) for path in data.files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _front_matter(found: Facts, data: Data) -> str:
    n = len(found.labels.rows)
    size = next((name for most, name in SIZES if n < most), "1M<n<10M")
    lines = [
        "---", f"pretty_name: {yaml(found.campaign.campaign.name)}", "task_categories:", "- image-classification",
        "size_categories:", f"- {yaml(size)}", "tags:", "- active-learning", "- mcdal", "dataset_info:", "  features:",
        "  - name: image", "    dtype: image", "  - name: label", "    dtype:", "      class_label:", "        names:",
        *(f"          '{i}': {yaml(name)}" for i, name in enumerate(found.labels.classes)),
    ]  # fmt: skip
    if data.parquet:
        for name in EXTRA:
            lines += [f"  - name: {name}", f"    dtype: {'int64' if name in NUMBERS else 'string'}"]
        there = [record for record in found.labels.records if record.sha256]
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in splits(there):
            lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join([*lines, "---"])
