"""Label Studio's labeling interface (an XML text) and results (JSON): read, checked and made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from mcdal.errors import CampaignError

CANNOT_TELL = "(cannot tell)"
"""A choice beside the classes."""
KEYS = "123456789qwertyuiopasdfghjklzxcvbnm"

Kind = Literal["choices", "brushlabels", "polygonlabels", "rectanglelabels"]
TAGS: Mapping[str, tuple[Kind, str]] = {
    "Choices": ("choices", "Choice"),
    "BrushLabels": ("brushlabels", "Label"),
    "PolygonLabels": ("polygonlabels", "Label"),
    "RectangleLabels": ("rectanglelabels", "Label"),
}


@dataclass(frozen=True)
class Control:
    """What people answer with. name: results' `from_name`. names: the shown name of each value that results hold."""

    kind: Kind
    name: str
    to_name: str
    names: Mapping[str, str]
    single: bool = True

    def value_of(self, shown: str) -> str:
        """What results hold for a shown name. KeyError for one that is not there."""
        return next(iter(value for value, name in self.names.items() if shown in (name, value)))


@dataclass(frozen=True)
class Interface:
    """images: the task's field that each image tag shows, by the tag's name."""

    controls: tuple[Control, ...]
    images: Mapping[str, str]

    def of_kind(self, *kinds: Kind) -> list[Control]:
        """The controls of these kinds that are on an image."""
        return [c for c in self.controls if c.kind in kinds and c.to_name in self.images]


def read_interface(xml: str) -> Interface:
    """CampaignError where it is no labeling interface."""
    root = _parsed(xml)
    images = {e.get("name", ""): e.get("value", "").lstrip("$") for e in root.iter("Image")}
    controls = []
    for element in root.iter():
        if element.tag not in TAGS or element.get("name") is None:
            continue
        kind, inner = TAGS[element.tag]
        names = {e.get("alias", "") or e.get("value", ""): e.get("value", "") for e in element.iter(inner)}
        single = element.get("choice", "single") in ("single", "single-radio")
        controls.append(Control(kind, element.get("name", ""), element.get("toName", ""), names, single))
    return Interface(tuple(controls), images)


def classifier(xml: str, classes: Sequence[str]) -> tuple[Control, list[str]]:
    """The one control that a campaign's answers come from, and the classes that it lacks.

    CampaignError that names what does not fit: no or several such controls, several answers at once, an image that is not shown
    from the task's field `image`, a choice that is no class.
    """
    interface = read_interface(xml)
    found = interface.of_kind("choices")
    if len(found) != 1:
        raise CampaignError(
            f"the project's labeling interface has {len(found)} <Choices> for an <Image>, and must have one: let "
            "`mcdal label-studio connect` make a project of its own, or change it"
        )
    control = found[0]
    if not control.single:
        raise CampaignError(f'<Choices name="{control.name}"> lets people give several classes: set choice="single"')
    if interface.images[control.to_name] != "image":
        field = interface.images[control.to_name]
        raise CampaignError(f'<Image name="{control.to_name}"> shows the field {field!r} of a task: set value="$image"')
    shown = {*control.names.values(), *control.names}
    foreign = [n for v, n in control.names.items() if n not in classes and v not in classes and n != CANNOT_TELL]
    if foreign:
        raise CampaignError(
            f'<Choices name="{control.name}"> has {", ".join(map(repr, foreign))}, which are no classes of the campaign (it has '
            f"{', '.join(classes)}): remove the choice, or `mcdal campaign classes --add`"
        )
    return control, [name for name in classes if name not in shown]


def choices_interface(classes: Sequence[str]) -> str:
    """For one class an image, with keys for the first 35, and "cannot tell" on 0."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    control = ElementTree.SubElement(
        view, "Choices", name="label", toName="image", choice="single", showInline="true", required="true"
    )
    for i, name in enumerate([*classes, CANNOT_TELL]):
        element = ElementTree.SubElement(control, "Choice", value=name)
        if name == CANNOT_TELL:
            element.set("hotkey", "0")
        elif i < len(KEYS):
            element.set("hotkey", KEYS[i])
    return ElementTree.tostring(view, encoding="unicode")


def masks_interface(classes: Sequence[str], kinds: Sequence[Literal["brushlabels", "polygonlabels"]]) -> str:
    """For brushes, polygons, or both, each with all classes."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    for kind in kinds:
        tag = next(tag for tag, (of, _) in TAGS.items() if of == kind)
        control = ElementTree.SubElement(view, tag, name=kind.removesuffix("labels"), toName="image")
        for name in classes:
            ElementTree.SubElement(control, "Label", value=name)
    return ElementTree.tostring(view, encoding="unicode")


def with_choices(xml: str, control: str, names: Sequence[str]) -> str:
    """The same interface with more choices; everything else of it stays."""
    root = _parsed(xml)
    element = next(e for e in root.iter("Choices") if e.get("name") == control)
    last = [i for i, e in enumerate(element) if e.tag == "Choice" and e.get("value") != CANNOT_TELL]
    at = last[-1] + 1 if last else 0
    for i, name in enumerate(names):
        element.insert(at + i, ElementTree.Element("Choice", value=name))
    return ElementTree.tostring(root, encoding="unicode")


def choice(control: Control, name: str) -> dict[str, Any]:
    """The result that says this class."""
    value = {"choices": [control.value_of(name)]}
    return {"from_name": control.name, "to_name": control.to_name, "type": "choices", "value": value}


def chosen(control: Control, results: Any) -> list[str]:
    """The shown names that an annotation's results give this control; a value that it does not know as it is."""
    found: list[str] = []
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict) and result.get("from_name") == control.name and result.get("type") == "choices":
            value = result.get("value")
            given = value.get("choices") if isinstance(value, dict) else None
            found += [control.names.get(v, v) for v in given if isinstance(v, str)] if isinstance(given, list) else []
    return list(dict.fromkeys(found))


def _parsed(xml: str) -> ElementTree.Element:
    if "<!" in xml.replace("<!--", ""):  # entities that grow without end
        raise CampaignError("the project's labeling interface has a <!...> part, which is not read here: remove it")
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise CampaignError(f"the project's labeling interface is no XML: {error}") from error
