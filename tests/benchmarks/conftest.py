import pytest

from benchmarks import side_by_side


@pytest.fixture
def no_collecting(monkeypatch):
    """Garbage is collected before each turn of a side, to count for neither: in a process of tests that is the slowest part."""
    monkeypatch.setattr(side_by_side, "gc", type("gc", (), {"collect": staticmethod(lambda: 0)}))
