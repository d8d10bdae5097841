"""Labeling interfaces and results, as people and servers write them."""

import pytest

from mcdal.errors import CampaignError
from mcdal.label_studio.shapes import (
    CANNOT_TELL,
    choice,
    choices_interface,
    chosen,
    classifier,
    masks_interface,
    read_interface,
    with_choices,
)

CLASSES = ["cat", "dog & <co>", 'say "hi"', "Köter"]
OWN = """<View><Style>.a {{color: red}}</Style><Header value="Which?"/><Image name="img" value="$image"/>
<Choices name="kind" toName="img" {how}><Choice value="A cat" alias="cat"/><Choice value="dog"/></Choices>
<TextArea name="note" toName="img"/></View>"""


def test_what_is_made_is_read_again():
    control, missing = classifier(choices_interface(CLASSES), CLASSES)
    assert missing == [] and control.single and list(control.names) == [*CLASSES, CANNOT_TELL]
    for name in CLASSES:
        result = choice(control, name)
        assert chosen(control, [result]) == [name]
        assert (result["from_name"], result["to_name"], result["type"]) == ("label", "image", "choices")


def test_keys_are_different_and_end_after_35_classes():
    xml = choices_interface([f"c{i}" for i in range(50)])
    keys = [part[0] for part in xml.split('hotkey="')[1:]]
    assert len(keys) == len(set(keys)) == 36 and keys[-1] == "0"


def test_an_interface_of_somebodys_own_with_an_alias():
    control, missing = classifier(OWN.format(how=""), ["cat", "dog", "fox"])
    assert missing == ["fox"] and control.name == "kind"
    assert choice(control, "cat")["value"] == {"choices": ["cat"]}
    assert chosen(control, [choice(control, "cat")]) == ["A cat"]
    more = with_choices(OWN.format(how=""), "kind", ["fox"])
    assert classifier(more, ["cat", "dog", "fox"])[1] == [] and "<Header" in more and "TextArea" in more


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<View>", "is no XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "<!...> part"),
        ("<View/>", "has 0 <Choices>"),
        (
            '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="cat"/></Choices></View>',
            "has 0",
        ),
        (OWN.format(how="").replace("</View>", '<Choices name="b" toName="img"/></View>'), "has 2 <Choices>"),
        (OWN.format(how='choice="multiple"'), 'set choice="single"'),
        (OWN.format(how="").replace("$image", "$url"), "shows the field 'url'"),
        (OWN.format(how="").replace('"dog"', '"wolf"'), "'wolf', which are no classes of the campaign"),
    ],
)
def test_interfaces_that_do_not_fit_are_named(xml, words):
    with pytest.raises(CampaignError, match=words.replace("(", r"\(")):
        classifier(xml, ["cat", "dog"])


def test_comments_are_no_danger():
    assert classifier("<!-- mine -->" + OWN.format(how=""), ["cat", "dog"])[1] == []


def test_masks_interface():
    found = read_interface(masks_interface(["road", "sky"], ["brushlabels", "polygonlabels"]))
    assert [(c.kind, c.name, c.to_name, list(c.names)) for c in found.controls] == [
        ("brushlabels", "brush", "image", ["road", "sky"]), ("polygonlabels", "polygon", "image", ["road", "sky"]),
    ]  # fmt: skip
    assert found.of_kind("choices") == [] and found.images == {"image": "image"}
