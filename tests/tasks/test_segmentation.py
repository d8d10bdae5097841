"""The task of segmentation against one pixel at a time, and against other people's metrics."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torch.nn import functional

from mcdal.networks.gradients import last_layer_gradient
from mcdal.tasks.classification import Classification
from mcdal.tasks.segmentation import Segmentation, likeliest
from mcdal.tasks.weights import median_frequency
from mcdal.values import VOID, Output

TASK = Segmentation(("road", "car", "tree", "sky"))


def scene(b=3, c=4, h=5, w=7, seed=0, void=0.2):
    torch.manual_seed(seed)
    y = torch.randint(0, c, (b, h, w), dtype=torch.uint8)
    y[torch.rand(b, h, w) < void] = VOID
    return torch.randn(b, c, h, w, dtype=torch.float64), y


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 4.0)])
def test_the_loss_is_the_mean_over_the_labeled_pixels_of_an_image(weights):
    logits, y = scene()
    found = replace(TASK, weights=weights).losses(logits, y)
    for i in range(3):
        total, count = 0.0, 0
        for r in range(5):
            for s in range(7):
                c = int(y[i, r, s])
                if c != VOID:
                    total -= float(logits[i, :, r, s].log_softmax(0)[c]) * (1 if weights is None else weights[c])
                    count += 1
        assert float(found[i]) == pytest.approx(total / count)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 4.0)])
def test_its_gradient_is_the_right_one(weights):
    task = replace(TASK, weights=weights)
    logits, y = scene()
    y[1, 0] = VOID
    turned = logits.transpose(2, 3).contiguous().transpose(2, 3)  # as it may come from a network
    assert torch.autograd.gradcheck(lambda z: task.losses(z, y), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda z: task.losses(z, y), turned.requires_grad_())
    per_image = torch.arange(1.0, 4.0, dtype=torch.float64)
    (task.losses(logits, y) * per_image).sum().backward()
    ours, logits.grad = logits.grad, None
    of_class = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    torchs = functional.cross_entropy(logits, y.long(), of_class, ignore_index=VOID, reduction="none").flatten(1).sum(1)
    (torchs / (y != VOID).flatten(1).sum(1) * per_image).sum().backward()
    torch.testing.assert_close(ours, logits.grad, rtol=1e-12, atol=1e-14)


def test_the_likeliest_class_is_the_first_of_equal_ones():
    logits, y = scene()
    logits = logits.round()
    assert torch.equal(likeliest(logits), logits.argmax(1))
    logits, y = scene()
    known = y != VOID
    assert TASK.right(logits, y).item() == pytest.approx((logits.argmax(1) == y)[known].double().mean().item())


def test_an_image_of_void_costs_nothing_and_moves_nothing():
    logits, y = scene()
    y[1] = VOID
    logits.requires_grad_()
    losses = TASK.losses(logits, y)
    losses.sum().backward()
    assert losses[1].item() == 0
    assert not logits.grad[1].any()
    assert logits.grad.isfinite().all()


def test_one_thing_said_of_the_whole():
    """Equal to the loss per pixel where every pixel is told the same."""
    _, y = scene()
    said = torch.randn(3, 4, dtype=torch.float64)
    everywhere = said[:, :, None, None].expand(-1, -1, 5, 7)
    torch.testing.assert_close(TASK.losses_of_whole(said, y), TASK.losses(everywhere, y))
    classes, one = Classification(TASK.classes), torch.tensor([2, 0, 3])
    assert torch.equal(classes.losses_of_whole(said, one), classes.losses(said, one))


def test_mean_iou_is_of_the_whole_set_and_not_of_batches():
    meter = TASK.meter()
    truth, said, losses = [], [], []
    for seed in range(4):
        logits, y = scene(seed=seed)
        logits[:, 3] -= 3 * seed
        meter.add(Output(logits, logits), y)
        kept = y != VOID
        truth.append(y[kept].numpy())
        said.append(logits.argmax(1)[kept].numpy())
        losses.append(torch.nn.functional.cross_entropy(logits, y.long(), ignore_index=VOID, reduction="sum"))
    truth, said = np.concatenate(truth), np.concatenate(said)
    result = meter.result()
    expected = jaccard_score(truth, said, average=None)
    for name, iou in zip(TASK.classes, expected, strict=True):
        assert result[f"iou/{name}"] == pytest.approx(iou)
    assert result["mean_iou"] == pytest.approx(expected.mean())
    assert result["pixel_accuracy"] == pytest.approx((truth == said).mean())
    assert result["loss"] == pytest.approx(float(sum(losses)) / len(truth))
    assert confusion_matrix(truth, said).sum() == len(truth)


def test_a_class_that_is_neither_there_nor_said_is_left_out():
    logits = torch.full((1, 4, 2, 2), -9.0)
    y = torch.tensor([[[0, 0], [1, VOID]]], dtype=torch.uint8)
    logits[0, 0], logits[0, 1, 1, 0], logits[0, 2, 1, 1] = (
        0,
        9,
        9,
    )  # sky is nowhere; what is said of void does not count
    meter = TASK.meter()
    meter.add(Output(logits, logits), y)
    result = meter.result()
    assert result["mean_iou"] == 1
    assert "iou/tree" not in result
    assert "iou/sky" not in result
    assert TASK.meter().result() == {}


@pytest.mark.parametrize("space", [(), (3, 4)])
def test_the_last_layers_gradient(space):
    """Against autograd through the layer, as the loss of its own answers; of a scene the mean over its places."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4, bias=False).double()
    features = torch.randn(5, 6, *space, dtype=torch.float64)
    logits = layer(features.movedim(1, -1)).movedim(-1, 1)
    found = last_layer_gradient(Output(logits, features))
    for i in range(5):
        layer.weight.grad = None
        own = logits[i : i + 1].argmax(1)
        said = layer(features[i : i + 1].movedim(1, -1)).movedim(-1, 1)
        torch.nn.functional.cross_entropy(said, own).backward()
        if space:
            gradient = found.vector[i].view(4, 6)
        else:
            p = found.probabilities[i].clone()
            p[own] -= 1
            gradient = p[:, None] * found.vector[i]
        torch.testing.assert_close(gradient, layer.weight.grad)


