"""Windows that overlap by more than a network looks around give what the whole image gives."""

import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError
from mcdal.measuring import evaluate, measure
from mcdal.models.base import Model, apply_head
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.networks.committee import Committee
from mcdal.schedule import Optimization
from mcdal.strategies.mcdal import MCDAL
from mcdal.tasks.segmentation import Segmentation
from mcdal.testing import NUMERICS, fake_scenes, fake_trained
from mcdal.values import Batch, Output
from mcdal.windows import in_windows

TASK = Segmentation(("road", "car", "sky"))


class Deep(Model):
    """Two stages, at half and a quarter of the size; a place of the features sees 15 pixels."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.two = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Conv2d(5, 3, 1), nn.Upsample(scale_factor=4))
        self.largest = 0

    def forward(self, x):
        self.largest = max(self.largest, x.shape[2] * x.shape[3])
        one = self.one(x).relu()
        two = self.two(one).relu()
        return Output(apply_head(self.head, two), two, (one, two))


@pytest.mark.parametrize("size", [(64, 96), (32, 96), (64, 32), (60, 84)])
def test_the_same_as_the_whole(size):
    torch.manual_seed(0)
    model = Deep().eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        whole = model(x)
        model.largest = 0
        parts = in_windows(model, x, (32, 32))
    assert model.largest == 32 * 32
    torch.testing.assert_close(parts.features, whole.features)
    torch.testing.assert_close(parts.logits, whole.logits)
    for one, other in zip(parts.stages, whole.stages, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        fewer = in_windows(model, x, (32, 32), stages=False)
    assert torch.equal(fewer.logits, parts.logits)
    assert fewer.stages == ()


def test_a_window_as_large_as_the_image_is_the_image():
    model, x = Deep().eval(), torch.randn(1, 3, 16, 20)
    assert torch.equal(in_windows(model, x, (16, 40)).logits, model(x).logits)


@pytest.mark.parametrize(("size", "window"), [((30, 64), (16, 16)), ((32, 64), (18, 16))])
def test_sizes_that_do_not_fit_are_told(size, window):
    with pytest.raises(ConfigError, match="must be multiples of 4 pixels here"):
        in_windows(Deep().eval(), torch.randn(1, 3, *size), window)


def test_measuring_and_testing_in_windows():
    """Of a network that looks one pixel around, in windows of 4 that share 2: only what lies at a border differs."""
    trained = fake_trained(MCDAL(), pool=fake_scenes())
    given = trained.model, trained.pool
    whole = measure(*given, trained.labels, trained.strategy, numerics=NUMERICS)
    parts = measure(*given, trained.labels, trained.strategy, numerics=NUMERICS, window=(6, 6))
    assert whole.score == pytest.approx(parts.score, rel=0.3)
    assert evaluate(*given, numerics=NUMERICS, window=(6, 6)).keys() == evaluate(*given, numerics=NUMERICS).keys()


def test_a_committee_sees_the_windows_that_the_task_model_sees():
    """Members that are the task model agree with it, whatever the windows do at their borders."""
    torch.manual_seed(0)
    model = SmallSegmentation(2).build(3, 3, (32, 48)).double().eval()
    optimization, window = Optimization(), (16, 32)
    made = Committee(model, TASK, 3, optimization, lambda module: module, lambda *_: iter(()), window)
    for member in made.others:
        member.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 48).double()
    with torch.no_grad():
        batch = Batch(("a", "b"), x, None, in_windows(model, x, window, stages=False))
        p = made.probabilities(batch)
    assert torch.equal(p[0], p[1])
    assert torch.equal(p[0], p[2])
    assert not torch.equal(batch.output.logits, model(x).logits), "windows that change nothing show nothing"


def test_windows_lie_on_the_grid_of_the_coarsest_stage_though_nobody_looks_at_it():
    model = SmallSegmentation(2).build(3, 3, (64, 96)).eval()
    with torch.no_grad(), pytest.raises(ConfigError, match="must be multiples of 16 pixels here"):
        in_windows(model, torch.randn(1, 3, 64, 96), (40, 48), stages=False)
