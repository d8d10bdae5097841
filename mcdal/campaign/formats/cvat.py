"""CVAT for images 1.1: XML with a tag an image. `name` is the path of the image, as in a task made of the same folder."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

from mcdal.campaign.ledger import Arm
from mcdal.campaign.records import Labels, Record
from mcdal.errors import CampaignError
from mcdal.writing import replaced

ARMS = (*get_args(Arm), "copy")
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot say at all."""


def to_cvat(labels: Labels, out: Path) -> None:
    """CampaignError that names a class or image whose name has a character that XML cannot hold."""
    for name in (*labels.classes, *(record.sample_id for record in labels.records)):
        if NO_XML.search(name):
            raise CampaignError(f"{name!r} has a character that XML cannot hold: rename it, or take another format")
    with replaced(out) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        for element in (_meta(labels), *_images(labels)):
            file.write(ET.tostring(element, encoding="unicode") + "\n")
        file.write("</annotations>\n")


def _meta(labels: Labels) -> ET.Element:
    """The labels as CVAT has to know them before it takes the tags: with an attribute for why an image was asked."""
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    told = {
        "name": labels.campaign.campaign.name,
        "size": str(len(labels.records)),
        "mode": "annotation",
        "overlap": "0",
    }
    for tag, text in told.items():
        ET.SubElement(task, tag).text = text
    known = ET.SubElement(task, "labels")
    for name in labels.classes:
        label = ET.SubElement(known, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = "tag"
        arm = ET.SubElement(ET.SubElement(label, "attributes"), "attribute")
        described = {
            "name": "arm", "mutable": "False", "input_type": "select", "default_value": ARMS[0], "values": "\n".join(ARMS)
        }  # fmt: skip
        for tag, text in described.items():
            ET.SubElement(arm, tag).text = text
    return meta


def _images(labels: Labels) -> Iterator[ET.Element]:
    for i, record in enumerate(labels.records):
        yield _image(i, record, labels.size(record.sample_id))


def _image(number: int, record: Record, size: tuple[int, int]) -> ET.Element:
    width, height = map(str, size)
    image = ET.Element("image", id=str(number), name=record.sample_id, width=width, height=height)
    tag = ET.SubElement(image, "tag", label=record.label, source="manual")
    ET.SubElement(tag, "attribute", name="arm").text = record.arm
    return image
