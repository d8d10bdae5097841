"""The paper's network to the last parameter, and its relatives."""

import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError
from mcdal.models.base import count_parameters
from mcdal.models.resnet import ResNet

CIFAR = (32, 32)


@pytest.mark.parametrize(
    ("architecture", "classes", "parameters"),
    [
        (ResNet(), 10, 11_173_962),
        (ResNet(), 100, 11_220_132),
        (ResNet(), 101, 11_220_645),
        (ResNet(), 102, 11_221_158),
        (ResNet(depth=34), 10, 21_282_122),
        (ResNet(depth=50), 100, 23_705_252),
        (ResNet(stem="7x7"), 1000, 11_689_512),
        (ResNet(depth=34, stem="7x7"), 1000, 21_797_672),
        (ResNet(depth=50, stem="7x7"), 1000, 25_557_032),
        (ResNet(depth=10, width=16), 10, 308_826),
    ],
    ids=repr,
)
def test_number_of_parameters(architecture: ResNet, classes: int, parameters: int) -> None:
    assert count_parameters(architecture.build(classes, 3, CIFAR)) == parameters


def test_stages_double_in_channels_and_halve_in_size() -> None:
    output = ResNet(width=4).build(10, 3, CIFAR)(torch.randn(2, 3, *CIFAR))
    assert [tuple(s.shape[1:]) for s in output.stages] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    assert output.features.shape == (2, 32)
    torch.testing.assert_close(output.features, output.stages[-1].mean((2, 3)))


def test_bottlenecks_give_four_times_the_channels() -> None:
    output = ResNet(depth=50, width=4).build(10, 3, CIFAR)(torch.randn(2, 3, *CIFAR))
    assert [s.shape[1] for s in output.stages] == [16, 32, 64, 128]


def test_the_imagenet_stem_is_a_quarter_of_the_size() -> None:
    output = ResNet(depth=10, width=4, stem="7x7").build(10, 3, (64, 64))(torch.randn(2, 3, 64, 64))
    assert [s.shape[2] for s in output.stages] == [16, 8, 4, 2]


def test_a_block_adds_its_input() -> None:
    block = ResNet(depth=10, width=4).build(10, 3, CIFAR).stages[0][0].eval()
    for convolution in (m for m in block.modules() if isinstance(m, nn.Conv2d)):
        nn.init.zeros_(convolution.weight)
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), x.relu())


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ConfigError, match="width is 0"):
        ResNet(width=0)
