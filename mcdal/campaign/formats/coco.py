"""COCO: one annotation an image, of the whole of it, which readers of COCO take for a class."""

import json
from pathlib import Path

from mcdal.campaign.records import Labels
from mcdal.writing import write_atomically


def to_coco(labels: Labels, out: Path) -> None:
    images, annotations = [], []
    for i, record in enumerate(labels.records, 1):
        width, height = labels.size(record.sample_id)
        images.append(
            {"id": i, "file_name": record.sample_id, "width": width, "height": height, "sha256": record.sha256}
        )
        annotations.append(
            {
                "id": i, "image_id": i, "category_id": record.number, "bbox": [0, 0, width, height],
                "area": width * height, "iscrowd": 0, "by": record.by, "at": record.at, "arm": record.arm,
            }
        )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(labels.classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(out, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))
