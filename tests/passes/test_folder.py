"""Folders by path and by address, and what becomes of results when a folder is used again."""

import gc
import pickle

import fsspec
import numpy as np
import pytest

from mcdal.errors import ConfigError, StoreError
from mcdal.passes import Processes, measure_shards, rows_of, shard_files
from mcdal.passes.folder import LocalFolder, RemoteFolder, folder_of
from mcdal.passes.shard_files import refuse_unseen
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.testing import NUMERICS
from tests.passes.driver import model
from tests.passes.sharded import watched
from tests.passes.stored import stored

VECTOR = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_a_file_address_is_a_path(tmp_path):
    found = folder_of(f"file://{tmp_path}/a pass")
    assert isinstance(found, LocalFolder) and found.path == tmp_path / "a pass"


@pytest.fixture
def address(tmp_path):
    return f"memory://{tmp_path.name}/pass"


def test_rows_outlive_what_they_were_made_of(address):
    vector = rows_of(stored(address, ("a", "b", "c", "d"), None, [1, 3], VECTOR), {}).vector
    gc.collect()
    np.testing.assert_array_equal(vector[:], VECTOR)
    copies = vector._tables[0].path.parent
    taken = vector.take(np.array([3, 0]))
    del vector
    gc.collect()
    np.testing.assert_array_equal(taken[:], VECTOR[[3, 0]])
    del taken
    gc.collect()
    assert not copies.exists()


def test_vectors_of_a_pass_that_another_replaced_say_so(tmp_path):
    def once(seed):
        return measure_shards(
            model(), watched(tmp_path), MCDALPosthoc(), tmp_path / "pass", numerics=NUMERICS, seed=seed
        )

    first = once(0)
    rows = rows_of(first, {})
    once(1)
    with pytest.raises(StoreError, match=r"vector.npy is not there any more: it was measured again since"):
        rows.vector[:]
    with pytest.raises(StoreError, match="another pass has written it since"):
        rows_of(first, {})


def test_an_object_store_is_written_to_at_once(address, monkeypatch):
    files = fsspec.filesystem("memory")
    monkeypatch.setattr(type(files), "mv", None)
    folder = folder_of(address)
    folder.write("a", b"1")
    assert folder.names() == {"a"} and folder.read("a") == b"1"
    assert pickle.loads(pickle.dumps(folder)).read("a") == b"1"


def test_memory_of_this_process_is_refused_where_others_measure(address, tmp_path):
    assert folder_of(address).only_here and not folder_of(address).everywhere
    assert not folder_of("simplecache::s3://bucket/pass").only_here and RemoteFolder("s3://bucket").everywhere
    with pytest.raises(ConfigError, match=r"memory://.* is seen by this process alone"):
        measure_shards(model(), watched(tmp_path), MCDALPosthoc(), address, numerics=NUMERICS, engine=Processes(2))


def test_what_a_worker_wrote_elsewhere_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "WAITS", (0.01,))
    stored(tmp_path / "a", ("a",), None, [1])
    refuse_unseen(LocalFolder(tmp_path / "a"), "part/0", "node 3")
    with pytest.raises(StoreError, match=r"node 3 wrote part%2F0.parquet into .*b, and here it is not to be seen"):
        refuse_unseen(LocalFolder(tmp_path / "b"), "part/0", "node 3")
