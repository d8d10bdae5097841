"""The pages that are made of the code are current, and say something of every strategy."""

import pytest

from mcdal.pages import FOLDER, PAGES
from mcdal.registry import listed, load


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run scripts/docs"


@pytest.mark.parametrize("name", listed("strategies"))
def test_every_strategy_says_what_it_is_for(name):
    about = load("strategies", name).about
    for text in (about.paper, about.cost, about.memory, about.use, about.avoid):
        assert text
    assert len(set(about.needs)) == len(about.needs)
