"""Where a folder keeps its rows: what it names, what is refused, and no password ever shown."""

import importlib.util
import stat
import sys

import pytest

import mcdal.address
from mcdal.address import ADDRESS, Address, address_of, chosen, is_store, parsed, shown, write_address
from mcdal.database import Database
from mcdal.errors import StoreError
from mcdal.store import Store

URL = "postgresql://ann:very-secret@db.example:6543/cats"


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """These ask for none."""
    monkeypatch.setattr(mcdal.address, "default_url", lambda _: None)


def test_a_folder_names_its_database_for_its_owner_alone(tmp_path):
    assert address_of(tmp_path) is None and not is_store(tmp_path)
    write_address(tmp_path, Address(URL, tmp_path / "images"))
    assert (
        address_of(tmp_path)
        == chosen(tmp_path, True)
        == chosen(tmp_path, True, URL)
        == Address(URL, tmp_path / "images")
    )
    assert stat.S_IMODE((tmp_path / ADDRESS).stat().st_mode) == 0o600 and is_store(tmp_path)


def test_a_new_password_is_taken_and_another_database_is_not(tmp_path):
    write_address(tmp_path, Address(URL))
    assert chosen(tmp_path, True, URL.replace("very-secret", "new")).url == URL.replace("very-secret", "new")
    for other in (URL.replace("cats", "dogs"), URL.replace("ann", "bob"), URL + "?options=-csearch_path%3Dx"):
        with pytest.raises(
            StoreError, match=r"keeps its rows in postgresql://ann@db.example:6543/cats, and --database"
        ) as said:
            chosen(tmp_path, True, other)
        assert "secret" not in str(said.value)


def test_a_folder_with_rows_of_its_own_is_not_given_a_database(tmp_path, monkeypatch):
    Store(tmp_path).close()
    with pytest.raises(StoreError, match=r"keeps its rows in mcdal\.db: leave out --database"):
        Database(tmp_path, url=URL)
    monkeypatch.setattr(mcdal.address, "default_url", lambda _: URL)
    with pytest.raises(StoreError, match=r"leave out MCDAL_DATABASE"):
        Store(tmp_path)
    Store(tmp_path, create=False).close()  # whoever only reads is not asked where to write


def test_the_environment_asks_for_new_folders(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("MCDAL_DATABASE", URL)
    if not mcdal.address.default_url.__module__.startswith("mcdal"):
        pytest.skip("the tests run on a server of their own")
    assert chosen(tmp_path, True) == Address(URL) and chosen(tmp_path, False) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url"', "null"])
def test_a_damaged_address_is_named(tmp_path, content):
    (tmp_path / ADDRESS).write_text(content)
    with pytest.raises(StoreError, match=r"database\.json is damaged: write .*restore it"):
        Store(tmp_path)


@pytest.mark.parametrize(
    "url", ["", "cats", "sqlite:///x.db", "mysql://u:very-secret@h/d", "postgresql://u:very-secret@h:port/d"]
)
def test_what_is_no_url_is_refused_and_not_repeated(tmp_path, url):
    with pytest.raises(StoreError, match=r"give postgresql://user@host/name") as said:
        Database(tmp_path, url=url)
    assert "secret" not in str(said.value) and list(tmp_path.iterdir()) == []


def test_what_is_shown_of_a_url():
    assert shown(parsed("postgres://ann:pw@h/d?password=pw&sslmode=require")) == "postgresql://ann@h/d"


def test_a_missing_driver_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'mcdal\[postgres\]'"):
        Database(tmp_path, url=URL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="needs psycopg")
def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(
        StoreError, match=r"postgresql://ann@127\.0\.0\.1:1/cats: .*: see that the server runs, and that host"
    ) as said:
        Database(tmp_path, url="postgresql://ann:very-secret@127.0.0.1:1/cats")
    assert "secret" not in str(said.value) and list(tmp_path.iterdir()) == []
