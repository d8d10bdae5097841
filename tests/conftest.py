import hashlib
import os
import secrets
import sys

import pytest
import torch

import mcdal.address

# Small networks on two cores: threads cost more than they give, and one thread makes timings and bits steady.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(autouse=True)
def forget_own_files(monkeypatch, tmp_path_factory):
    """People's own files are found through sys.path and stay imported; here the next test has others of the same name."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    folder = str(tmp_path_factory.getbasetemp())
    for name, module in sys.modules.copy().items():  # at once: a thread may be importing
        if (getattr(module, "__file__", None) or "").startswith(folder):
            del sys.modules[name]


SERVER = os.environ.get("MCDAL_TEST_DATABASE")


def pytest_configure(config):
    if SERVER:  # some tests leave a store to be forgotten; of SQLite nobody says so
        config.addinivalue_line("filterwarnings", "ignore:<psycopg.Connection:ResourceWarning")


def pytest_collection_modifyitems(items):
    reasons = {"sqlite": "of SQLite's file alone"} if SERVER else {"postgres": "MCDAL_TEST_DATABASE names no server"}
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def schemas():
    """On a server each folder has a schema of its own for its rows, made when the folder is first opened."""
    if SERVER is None:
        yield None
        return
    made = Schemas(SERVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mcdal.address, "default_url", made.of)
        yield made
    made.drop()


class Schemas:
    def __init__(self, url):
        import psycopg

        self.url, self._names, self._token = url, {}, secrets.token_hex(3)
        self._connection = psycopg.connect(url, autocommit=True)

    def of(self, folder):
        """The URL of the folder's schema, if it does not name another."""
        there = mcdal.address.address_of(folder)
        if there is not None:
            return there.url
        name = f"t{self._token}_{hashlib.blake2b(bytes(folder.resolve()), digest_size=8).hexdigest()}"
        if name not in self._names:
            self._names[name] = self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
        sign = "&" if "?" in self.url else "?"
        return f"{self.url}{sign}application_name={name}&options=-csearch_path%3D{name}"

    def execute(self, statement):
        return self._connection.execute(statement)

    def drop(self):
        for name in self._names:
            self._connection.execute(f"DROP SCHEMA {name} CASCADE")
        self._connection.close()
