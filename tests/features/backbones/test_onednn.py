import math

import pytest
import torch

from mirip.features.backbones import onednn

DTYPES = [torch.float32, torch.bfloat16]


def skip_where_it_is_not_used(dtype: torch.dtype) -> None:
    if not onednn.is_faster(dtype):
        pytest.skip(f"on this processor {dtype} goes by torch's own products")


def tokens(n: int, n_tokens: int, heads: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Query, key and value as a block cuts them out of one product: none of them lies in one piece."""
    generator = torch.Generator().manual_seed(0)
    joined = torch.randn(n, n_tokens, 3 * heads * width, generator=generator).to(dtype)
    return tuple(part.view(n, n_tokens, heads, width).transpose(1, 2) for part in joined.chunk(3, dim=2))


@pytest.mark.parametrize("width", [8, 64, 72])
@pytest.mark.parametrize("n_tokens", [50, 257, 400, 401, 512, 1370])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)])
def test_attention_is_attention(width: int, n_tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    """Against float64; the error is the rounding of the type, as it is of torch's own."""
    skip_where_it_is_not_used(dtype)
    query, key, value = tokens(2, n_tokens, 2, width, dtype)
    weights = (query.double() @ key.double().transpose(2, 3) / width**0.5).softmax(dim=3)
    expected = weights @ value.double()
    attended = onednn.attend(query, key, value)
    assert attended.shape == query.shape
    assert attended.dtype == dtype
    assert float((attended - expected).norm() / expected.norm()) < tolerance


def test_logits_stay_float32_where_bfloat16_could_not_tell_them_apart() -> None:
    """Of 64 and 64.1 the second weighs more; in bfloat16 they are one number."""
    skip_where_it_is_not_used(torch.bfloat16)
    query = torch.zeros(1, 1, 400, 64, dtype=torch.bfloat16)
    query[..., 0], query[..., 1] = 512, 0.8
    key = torch.zeros_like(query)
    key[:, :, :2, 0], key[:, :, 1, 1] = 1, 1
    value = torch.zeros_like(query)
    value[:, :, 1] = 1
    weight = float(onednn.attend(query, key, value)[0, 0, 0, 0])
    assert weight == pytest.approx(1 / (1 + math.exp(-0.1)), abs=5e-3)  # 0.525


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_used_on_a_cpu_for_more_than_a_few_tokens(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_faster", lambda dtype: True)
    assert onednn.attends_faster(torch.empty(1, 1, 257, 64, dtype=dtype))
    assert not onednn.attends_faster(torch.empty(1, 1, 5, 64, dtype=dtype))
    assert not onednn.attends_faster(torch.empty(1, 1, 2917, 64, dtype=dtype, device="meta"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_layer_is_the_layer(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((2, 50, 96), (40, 96), (40,)))
    layer = onednn.Linear(weight, bias, dtype)
    expected = layer(inputs.to(dtype))
    layer.pack()
    layer.pack()  # a second time changes nothing
    torch.testing.assert_close(layer(inputs.to(dtype)), expected)
