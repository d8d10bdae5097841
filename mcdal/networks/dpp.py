"""A determinantal point process: how probable a subset is whose members are good and unlike each other."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def log_dpp(
    quality: Float[Tensor, " b"], x: Float[Tensor, "b d"], size: int, jitter: float = 1e-4
) -> Float[Tensor, ""]:
    """log P(S) = log det(L_S) - log det(L + I), with L_ij = q_i q_j <x_i, x_j> of vectors of length 1.

    S: the `size` samples of the largest quality, a constant; `jitter` on the diagonal of L_S keeps equal vectors finite.
    Kulesza and Taskar 2012, "Determinantal Point Processes for Machine Learning". Costs b^3 in a batch of b. In float64: more
    vectors than dimensions make L_S singular but for the jitter, and a determinant that rounding turns negative has no log.
    """
    rows = (quality[:, None] * F.normalize(x, dim=1)).double()
    kernel = rows @ rows.T
    subset = quality.detach().topk(min(size, len(quality))).indices
    chosen = kernel[subset][:, subset]
    one = torch.eye(len(quality), dtype=rows.dtype, device=x.device)
    log_p = torch.logdet(chosen + jitter * one[: len(subset), : len(subset)]) - torch.logdet(kernel + one)
    return log_p.to(x.dtype)
