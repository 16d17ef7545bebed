"""Linear layers and attention of a frozen model by oneDNN, where its products on a CPU are faster than torch's own.

Both are the same function, with logits and sums in float32. A sum may add in another order, and so the last bits differ
as they do between two versions of torch; within one build and number of threads they depend on nothing else.
"""

import itertools
import platform
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

_FEW_TOKENS = 300  # up to here torch's fused attention is as fast
_PART = 512  # queries whose logits are held at once


class Linear(nn.Module):
    """A linear layer for inference, (..., in) -> (..., out), that can be packed.

    torch lays out a bfloat16 weight for oneDNN again at every product, and multiplies float32 by MKL. Packed, a layer
    takes a fifth less time in bfloat16 and, on processors for which MKL is not made, half as long in float32.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(value.to(dtype), requires_grad=False) for value in (weight, bias))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in the type of the weight."""
        if self.weight.is_mkldnn:
            return _product(inputs, self.weight, self.bias)
        return F.linear(inputs, self.weight, self.bias)

    def pack(self) -> None:
        """Lay out the weight once; the layer then stays on the CPU."""
        if not self.weight.is_mkldnn and is_faster(self.weight.dtype):
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.data)
            self.weight = nn.Parameter(packed, requires_grad=False)


@cache
def is_faster(dtype: torch.dtype) -> bool:
    """Tell whether torch has oneDNN's products, they run here in that type, and are known to be faster.

    With a matrix unit (AMX) they gain nothing in batches of four or more.
    """
    has_matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    if has_matrix_unit or platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        one = torch.ones(16, 16, dtype=dtype)
        _product(one, torch.ops.mkldnn._reorder_linear_weight(one), one[0])
    except (AttributeError, RuntimeError):  # a build without these operators, or a processor without the type
        return False
    return True


def attends_faster(query: torch.Tensor) -> bool:
    """Tell whether `attend` is faster than torch's fused attention for queries of that shape, type and device."""
    return query.device.type == "cpu" and query.shape[2] > _FEW_TOKENS and is_faster(query.dtype)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return softmax(query key' / sqrt(E)) value, all (B, heads, T, E), in half the time of torch's attention.

    Logits and softmax are float32 in either type. They are held for a part of the queries at a time, so that memory
    grows with T and not with its square.
    """
    n, heads, n_tokens, width = query.shape
    attended = torch.empty(n, n_tokens, heads, width, dtype=value.dtype)
    for image, head in itertools.product(range(n), range(heads)):
        queries = query[image, head].float() / width**0.5  # (T, E)
        keys = key[image, head].float().contiguous()  # (T, E)
        values = value[image, head].T.contiguous()  # (E, T)
        results = torch.split(attended[image, :, head], _PART)
        for part, result in zip(torch.split(queries, _PART), results, strict=True):
            weights = _product(part, keys, None)  # (part, T)
            torch.softmax(weights, dim=1, out=weights)
            result.copy_(_product(weights.to(value.dtype), values, None))  # (part, E)
    return attended.transpose(1, 2)


def _product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., in), (out, in), (out) -> (..., out), in the type of all three."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result
