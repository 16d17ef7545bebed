"""The frozen backbone: transformed pictures in, one embedding a picture out."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from mirip.errors import BackboneError
from mirip.features.recipe import ResolvedRecipe, resolve
from mirip.features.transform import ImageTransform
from mirip.params import Recipe

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """Return the device that "auto" (CUDA where there is one), "cpu" or "cuda" stands for.

    Raises:
        BackboneError: CUDA is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BackboneError(f"device is {device!r} and torch {torch.__version__} sees no CUDA device: use auto or cpu")
    return torch.device(device)


class DINOv2FeatureExtractor(nn.Module):
    """A frozen vision backbone of Hugging Face: (B, 3, S, S) -> (B, D), by default dinov2-large with D = 1024.

    Nothing is loaded, looked for or downloaded until it is first used.

    Args:
        backbone: hub id, or a folder in Hugging Face format.
        revision: of a hub id: commit, tag or branch.
        weights_sha256: refuse any other weights.
        image_size: upper bound of the side of the square that the backbone sees, in pixels.
        fit: pad (letterbox) or squash.
        interpolation: bicubic or bilinear.
        pooling: cls (the backbone's pooled output; of a ViT the CLS token after the last layer norm), mean (of the
            patch tokens), or cls+mean (both, one after the other).
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
        fit: Literal["pad", "squash"] = "pad",
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
        pooling: Literal["cls", "mean", "cls+mean"] = "cls",
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
        self.model: nn.Module | None = None

    @classmethod
    def from_recipe(cls, recipe: Recipe, device: str = "auto") -> Self:
        """Make the extractor of a recipe."""
        return cls(**recipe.model_dump(), device=device)

    @cached_property
    def resolved(self) -> ResolvedRecipe:
        """The recipe with its backbone found and hashed, not loaded; raises BackboneError."""
        return resolve(self.recipe)

    @cached_property
    def transform(self) -> ImageTransform:
        """What turns uint8 (H, W, 3) into the (3, S, S) that `forward` takes."""
        found = self.resolved
        return ImageTransform(found.size_px, found.fit, found.interpolation, found.mean, found.std)

    @cached_property
    def embedding_dim(self) -> int:
        """D, found by a pass without data or weights; raises BackboneError."""
        with _quiet_transformers(), _one_line_errors(self.resolved), torch.device("meta"), torch.inference_mode():
            from transformers import AutoConfig, AutoModel

            config = AutoConfig.from_pretrained(self.resolved.folder, local_files_only=True)
            side, patch_size = self.resolved.size_px, getattr(config, "patch_size", None)
            if isinstance(patch_size, int) and side % patch_size:  # config.json left it to the library's default
                raise BackboneError(f"{self.resolved.folder}/config.json has no patch_size: add it ({patch_size})")
            pooled = self._pooled(AutoModel.from_config(config).eval(), torch.empty(1, 3, side, side))
        return pooled.shape[1]

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
        if self.model is None:
            device = resolve_device(self._device_name)
            _ = self.embedding_dim  # says at once whether the backbone can do what is asked of it
            model = _load_frozen(self.resolved, _DTYPES[self.recipe.compute_dtype])
            self.model = model.to(device)
        return self.model

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the backbone is frozen."""
        return super().train(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed transformed images, (B, 3, S, S) float32, as (B, D) float32 on the backbone's device.

        Raises:
            BackboneError: see `load`.
        """
        model = self.load()
        with torch.inference_mode():
            embeddings = self._pooled(model, images.to(self.device, _DTYPES[self.recipe.compute_dtype]))
            if self.recipe.normalize == "l2":
                embeddings = F.normalize(embeddings, dim=1)
        return embeddings.clone()  # an ordinary tensor, so that a head can be trained on it

    def _pooled(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        outputs = model(pixel_values=images)
        parts = {"cls": [_cls], "mean": [_patch_mean], "cls+mean": [_cls, _patch_mean]}[self.recipe.pooling]
        return torch.cat([part(self.resolved, model, outputs) for part in parts], dim=1)


def _cls(found: ResolvedRecipe, model: nn.Module, outputs: Any) -> torch.Tensor:
    """Return the pooled output, (B, D) float32."""
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is not None:
        return torch.as_tensor(pooled).flatten(1).to(torch.float32)  # convolutional ones give (B, D, 1, 1)
    tokens: torch.Tensor = outputs.last_hidden_state
    if tokens.ndim != 3:
        raise BackboneError(f"{found.backbone} ({found.model_type}) has no pooled output: choose another backbone")
    return tokens[:, 0].to(torch.float32)


def _patch_mean(found: ResolvedRecipe, model: nn.Module, outputs: Any) -> torch.Tensor:
    """Return the mean of the patch tokens, (B, D) float32."""
    tokens: torch.Tensor = outputs.last_hidden_state  # (B, 1 + registers + patches, D)
    patch_size = getattr(model.config, "patch_size", None)
    n_patches = (found.size_px // patch_size) ** 2 if isinstance(patch_size, int) else 0
    if tokens.ndim != 3 or not 0 < n_patches <= tokens.shape[1]:
        raise BackboneError(
            f"pooling {found.pooling} needs patch tokens, which {found.backbone} ({found.model_type}) does not have: "
            "use pooling cls"
        )
    return tokens[:, -n_patches:].to(torch.float32).mean(dim=1)


def _load_frozen(found: ResolvedRecipe, dtype: torch.dtype) -> nn.Module:
    with _quiet_transformers(), _one_line_errors(found):
        from transformers import AutoModel

        model, report = AutoModel.from_pretrained(
            found.folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers
        raise BackboneError(
            f"the weights of {found.backbone} lack {len(missing)} tensors that a {found.model_type} needs, e.g. "
            f"{missing[0]}: choose a checkpoint of the whole backbone"
        )
    module: nn.Module = model.eval().requires_grad_(False)
    return module


@contextmanager
def _one_line_errors(found: ResolvedRecipe) -> Iterator[None]:
    try:
        yield
    except (BackboneError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers and safetensors raise nearly anything on a file they cannot use
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackboneError(
            f"{found.backbone} ({found.model_type}) cannot be loaded as a vision backbone: {reason}; download it "
            "again or choose another"
        ) from None


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
