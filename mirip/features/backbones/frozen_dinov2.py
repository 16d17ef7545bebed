"""DINOv2 rewritten for inference alone: the function of transformers' Dinov2Model, several times faster.

What is constant in a frozen model is worked out once: LayerScale goes into the weights before it, query, key and
value become one product, mean and deviation go into the patch projection, which then takes 8-bit pixels, and the
position embeddings are interpolated once a size. Where only the CLS token is asked for, the last block computes no
other. In float32 the output is that of the stock model within 1e-5.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023; registers: Darcet et al.,
"Vision Transformers Need Registers", 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel

from mirip.features.backbones.onednn import Linear, attend, attends_faster

# Without cuDNN's attention: before 9.15.1 it is wrong at lengths that 128 does not divide, such as 2917 of 756 px.
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

Tensors = Mapping[str, torch.Tensor]


class Tokens(NamedTuple):
    """What the backbone makes of a batch, after the last layer norm.

    Attributes:
        cls: (B, n, D), the CLS token after each of the last n blocks, the last one at the end.
        patches: (B, P, D) after the last block; None where they were not asked for.
    """

    cls: torch.Tensor
    patches: torch.Tensor | None


class FrozenDinov2(nn.Module):
    """A DINOv2 of any size, with or without registers and SwiGLU, for which `recipe.is_rewritten` is true.

    Args:
        tensors: of a checkpoint in Hugging Face format, by their names there, float32.
        config: its config.json, of which `recipe.READ_OF_REWRITTEN` names all that is read.
        mean, std: per channel, of pixels scaled to 0..1, that the backbone expects.
        dtype: of compute.

    Raises:
        KeyError: a tensor is missing; the message is its name.
    """

    def __init__(
        self,
        tensors: Tensors,
        config: Mapping[str, Any],
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        # Checkpoints of a task model carry the backbone under its own name.
        prefix = next(
            (p for p in ("", "dinov2.", "dinov2_with_registers.") if f"{p}embeddings.cls_token" in tensors), ""
        )
        found = {
            name.removeprefix(prefix): tensor.float() for name, tensor in tensors.items() if name.startswith(prefix)
        }
        heads, eps = config.get("num_attention_heads", 12), config.get("layer_norm_eps", 1e-6)
        self.dtype = dtype
        # Exact in bfloat16, as the pixels are; what margins are filled with, so that they are zero.
        shade = torch.tensor(mean).mul(255).round()
        scale = 255 * torch.tensor(std)
        self._buffer("shade", shade[:, None, None])
        self._buffer("scale", scale[:, None, None])
        self._buffer("offset", (255 * torch.tensor(mean) - shade)[:, None, None])
        kernel = found["embeddings.patch_embeddings.projection.weight"]  # (D, 3, p, p)
        self.patch_size = kernel.shape[-1]
        folded = kernel / scale[:, None, None]
        # W ((x - 255 mean) / (255 std)) = W' (x - shade) + W' (shade - 255 mean)
        moved = (folded * (shade - 255 * torch.tensor(mean))[:, None, None]).sum(dim=(1, 2, 3))
        self._buffer("kernel", folded.flatten(1).to(dtype))  # (D, 3 p p)
        self._buffer("patch_bias", found["embeddings.patch_embeddings.projection.bias"] + moved)
        self._buffer("position_table", found["embeddings.position_embeddings"])  # (1, 1 + side ** 2, D)
        first = found["embeddings.cls_token"] + self.position_table[:, :1]
        registers = found.get("embeddings.register_tokens", first[:, :0])
        self._buffer("first_tokens", torch.cat([first, registers], dim=1).to(dtype))  # (1, 1 + R, D)
        self._antialias = "embeddings.register_tokens" in found  # as the two stock models do it
        self._positions: dict[tuple[int, int, torch.device], torch.Tensor] = {}
        n_blocks = int(config.get("num_hidden_layers", 12))
        self.blocks = nn.ModuleList(_Block(found, f"encoder.layer.{i}.", heads, eps, dtype) for i in range(n_blocks))
        self.norm = _norm(found, "layernorm.", eps, dtype)
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor, *, last: int = 1, patches: bool = False) -> Tokens:
        """Run a batch.

        Args:
            images: (B, 3, H, W), uint8 pixels, or floats normalised by mean and std; sides are multiples of the patch.
            last: n, how many blocks the CLS token is wanted of.
            patches: whether the patch tokens are wanted.

        Returns:
            Tokens in the dtype of compute.
        """
        with sdpa_kernel(_ATTENTION):
            return self._run(self._embedded(images), last, patches)

    def pack(self) -> None:
        """Lay out the weights once for the products of a CPU; the backbone then stays there."""
        for layer in self.modules():
            if isinstance(layer, Linear) and layer is not self.blocks[-1].qkv:  # which is taken apart
                layer.pack()

    def _run(self, tokens: torch.Tensor, last: int, patches: bool) -> Tokens:
        cls = []
        for number, block in enumerate(self.blocks, start=1):
            is_last = number == len(self.blocks)
            # Nothing reads the last block's patch tokens then, so it computes one query instead of T.
            tokens = block(tokens, cls_only=is_last and not patches)
            if number > len(self.blocks) - last:
                cls.append(self.norm(tokens[:, :1]))
        return Tokens(torch.cat(cls, dim=1), self.norm(tokens[:, self.first_tokens.shape[1] :]) if patches else None)

    def _embedded(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images into the tokens of the first block, (B, 1 + R + P, D)."""
        if images.dtype == torch.uint8:
            values = images.to(self.dtype) - self.shade.to(self.dtype)
        else:
            values = (images.float() * self.scale + self.offset).to(self.dtype)
        n, _, height, width = values.shape
        size = self.patch_size
        rows, columns = height // size, width // size
        # A convolution whose stride is its kernel is one product of the cut patches.
        cut = values.view(n, 3, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5)
        flat = cut.reshape(n, rows * columns, 3 * size * size)  # (B, P, 3 p p)
        patches = F.linear(flat, self.kernel) + self._position(rows, columns)
        return torch.cat([self.first_tokens.expand(n, -1, -1), patches], dim=1)

    def _position(self, rows: int, columns: int) -> torch.Tensor:
        """Return position embedding and bias of the patches, (1, rows * columns, D)."""
        key = (rows, columns, self.position_table.device)
        if key not in self._positions:  # once for each shape: a recipe has one, `native` a few
            table = self.position_table[:, 1:]
            side = round(table.shape[1] ** 0.5)
            if (rows, columns) != (side, side):
                square = table.view(1, side, side, -1).permute(0, 3, 1, 2)
                table = F.interpolate(
                    square, size=(rows, columns), mode="bicubic", align_corners=False, antialias=self._antialias
                )
                table = table.flatten(2).transpose(1, 2)
            self._positions[key] = (table + self.patch_bias).to(self.dtype)
        return self._positions[key]

    def _buffer(self, name: str, tensor: torch.Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    kernel: torch.Tensor
    patch_bias: torch.Tensor
    position_table: torch.Tensor
    first_tokens: torch.Tensor
    shade: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor


class _Block(nn.Module):
    """Attention and MLP, each added to what came in; LayerScale is in the weights of `out` and `down`."""

    def __init__(self, found: Tensors, prefix: str, heads: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = _norm(found, prefix + "norm1.", eps, dtype)
        attention = prefix + "attention.attention."
        parts = [
            (found[f"{attention}{name}.weight"], found.get(f"{attention}{name}.bias"))
            for name in ("query", "key", "value")
        ]
        # One product (T, D) x (D, 3 D) instead of three; a backbone without bias gets one of zeros.
        weight = torch.cat([part for part, _ in parts])
        bias = torch.cat([torch.zeros(len(part)) if bias is None else bias for part, bias in parts])
        self.qkv = Linear(weight, bias, dtype)
        scale = found[prefix + "layer_scale1.lambda1"]
        self.out = _scaled_linear(found, prefix + "attention.output.dense.", scale, dtype)
        self.norm2 = _norm(found, prefix + "norm2.", eps, dtype)
        self.swiglu = f"{prefix}mlp.weights_in.weight" in found
        up, down = ("weights_in.", "weights_out.") if self.swiglu else ("fc1.", "fc2.")
        self.up = Linear(found[f"{prefix}mlp.{up}weight"], found[f"{prefix}mlp.{up}bias"], dtype)
        self.down = _scaled_linear(found, f"{prefix}mlp.{down}", found[prefix + "layer_scale2.lambda1"], dtype)

    def forward(self, tokens: torch.Tensor, cls_only: bool) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), or (B, 1, D) of the CLS token alone."""
        normed = self.norm1(tokens)
        width = tokens.shape[2]
        if cls_only:
            tokens = tokens[:, :1]
            query = F.linear(normed[:, :1], self.qkv.weight[:width], self.qkv.bias[:width])
            key, value = F.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=2)
        else:
            query, key, value = self.qkv(normed).chunk(3, dim=2)
        query, key, value = (self._by_head(part) for part in (query, key, value))
        attended = _attend(query, key, value)  # (B, heads, T or 1, D / heads)
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        hidden = self.up(self.norm2(tokens))
        if self.swiglu:
            gate, value = hidden.chunk(2, dim=2)  # (B, T, 2 H) -> twice (B, T, H)
            hidden = F.silu(gate) * value
        else:
            hidden = torch.ops.aten.gelu_(hidden)
        tokens += self.down(hidden)
        return tokens

    def _by_head(self, part: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    if query.shape[2] == 1 and query.device.type == "cpu":
        return _attend_by_one(query, key, value)
    if attends_faster(query):
        return attend(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


def _attend_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend by a single query, (B, heads, 1, E), to T keys and values, (B, heads, T, E).

    Without matrix products: on a CPU with several threads the bits of torch's fused attention, and of its batched
    products, depend at a single query on where in the batch an image stands.
    """
    logits = (query.float() * key.float()).sum(dim=3, keepdim=True) / query.shape[3] ** 0.5  # (B, heads, T, 1)
    attended: torch.Tensor = (logits.softmax(dim=2) * value.float()).sum(dim=2, keepdim=True)
    return attended.to(value.dtype)


def _scaled_linear(found: Tensors, name: str, scale: torch.Tensor, dtype: torch.dtype) -> Linear:
    return Linear(found[name + "weight"] * scale[:, None], found[name + "bias"] * scale, dtype)


def _norm(found: Tensors, name: str, eps: float, dtype: torch.dtype) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(found[name + "weight"]), eps=eps, device="meta")
    for part in ("weight", "bias"):
        setattr(layer, part, nn.Parameter(found[name + part].to(dtype), requires_grad=False))
    return layer
