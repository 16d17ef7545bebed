"""A small Dinov2 with random weights, in Hugging Face format: it lets the pipeline run where no hub can be reached.

It has learnt nothing. Its scales are chosen so that the pooled output still tells images apart: the patch
filters are band-passed noise, the first block's MLP makes random features of each patch's texture, and in the
second block the class token gathers them over the page.
"""

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_HIDDEN = 1024
_PATCH_PX = 14
_IMAGE_PX = 168
_HEADS = 16
# A seed of its own: the backbone stays the same whatever images the sample is made of.
_SEED = 20_240_229

# LayerScale of (attention, MLP) in each block: first every patch for itself, then the class token over all.
_LAYER_SCALES = ((0.1, 5.0), (3.0, 0.3))
_POSITION_DEVIATION = 0.3
_MLP_GAIN, _MLP_BIAS = 2.0, 0.5
# Passes of the kernel (1, 2, 1) / 4 that bound each band of filters, finest first, and what brings the
# band's deviation to about 1.
_BANDS = ((0, 2, 1.24), (1, 5, 4.1), (5, 18, 10.6), (18, 72, 25.8))
_COLOUR_SHARE = 0.3
_TONE_DEVIATION = 0.005


def write_backbone(folder: Path) -> int:
    """Write config.json, preprocessor_config.json and model.safetensors into `folder`; return their size in bytes.

    The weights carry the names of facebook's Dinov2 checkpoints, which every version of transformers reads. All
    arithmetic is elementwise on uniform draws, so that the bytes are the same on every machine.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(), indent=2) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessor(), indent=2) + "\n")
    (folder / "model.safetensors").write_bytes(save(_weights(), metadata={"format": "pt"}))
    return sum(file.stat().st_size for file in folder.iterdir())


def _config() -> dict[str, Any]:
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": _HIDDEN,
        "num_hidden_layers": len(_LAYER_SCALES),
        "num_attention_heads": _HEADS,
        "mlp_ratio": 1,
        "hidden_act": "gelu",
        "patch_size": _PATCH_PX,
        "image_size": _IMAGE_PX,
        "num_channels": 3,
        "qkv_bias": True,
        "layerscale_value": 1.0,
        "drop_path_rate": 0.0,
        "use_swiglu_ffn": False,
        "layer_norm_eps": 1e-6,
        "dtype": "float32",
    }


def _preprocessor() -> dict[str, Any]:
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": _IMAGE_PX},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    }


def _weights() -> dict[str, NDArray[np.float32]]:
    """Return every tensor of the checkpoint under its name."""
    rng = np.random.Generator(np.random.PCG64(_SEED))

    def noise(*shape: int, deviation: float) -> NDArray[np.float32]:
        return (_uniform(rng, *shape) * deviation).astype(np.float32)

    def constant(value: float, *shape: int) -> NDArray[np.float32]:
        return np.full(shape, value, np.float32)

    positions = 1 + (_IMAGE_PX // _PATCH_PX) ** 2
    weights = {
        "embeddings.cls_token": noise(1, 1, _HIDDEN, deviation=0.5),
        "embeddings.mask_token": constant(0, 1, _HIDDEN),
        "embeddings.position_embeddings": noise(1, positions, _HIDDEN, deviation=_POSITION_DEVIATION),
        "embeddings.patch_embeddings.projection.weight": _patch_filters(rng),
        "embeddings.patch_embeddings.projection.bias": constant(0, _HIDDEN),
    }
    square, unit = (_HIDDEN, _HIDDEN), 1 / sqrt(_HIDDEN)
    for layer, scales in enumerate(_LAYER_SCALES):
        block = f"encoder.layer.{layer}."
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            weights[f"{block}{name}.weight"] = noise(*square, deviation=unit)
            weights[f"{block}{name}.bias"] = constant(0, _HIDDEN)
        weights[f"{block}attention.output.dense.weight"] = noise(*square, deviation=unit)
        weights[f"{block}attention.output.dense.bias"] = constant(0, _HIDDEN)
        weights[f"{block}mlp.fc1.weight"] = noise(*square, deviation=_MLP_GAIN * unit)
        weights[f"{block}mlp.fc1.bias"] = noise(_HIDDEN, deviation=_MLP_BIAS)
        weights[f"{block}mlp.fc2.weight"] = noise(*square, deviation=unit)
        weights[f"{block}mlp.fc2.bias"] = constant(0, _HIDDEN)
        for number, scale in enumerate(scales, start=1):
            weights[f"{block}norm{number}.weight"] = constant(1, _HIDDEN)
            weights[f"{block}norm{number}.bias"] = constant(0, _HIDDEN)
            weights[f"{block}layer_scale{number}.lambda1"] = constant(scale, _HIDDEN)
    weights["layernorm.weight"] = constant(1, _HIDDEN)
    weights["layernorm.bias"] = constant(0, _HIDDEN)
    return weights


def _uniform(rng: np.random.Generator, *shape: int) -> Doubles:
    """Draw uniform noise of mean 0 and deviation 1."""
    return (rng.random(shape) * 2 - 1) * sqrt(3)


def _patch_filters(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw filters (1024, 3, 14, 14), a quarter of them in each band; a patch's plain tone hardly moves them.

    Paper is bright and bare: filters that let its tone through would see little else.
    """
    noise = _uniform(rng, _HIDDEN, 3, _PATCH_PX, _PATCH_PX)
    shared = (noise[:, :1] + noise[:, 1:2] + noise[:, 2:]) / sqrt(3)
    noise = _COLOUR_SHARE * noise + (1 - _COLOUR_SHARE) * shared
    share = _HIDDEN // len(_BANDS)
    for band, (fine, coarse, gain) in enumerate(_BANDS):
        part = noise[band * share : (band + 1) * share]
        part[:] = (_smooth(part, fine) - _smooth(part, coarse)) * gain
    # A sum in a fixed order: numpy's own differs between processors in the last bit.
    total = np.zeros((_HIDDEN, 1, 1, 1))
    for value in noise.reshape(_HIDDEN, -1).T:
        total += value.reshape(-1, 1, 1, 1)
    noise = noise - total / noise[0].size + _TONE_DEVIATION * _uniform(rng, _HIDDEN, 1, 1, 1)
    filters: NDArray[np.float32] = (noise / _PATCH_PX).astype(np.float32)
    return filters


def _smooth(field: Doubles, passes: int) -> Doubles:
    """Blur the last two axes by the kernel (1, 2, 1) / 4, `passes` times; everything beyond the border is 0."""
    for _ in range(passes):
        for axis in (-2, -1):
            across = np.moveaxis(field, axis, -1)
            blurred = across / 2
            blurred[..., 1:] += across[..., :-1] / 4
            blurred[..., :-1] += across[..., 1:] / 4
            field = np.moveaxis(blurred, -1, axis)
    return field
