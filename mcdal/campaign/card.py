"""A data-set card: Markdown with a front matter as Hugging Face reads it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mcdal.campaign.card_sections import answers, checksums, choice, classes, intro, people, worth
from mcdal.campaign.definition import Opened
from mcdal.campaign.escape import yaml
from mcdal.campaign.facts import Facts
from mcdal.campaign.formats.huggingface import EXTRA, NUMBERS, splits
from mcdal.campaign.formats.tables import csv_bytes
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
class Beside:
    """An export that a card lies in: its labels, and the files of tables in it."""

    labels: Labels
    root: Path

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.suffix in (".parquet", ".csv"))

    @property
    def in_parquet(self) -> bool:
        return any(path.suffix == ".parquet" for path in self.files)


def write_card(
    campaign: Opened, out: Path, names: bool = False, device: str = "auto", listen: Listener = nobody,
    beside: Beside | None = None,
) -> None:  # fmt: skip
    """names: people by their names; else by numbers. CampaignError where nothing is labeled yet."""
    labels = Labels(campaign, {}) if beside is None else beside.labels
    if not labels.rows:
        raise CampaignError(f"{campaign.folder}: nothing is labeled yet")
    found = facts(labels, names, device, listen, beside)
    parts = [_front_matter(labels, beside), *(section(found) for section in SECTIONS)]
    write_atomically(out, ("\n\n".join(parts) + "\n").encode("utf-8"))


def facts(labels: Labels, names: bool, device: str, listen: Listener, beside: Beside | None) -> Facts:
    """A model that cannot be judged now, since an image or an encoder is away, keeps no card from being written."""
    campaign, audit, why = labels.campaign, None, "No model is trained yet."
    outcomes, sums = campaign.ledger.outcomes(), _sums(labels, beside)
    originals = labels.originals
    in_audit = originals.audit() | originals.in_audit([o.sample_id for o in outcomes])
    if finished_rounds(campaign):
        try:
            audit = judge(round_model(campaign, None, device, listen))
            model = f"runs/{campaign.run_id}/round_{audit.round:03d}/model.safetensors"
            sums |= {f"model of round {audit.round}": _sha256(campaign.folder / model)}
        except McdalError as error:
            why = "The model could not be judged when this card was written."
            listen("notice", text=f"the card says nothing of the model: {error}")
    called, shares = {} if names else anonymous(campaign), class_shares(campaign, outcomes, in_audit)
    return Facts(campaign, labels, called, outcomes, originals.count(), shares, audit, why, sums)


def _sums(labels: Labels, beside: Beside | None) -> dict[str, str]:
    """SHA-256 by file; where there is none, of the labels as `mcdal campaign export --to csv` writes them."""
    if beside is None:
        as_csv = hashlib.sha256(csv_bytes(labels)).hexdigest()
        return {"labels, as mcdal campaign export --to csv writes them": as_csv}
    return {path.relative_to(beside.root).as_posix(): _sha256(path) for path in beside.files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _front_matter(labels: Labels, beside: Beside | None) -> str:
    n = len(labels.rows)
    size = next((name for most, name in SIZES if n < most), "1M<n<10M")
    lines = [
        "---", f"pretty_name: {yaml(labels.campaign.campaign.name)}", "task_categories:", "- image-classification",
        "size_categories:", f"- {yaml(size)}", "tags:", "- active-learning", "- mcdal", "dataset_info:", "  features:",
        "  - name: image", "    dtype: image", "  - name: label", "    dtype:", "      class_label:", "        names:",
        *(f"          '{i}': {yaml(name)}" for i, name in enumerate(labels.classes)),
    ]  # fmt: skip
    if beside is not None and beside.in_parquet:
        for name in EXTRA:
            lines += [f"  - name: {name}", f"    dtype: {'int64' if name in NUMBERS else 'string'}"]
        there = [record for record in labels.records if record.sha256]
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in splits(there):
            lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join([*lines, "---"])
