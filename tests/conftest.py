import os
import sys

import pytest
import torch

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
