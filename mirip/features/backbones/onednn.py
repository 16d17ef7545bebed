"""Linear layers and attention of a frozen model by oneDNN, where its products on a CPU are faster than torch's own.

Both are the same function, with logits and sums in float32. A sum may add in another order, and so the last bits differ
as they do between two versions of torch; within one build and number of threads they depend on nothing else.
"""

import platform
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

_FEWEST_TOKENS = 50  # fewer were not measured
_FEW_TOKENS = 400  # up to here it is faster to hold the logits of all heads, above it of some queries of one head
_QUERIES = 512


class Linear(nn.Module):
    """A linear layer for inference, (..., in) -> (..., out), that can be packed.

    torch lays out a bfloat16 weight for oneDNN again at every product, and multiplies float32 by MKL. Packed, a layer
    takes a fifth less time in bfloat16. In float32 it takes half as long on an AMD processor, for which MKL is slow.
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
    """Tell whether products go by oneDNN: torch has them, they run here in that type, and there is no matrix unit.

    With a matrix unit (AMX) they gain nothing in batches of four or more. AMD's processors were measured; those of
    Intel without a matrix unit were not.
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
    return query.device.type == "cpu" and query.shape[2] >= _FEWEST_TOKENS and is_faster(query.dtype)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return softmax(query key' / sqrt(E)) value, all (B, heads, T, E).

    Logits and softmax are float32 in either type. Those of one image are held at once or, where tokens are many, those
    of some queries of one head: they stay in the processor's cache, and memory does not grow with the square of T.
    """
    n, heads, n_tokens, width = query.shape
    attended = torch.empty(n, n_tokens, heads, width, dtype=value.dtype)
    attend_in_image = _attend_by_heads if n_tokens <= _FEW_TOKENS else _attend_by_queries
    for image in range(n):
        attend_in_image(query[image], key[image], value[image], attended[image].transpose(0, 1))
    return attended.transpose(1, 2)


def _attend_by_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> None:
    """Attend in all heads of an image at once; all (heads, T, E)."""
    weights = torch.bmm(_scaled(query), key.float().transpose(1, 2))  # (heads, T, T)
    torch.softmax(weights, dim=2, out=weights)
    out.copy_(torch.bmm(weights.to(value.dtype), value))


def _attend_by_queries(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor) -> None:
    """Attend in one head after the other, some queries at a time; all (heads, T, E)."""
    for head in range(len(query)):
        keys, values = key[head].float().contiguous(), value[head].T.contiguous()  # (T, E), (E, T)
        queries = torch.split(_scaled(query[head]), _QUERIES)
        for some, result in zip(queries, torch.split(out[head], _QUERIES), strict=True):
            weights = _product(some.contiguous(), keys, None)  # (queries, T)
            torch.softmax(weights, dim=1, out=weights)
            result.copy_(_product(weights.to(value.dtype), values, None))  # (queries, E)


def _scaled(query: torch.Tensor) -> torch.Tensor:
    """Return queries (..., E) as float32, over the root of E."""
    scaled: torch.Tensor = query.float() / query.shape[-1] ** 0.5
    return scaled


def _product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., in), (out, in), (out) -> (..., out), in the type of all three; slow where rows are not contiguous."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result
