"""The gradient of the last layer, were the model's own answer the label: what BADGE tells samples apart by."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mcdal.values import Measurement, Output


def last_layer_gradient(output: Output) -> Measurement:
    """g = (p - onehot(y^)) (x) z of each sample.

    One class a sample: its factors, class probabilities p and features z. Over space: g itself, C x d numbers, the mean over the
    places that have features; p - onehot(y^) of the pixels is averaged over what each place covers. Class weights do not count.
    """
    p = output.logits.softmax(1)
    if p.ndim == 2:
        return Measurement(vector=output.features, probabilities=p)
    answer = p.argmax(1, keepdim=True)
    residual = p.scatter_add(1, answer, p.new_full((1,), -1).expand_as(answer))
    height, width = output.features.shape[2:]
    residual = F.adaptive_avg_pool2d(residual, (height, width)).flatten(2)
    z = output.features.flatten(2).to(residual.dtype)
    with torch.autocast(z.device.type, enabled=False):  # which would multiply in bfloat16
        gradient: Float[Tensor, "b c d"] = residual @ z.transpose(1, 2) / z.shape[2]
    return Measurement(vector=gradient.flatten(1))
