"""Hostile text inside Markdown and YAML is text, as real parsers read it."""

import pytest
import yaml as real_yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mcdal.campaign.escape import code, markdown, table, visible, yaml

HOSTILE = [
    "plain", "a|b", "a\\|b", "<script>alert(1)</script>", "**bold** _x_ `code`", "# head", "- item", "1. one", "---",
    "![x](http://e)", "[x](javascript:y)", "a\nb", "a\r\n\r\n# b", "\u202egpj.exe", "&lt; &amp;", "'; DROP",
    '"quoted"', "\\", "\\\\", "$(rm -rf)",
    "~~x~~", "{{x}}", "null", "yes", "0x1", ": x", "- ", "@everyone", "é😀漢", "\x00\x1b[31m",
    "\ud800", "\u2028", "\ufeff", "```\nx", " ", "",
]  # fmt: skip


def cells(text):
    """What stands in the cells of the tables of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        "".join(child.content if child.type == "text" else f"<{child.type}>" for child in token.children)
        for token in tokens
        if token.type == "inline"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_holds_the_text_and_nothing_else(text):
    found = cells(table(("head", "second"), [[markdown(text), "end"]]))
    assert found == ["head", "second", visible(text).strip() or ("(empty)" if not text else ""), "end"]


@given(st.text())
def test_any_text_in_yaml_comes_back(text):
    assert real_yaml.safe_load(f"a: {yaml(text)}\nb: 1") == {"a": text, "b": 1}


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "\ud800"])
def test_hostile_text_in_yaml_comes_back(text):
    assert real_yaml.safe_load(f"- {yaml(text)}") == [text]


def test_a_block_of_code_cannot_be_left():
    for text in ("```", "`````\n# out", "x\n```\n<b>"):
        tokens = MarkdownIt("commonmark").parse(code([text, "second"]))
        assert [token.type for token in tokens] == ["fence"] and tokens[0].content == f"{visible(text)}\nsecond\n"


def test_what_cannot_be_printed_is_seen():
    assert visible("a\nb\u202e") == "a\\u000ab\\u202e"
