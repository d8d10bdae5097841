"""Label Studio: tasks with annotations, for its import of JSON.

The project's configuration has `<Image name="image" value="$image"/>` and `<Choices name="label" toName="image">`; images are
asked of its own local files, with the campaign's folder of images as the document root.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mcdal.campaign.records import Labels, Record
from mcdal.writing import write_atomically

LOCAL = "/data/local-files/?d="


def to_label_studio(labels: Labels, out: Path) -> None:
    """`data.mcdal_id` is the id, by which labels find the way back."""
    tasks = [_task(record) for record in labels.records]
    write_atomically(out, (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))


def _task(record: Record) -> dict[str, Any]:
    said = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [record.label]}}
    data = {
        "image": LOCAL + quote(record.sample_id), "mcdal_id": record.sample_id, "mcdal_arm": record.arm,
        "mcdal_by": record.by, "mcdal_round": record.round, "sha256": record.sha256,
    }  # fmt: skip
    return {"data": data, "annotations": [{"result": [said], "was_cancelled": False}]}
