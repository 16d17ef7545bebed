"""A backbone folder in Hugging Face format with the architecture of a DINOv2 and seeded random weights."""

import json
from pathlib import Path
from typing import Any

import torch

ARCHITECTURES: dict[str, dict[str, int]] = {
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28},
}
PATCH_PX = 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_backbone(folder: Path, architecture: str, size_px: int) -> Path:
    """Write weights, config.json and preprocessor_config.json for squares of `size_px` into `folder`, and return it.

    The weights are noise of deviation 0.02, LayerScale and the scales of norms about 1: some seconds for 300 million.
    """
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):  # its own way to draw weights takes a minute
        model = Dinov2Model(Dinov2Config(**ARCHITECTURES[architecture], patch_size=PATCH_PX))
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            near_one = name.endswith("lambda1") or ("norm" in name and name.endswith("weight"))
            parameter.normal_(float(near_one), 0.02, generator=generator)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_preprocessor(size_px), indent=2) + "\n")
    return folder


def flop_of_image(architecture: str, size_px: int) -> float:
    """Return the floating point operations of one image: 2 for each product of linear layers and attention."""
    sizes = ARCHITECTURES[architecture]
    width, patches = sizes["hidden_size"], (size_px // PATCH_PX) ** 2
    tokens = patches + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    return 2.0 * (sizes["num_hidden_layers"] * block + 3 * PATCH_PX**2 * width * patches)


def _preprocessor(size_px: int) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": size_px, "width": size_px},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
