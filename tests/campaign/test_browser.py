"""The page in a real browser: labels by keys, undo, an outbox that survives a killed server and a reload, the grid."""

import re
import shutil
import time

import pytest

from mcdal.campaign.definition import opened
from mcdal.campaign.trainer import train
from tests.campaign.annotators import Server
from tests.campaign.conftest import begin

playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        found = engine.chromium.launch(executable_path=BROWSER, args=arguments)
        yield found
        found.close()


@pytest.fixture
def served(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20, audit=10.0, double=0.0, control=0.0)
    train(tmp_path / "c", "cpu")
    server = Server(tmp_path / "c")
    server.start()
    yield server, truth
    server.stop()


def come_in(browser, server, **how):
    page = browser.new_context(**how).new_page()
    page.goto(server.link)
    page.fill("input[name=name]", "Ann")
    page.click("button")
    page.wait_for_selector("img[alt]")
    return page


def shown(page):
    """The id of the image on the page, once it is there."""
    page.wait_for_function("() => document.querySelector('main img[alt]')?.complete")
    return page.get_attribute("main img[alt]", "alt")


def label(page, truth, count):
    """By keys: digits 0 to 9 are the classes 1 to 10 of the page, whose tenth has the key 0."""
    seen = []
    for _ in range(count):
        id = next(known for known in truth if known in shown(page))
        seen.append(id)
        page.keyboard.press(str((truth[id] + 1) % 10))
        page.wait_for_function("id => !document.querySelector('main img[alt]').alt.includes(id)", arg=id)
    return seen


def kept(server):
    with opened(server.folder, create=False) as campaign:
        return {o.sample_id: o.value for o in campaign.ledger.outcomes()}


def eventually(page, server, expected):
    """What the server keeps, once the page has sent all: its indicator lags behind what it holds."""
    page.wait_for_function("() => !Object.keys(localStorage).some((name) => name.includes(' outbox '))", timeout=60_000)
    assert kept(server) == expected
    page.wait_for_function("() => /all saved/i.test(document.body.innerText)", timeout=60_000)


def test_labels_by_keys_undo_and_an_outbox_that_outlives_the_server(browser, served):
    server, truth = served
    page = come_in(browser, server)
    outside = []
    page.on(
        "request",
        lambda request: (
            outside.append(request.url) if not request.url.startswith((server.url, "blob:", "data:")) else None
        ),
    )
    first = label(page, truth, 6)
    page.keyboard.press("u")
    page.wait_for_function("id => document.querySelector('main img[alt]').alt.includes(id)", arg=first[-1])
    eventually(page, server, {id: truth[id] for id in first[:5]})
    assert label(page, truth, 1) == first[-1:]
    server.kill()
    offline = label(page, truth, 3)
    assert re.search("offline|to send|kept on this device", page.inner_text("body"), re.IGNORECASE)
    server.start()
    eventually(page, server, {id: truth[id] for id in first + offline})
    page.reload()
    more = label(page, truth, 2)
    eventually(page, server, {id: truth[id] for id in first + offline + more})
    assert outside == []


def test_a_whole_round_on_a_phone_and_the_next_comes_by_itself(browser, served):
    server, truth = served
    page = come_in(browser, server, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    done = 0
    while done < 29:
        id = next(known for known in truth if known in shown(page))
        page.tap(f"button[aria-keyshortcuts='{(truth[id] + 1) % 10}']")
        page.wait_for_function("id => !document.querySelector('main img[alt]').alt.includes(id)", arg=id)
        done += 1
    id = next(known for known in truth if known in shown(page))
    page.tap(f"button[aria-keyshortcuts='{(truth[id] + 1) % 10}']")
    page.wait_for_function(
        "id => { const i = document.querySelector('main img[alt]'); return i && i.offsetParent && !i.alt.includes(id) }",
        arg=id, timeout=120_000,
    )  # fmt: skip
    with opened(server.folder, create=False) as campaign:
        assert campaign.ledger.last_round() == 1


def test_a_grid_confirms_many_at_once(browser, served):
    server, truth = served
    with opened(server.folder) as campaign:
        asked = [id for id in truth if campaign.ledger.question(id) is not None]
        campaign.ledger.explain({id: (truth[id], 0.9, []) for id in asked})
    page = come_in(browser, server)
    shown(page)
    page.get_by_role("button", name="Many at once").click()
    button = page.locator("button", has_text=re.compile(r"Confirm \d+ as \W*\d"))
    button.wait_for()
    page.wait_for_timeout(1_000)  # nothing is confirmed before it has been seen
    said = re.search(r"Confirm (\d+) as \W*(\d)", button.inner_text())
    assert said is not None
    count, value = int(said[1]), int(said[2])
    ids = [id for id in asked if truth[id] == value]
    page.keyboard.press("y")
    end = time.monotonic() + 20
    while len(kept(server)) < count and time.monotonic() < end:
        page.wait_for_timeout(100)
    values = kept(server)
    assert len(values) == count > 1 and set(values) <= set(ids) and set(values.values()) == {value}
