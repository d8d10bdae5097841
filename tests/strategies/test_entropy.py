import math

import torch

from mcdal.strategies.entropy import Entropy
from mcdal.values import Batch, Output


def test_entropy_is_minus_the_sum_of_p_log_p_and_certainty_comes_last():
    p = torch.tensor([[0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    score = (
        Entropy()
        .measure(Batch(tuple("abcd"), torch.empty(4, 0, 0, 0), output=Output(p.log(), torch.zeros(4, 2))))
        .score
    )
    expected = [-sum(x * math.log(x) for x in row if x > 0) for row in p.tolist()]
    torch.testing.assert_close(score, torch.tensor(expected))
    assert score.argsort(descending=True).tolist() == [1, 0, 3, 2]  # 0 log 0 is 0, not NaN
