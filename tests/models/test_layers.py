import pytest
import torch
from torch import nn

from mirip.models.layers import (
    DropoutStreams,
    Projector,
    ScoreHead,
    StackedLayerNorm,
    StackedLinear,
    StreamedDropout,
    clip_each_head,
    set_streams,
    stack_parameters,
)


def test_shapes_are_1024_to_256_to_1() -> None:
    embedding = Projector().eval()(torch.randn(5, 1024))
    assert embedding.shape == (5, 256)
    assert ScoreHead()(embedding).shape == (5, 1)


def test_hidden_sizes_are_512_and_64() -> None:
    widths = [layer.out_features for layer in Projector().layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [512, 256]
    assert [layer.out_features for layer in ScoreHead().layers if isinstance(layer, torch.nn.Linear)] == [64, 1]


def test_standardised_features_make_scale_and_offset_irrelevant() -> None:
    features = torch.randn(50, 8)
    torch.manual_seed(0)
    plain = Projector(8, 4, 3).eval()
    torch.manual_seed(0)
    moved = Projector(8, 4, 3).eval()
    plain.fit_standardizer(features)
    moved.fit_standardizer(1000 * features + 7)
    torch.testing.assert_close(plain(features), moved(1000 * features + 7), rtol=1e-3, atol=1e-4)


def test_a_constant_feature_does_not_blow_up() -> None:
    projector = Projector(3, 4, 2)
    projector.fit_standardizer(torch.tensor([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0]]))
    assert projector.feature_std.tolist() == pytest.approx([0.5, 1.0, 1.0])


N, B = 3, 7


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("plain", "stacked"),
    [
        (lambda: nn.Linear(6, 4), lambda: StackedLinear(N, 6, 4)),
        (lambda: nn.LayerNorm(6), lambda: StackedLayerNorm(N, 6)),
    ],
    ids=["linear", "layer norm"],
)
def test_a_slice_is_the_plain_layer(plain, stacked) -> None:
    layers, stack = [plain() for _ in range(N)], stacked()
    for layer in layers:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    stack_parameters(stack, layers)
    x = drawn(N, B, 6).requires_grad_()
    y = stack(x)
    (y * drawn(*y.shape, seed=1)).sum().backward()
    for k, layer in enumerate(layers):
        own = x[k].detach().clone().requires_grad_()
        expected = layer(own)
        (expected * drawn(*y.shape, seed=1)[k]).sum().backward()
        torch.testing.assert_close(y[k], expected)
        torch.testing.assert_close(x.grad[k], own.grad)
        torch.testing.assert_close(stack.weight.grad[k], layer.weight.grad)
        torch.testing.assert_close(stack.bias.grad[k], layer.bias.grad)


def test_the_same_rows_may_go_to_all_heads() -> None:
    stack = StackedLinear(N, 6, 4)
    x = drawn(B, 6)
    torch.testing.assert_close(stack(x), stack(x.expand(N, B, 6)))


def streams(rows: list[int]) -> DropoutStreams:
    return DropoutStreams([torch.Generator().manual_seed(k) for k in range(N)], rows)


def test_a_head_drops_what_it_drops_alone() -> None:
    """Through two layers, one after the other, as in a training with its seed."""
    stack = nn.Sequential(StreamedDropout(0.3), StreamedDropout(0.3)).train()
    set_streams(stack, streams([B] * N))
    y = stack(torch.ones(N, B, 50))
    for k in range(N):
        set_streams(stack, DropoutStreams([torch.Generator().manual_seed(k)], [B]))
        assert torch.equal(y[k], stack(torch.ones(B, 50)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_rest_scaled_up(p) -> None:
    layer = StreamedDropout(p).train()
    set_streams(layer, DropoutStreams([torch.Generator().manual_seed(0)], [400]))
    y = layer(torch.ones(400, 501))
    assert float((y == 0).double().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 200_400) ** 0.5)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    # Units of one draw, and of rows below each other, fall independently.
    dropped = (y == 0).double() - p
    for shift in (1, 2, 501):
        flat = dropped.flatten()
        assert abs(float((flat[shift:] * flat[:-shift]).mean())) < 4 * p * (1 - p) / 200_000**0.5


def test_without_streams_it_is_the_dropout_of_torch() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = nn.Dropout(0.3).train()(torch.ones(B, 50))
        torch.manual_seed(3)
        assert torch.equal(StreamedDropout(0.3).train()(torch.ones(B, 50)), expected)


def test_padding_draws_nothing() -> None:
    stack = StreamedDropout(0.3).train()
    set_streams(stack, streams([B, 2, 3]))
    padded = [stack(torch.ones(N, B, 50)) for _ in range(2)]
    set_streams(stack, streams([2] * N))
    short = [stack(torch.ones(N, 2, 50)) for _ in range(2)]
    for one, other in zip(padded, short, strict=True):
        assert torch.equal(one[1, :2], other[1])
    assert not padded[0][1, 2:].any()


def test_nothing_is_dropped_in_evaluation() -> None:
    assert torch.equal(StreamedDropout(0.9).eval()(torch.ones(N, B, 5)), torch.ones(N, B, 5))


def test_the_gradient_of_each_head_is_clipped_by_its_own_norm() -> None:
    stack = StackedLinear(N, 6, 4)
    scale = torch.tensor([0.001, 1.0, 100.0])
    for parameter in stack.parameters():
        parameter.grad = drawn(*parameter.shape) * scale.view(-1, *[1] * (parameter.ndim - 1))
    before = [parameter.grad.clone() for parameter in stack.parameters()]
    clip_each_head(list(stack.parameters()), 1.0)
    for k in range(N):
        alone = nn.Linear(6, 4)
        alone.weight.grad, alone.bias.grad = (gradient[k].clone() for gradient in before)
        nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
        torch.testing.assert_close(stack.weight.grad[k], alone.weight.grad)
        torch.testing.assert_close(stack.bias.grad[k], alone.bias.grad)
