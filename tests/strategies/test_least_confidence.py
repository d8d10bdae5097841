import torch

from mcdal.strategies.least_confidence import LeastConfidence
from mcdal.values import Batch, Output


def test_least_confidence_is_one_minus_the_largest():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [1.0, 0.0, 0.0], [0.1, 0.2, 0.7]])
    told = Output(p.log(), torch.zeros(4, 2))
    score = LeastConfidence().measure(Batch(tuple("abcd"), torch.empty(4, 0, 0, 0), output=told)).score
    torch.testing.assert_close(score, torch.tensor([0.5, 0.6, 0.0, 0.3]))
    assert score.argsort(descending=True).tolist() == [1, 0, 3, 2]
