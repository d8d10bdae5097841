import torch

from mcdal.strategies.margin import Margin
from mcdal.values import Batch, Output


def test_margin_is_one_minus_the_gap_of_the_two_largest():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.98, 0.01, 0.01], [0.1, 0.2, 0.7]])
    score = (
        Margin().measure(Batch(tuple("abcd"), torch.zeros(4, 1, 2, 2), output=Output(p.log(), torch.zeros(4, 2)))).score
    )
    torch.testing.assert_close(score, torch.tensor([0.8, 1.0, 0.03, 0.5]))
    assert score.argsort(descending=True).tolist() == [1, 0, 3, 2]