def test_the_gradient_where_features_are_coarser():
    """Each place has the mean residual of the pixels that it covers."""
    torch.manual_seed(0)
    logits, features = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 2, 3)
    found = last_layer_gradient(Output(logits, features)).vector.view(2, 3, 5)
    p = logits.softmax(1)
    residual = p - torch.nn.functional.one_hot(p.argmax(1), 3).movedim(-1, 1)
    expected = torch.zeros(2, 3, 5)
    for r in range(2):
        for s in range(3):
            block = residual[:, :, 2 * r : 2 * r + 2, 2 * s : 2 * s + 2].mean((2, 3))
            expected += block[:, :, None] * features[:, None, :, r, s] / 6
    torch.testing.assert_close(found, expected)


def test_median_frequency():
    counts = np.array([[80, 20, 0, 0], [60, 0, 40, 0], [100, 0, 0, 0]])
    frequency = np.array([240 / 300, 20 / 100, 40 / 100])
    expected = np.median(frequency) / frequency
    assert median_frequency(counts) == pytest.approx((*expected, 1.0))


def test_pooling_and_reducing():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(TASK.pooled(x), x.mean((2, 3)))
    torch.testing.assert_close(TASK.reduce(x[:, 0]), x[:, 0].mean((1, 2)))
    assert torch.equal(TASK.reduce(x[:, 0, 0, 0]), x[:, 0, 0, 0])
    assert math.isclose(
        float(TASK.pooled(x.bfloat16()).double().std()), float(x.mean((2, 3)).double().std()), rel_tol=0.05
    )


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 4.0)])
def test_what_is_said_of_the_whole_costs_what_it_would_at_each_pixel(weights):
    task = replace(TASK, weights=weights)
    _, y = scene()
    of_whole = torch.randn(3, 4, dtype=torch.float64)
    at_each = of_whole[:, :, None, None].expand(3, 4, 5, 7)
    torch.testing.assert_close(task.losses_of_whole(of_whole, y), task.losses(at_each, y))


def test_logits_of_another_size_are_refused():
    logits, y = scene()
    with pytest.raises(ValueError, match="logits of \\(5, 7\\) pixels for masks of \\(4, 6\\)"):
        inspect.unwrap(Segmentation.losses)(TASK, logits, y[:, :4, :6])  # outside of tests nobody checks the types
