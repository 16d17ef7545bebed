"""The frozen backbone: transformed images in, one embedding for each out."""

import os
import platform
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from mirip.errors import BackboneError
from mirip.features.backbones.frozen_dinov2 import FrozenDinov2, Tokens
from mirip.features.backbones.recipe import ResolvedRecipe, declared_recipe, is_rewritten, resolve
from mirip.features.backbones.stock import (
    StockBackbone,
    lacking_tensors,
    load_stock_backbone,
    one_line_errors,
    stock_backbone_without_weights,
)
from mirip.features.backbones.transform import ImageTransform
from mirip.features.backbones.weights import CONFIG, read_json, weight_files
from mirip.params import Recipe

# Environment variables by which libraries compute float32 in a smaller type, and the values by which they do not.
_PRECISION_VARIABLES = {
    "ONEDNN_DEFAULT_FPMATH_MODE": ("STRICT",),
    "DNNL_DEFAULT_FPMATH_MODE": ("STRICT",),
    "NVIDIA_TF32_OVERRIDE": ("0",),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": ("0",),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """Return the device that "auto" (CUDA where there is one), "cpu" or "cuda" stands for.

    Raises:
        BackboneError: CUDA is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(
            f"device is {device!r} and torch {torch.__version__} sees no CUDA device", "use auto or cpu"
        )
    return torch.device(device)


def hardware(device: torch.device) -> str:
    """Describe a device, e.g. "NVIDIA H200" or "Intel(R) Xeon(R) Processor, 2 threads"."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


class DINOv2FeatureExtractor(nn.Module):
    """A frozen vision backbone of Hugging Face: (B, 3, S, S) -> (B, D), by default dinov2-large with D = 1024.

    Nothing is loaded, looked for or downloaded until it is first used.

    Args:
        backbone: hub id, or a folder in Hugging Face format.
        revision: of a hub id: commit, tag or branch.
        weights_sha256: refuse any other weights.
        image_size: upper bound of the side of the square that the backbone sees, in pixels.
        fit: pad (letterbox), squash, or native (as many pixels as that square has, in the image's own shape).
        interpolation: bicubic or bilinear.
        pooling: cls (the backbone's pooled output; of a ViT the CLS token after the last layer norm), mean (of the
            patch tokens), cls+mean (both, one after the other), or cls_last_<n> (the CLS tokens of a DINOv2's
            last n blocks, each after the last layer norm; n * D wide).
        normalize: none, or l2 for embeddings of length 1.
        compute_dtype: float32 or bfloat16.
        stored_dtype: float16 or float32, what the cache keeps; part of the recipe, without effect here.
        device: auto, cpu or cuda.
    """

    def __init__(
        self,
        backbone: str = "facebook/dinov2-large",
        revision: str | None = None,
        *,
        weights_sha256: str | None = None,
        image_size: int = 768,
        fit: Literal["pad", "squash", "native"] = "pad",
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
        pooling: str = "cls",
        normalize: Literal["none", "l2"] = "none",
        compute_dtype: Literal["float32", "bfloat16"] = "bfloat16",
        stored_dtype: Literal["float16", "float32"] = "float16",
        device: str = "auto",
    ) -> None:
        super().__init__()
        self.recipe = Recipe(
            backbone=backbone,
            revision=revision,
            weights_sha256=weights_sha256,
            image_size=image_size,
            fit=fit,
            interpolation=interpolation,
            pooling=pooling,
            normalize=normalize,
            compute_dtype=compute_dtype,
            stored_dtype=stored_dtype,
        )
        self._device_name = device
        self.model: FrozenDinov2 | StockBackbone | None = None

    @classmethod
    def from_recipe(cls, recipe: Recipe, device: str = "auto") -> Self:
        """Make the extractor of a recipe."""
        return cls(**recipe.model_dump(), device=device)

    @classmethod
    def from_resolved(cls, resolved: ResolvedRecipe, device: str = "auto") -> Self:
        """Make the extractor of a recipe whose backbone is found already: it is not looked for again."""
        extractor = cls.from_recipe(declared_recipe(resolved.to_dict()), device)
        extractor.resolved = resolved
        return extractor

    @cached_property
    def resolved(self) -> ResolvedRecipe:
        """The recipe with its backbone found and hashed, not loaded; raises BackboneError."""
        return resolve(self.recipe)

    @cached_property
    def transform(self) -> ImageTransform:
        """What turns uint8 (H, W, 3) into what `forward` takes."""
        self._check_computable()
        found = self.resolved
        return ImageTransform(found.size_px, found.fit, found.interpolation, found.mean, found.std, found.patch_px or 1)

    @cached_property
    def embedding_dim(self) -> int:
        """The width of an embedding, found without loading weights; raises BackboneError."""
        self._check_computable()
        found = self.resolved
        config = read_json(found.folder / CONFIG)
        if is_rewritten(found.model_type, config):
            if "patch_size" not in config:
                raise BackboneError(f"{found.folder}/config.json has no patch_size", "add it (14)")
            if (blocks := int(config.get("num_hidden_layers", 12))) < self._n_blocks:
                raise BackboneError(
                    f"pooling {found.pooling} asks for more, {found.backbone} has {blocks} blocks",
                    f"use cls_last_{blocks} at most",
                )
            n_parts = 2 if found.pooling == "cls+mean" else self._n_blocks
            return n_parts * int(config.get("hidden_size", 768))
        model = stock_backbone_without_weights(found)
        shape = (found.size_px - found.patch_px, found.size_px) if found.fit == "native" else (found.size_px,) * 2
        with one_line_errors(found), torch.inference_mode():
            return self._pooled(model, torch.empty(1, 3, *shape, device="meta")).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        if self.model is not None:
            return next(self.model.parameters()).device
        return resolve_device(self._device_name)

    def load(self) -> nn.Module:
        """Load the backbone, once, and return it.

        Raises:
            BackboneError: it cannot be found, is not the one pinned, or is not one that this class can use.
        """
        self._check_computable()
        if self.model is None:
            device = resolve_device(self._device_name)
            _ = self.embedding_dim  # says at once whether the backbone can do what is asked of it
            found, dtype = self.resolved, _DTYPES[self.recipe.compute_dtype]
            config = read_json(found.folder / CONFIG)
            rewritten = is_rewritten(found.model_type, config)
            model = _load_dinov2(found, config, dtype) if rewritten else load_stock_backbone(found, dtype)
            self.model = model.to(device)
            if isinstance(model, FrozenDinov2) and device.type == "cpu":
                model.pack()
        return self.model

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the backbone is frozen."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: (B, 3, H, W), uint8 pixels that `transform.fitted` made, or float32 from `transform` itself.

        Returns:
            (B, D) float32 on the backbone's device.

        Raises:
            BackboneError: see `load`.
        """
        model = self.load()
        with torch.inference_mode():
            embeddings = self._pooled(model, images.to(self.device))
            if self.recipe.normalize == "l2":
                embeddings = F.normalize(embeddings, dim=1)
        return embeddings.clone()  # an ordinary tensor, so that a head can be trained on it

    def _check_computable(self) -> None:
        if self.recipe.imported:
            raise BackboneError(
                f"the features of {self.recipe.backbone} were imported, Mirip cannot compute them for new images",
                "use a recipe with a backbone, or `mirip cache import` for images of the project",
            )
        if self.recipe.compute_dtype == "float32" and (setting := _reduced_precision()):
            raise BackboneError(
                f"the recipe computes in float32, and {setting} has it computed with fewer digits",
                "undo that, or use compute_dtype bfloat16",
            )

    @property
    def _n_blocks(self) -> int:
        """How many blocks the CLS token is taken of."""
        pooling = self.recipe.pooling
        return int(pooling.removeprefix("cls_last_")) if pooling.startswith("cls_last_") else 1

    def _pooled(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        pooling = self.recipe.pooling
        tokens: Tokens = model(images, last=self._n_blocks, patches="mean" in pooling)
        parts = [] if pooling == "mean" else [tokens.cls.float().flatten(1)]
        if tokens.patches is not None:
            parts.append(tokens.patches.float().mean(dim=1))
        return torch.cat(parts, dim=1)


def _reduced_precision() -> str:
    """Return a setting of this process that has float32 computed in a smaller type; "" where there is none."""
    for name, plain in _PRECISION_VARIABLES.items():
        if (value := os.environ.get(name, "")).upper() not in ("", *plain):
            return f"{name}={value}"
    for place in ("mkldnn", "cuda"):
        matmul: Any = getattr(torch.backends, place).matmul
        if (value := matmul.fp32_precision) in ("bf16", "tf32"):
            return f"torch.backends.{place}.matmul.fp32_precision {value} (torch.set_float32_matmul_precision)"
    return ""


def _load_dinov2(found: ResolvedRecipe, config: dict[str, Any], dtype: torch.dtype) -> FrozenDinov2:
    with one_line_errors(found):
        tensors: dict[str, torch.Tensor] = {}
        for path in weight_files(found.folder):
            tensors |= load_file(path)
        try:
            model = FrozenDinov2(tensors, config, found.mean, found.std, dtype)
        except KeyError as error:
            raise lacking_tensors(found, str(error.args[0])) from None
        with torch.inference_mode():
            model(torch.zeros(1, 3, found.patch_px, found.patch_px, dtype=torch.uint8))  # do the shapes fit together?
    return model
