"""Any vision backbone that transformers' AutoModel loads, as it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mirip.errors import BackboneError
from mirip.features.backbones.frozen_dinov2 import Tokens
from mirip.features.backbones.recipe import ResolvedRecipe


class StockBackbone(nn.Module):
    """A model of transformers with the interface of `FrozenDinov2`.

    Args:
        model: what AutoModel gave.
        resolved: the recipe that it serves.
    """

    def __init__(self, model: nn.Module, resolved: ResolvedRecipe) -> None:
        super().__init__()
        self.model = model
        self._resolved = resolved
        for name, values in (("mean", resolved.mean), ("std", resolved.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor, *, last: int = 1, patches: bool = False) -> Tokens:
        """Run a batch.

        Args:
            images: (B, 3, H, W), uint8 pixels, or floats normalised by mean and std.
            last: of how many blocks the CLS token is wanted: 1, the others know of no agreed place for more.
            patches: whether the patch tokens are wanted.

        Returns:
            Tokens in the dtype of compute; `cls` is the pooled output where the model has one.

        Raises:
            BackboneError: the model has not what is asked for.
        """
        if images.dtype == torch.uint8:
            images = (images.float() / 255 - self.mean) / self.std
        outputs = self.model(pixel_values=images.to(_dtype_of(self.model)))
        if last > 1:
            raise self._lacks("the CLS token of several blocks")
        return Tokens(self._cls(outputs)[:, None], self._patches(outputs, images) if patches else None)

    def _cls(self, outputs: Any) -> torch.Tensor:
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is not None:
            return torch.as_tensor(pooled).flatten(1)  # convolutional ones give (B, D, 1, 1)
        tokens: torch.Tensor = outputs.last_hidden_state
        if tokens.ndim != 3:
            raise BackboneError(
                f"{self._resolved.backbone} ({self._resolved.model_type}) has no pooled output",
                "choose another backbone",
            )
        return tokens[:, 0]

    def _patches(self, outputs: Any, images: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = outputs.last_hidden_state  # (B, 1 + registers + P, D)
        size = self._resolved.patch_px
        n_patches = (images.shape[2] // size) * (images.shape[3] // size) if size else 0
        if tokens.ndim != 3 or not 0 < n_patches <= tokens.shape[1]:
            raise self._lacks("patch tokens")
        return tokens[:, -n_patches:]

    def _lacks(self, what: str) -> BackboneError:
        found = self._resolved
        return BackboneError(
            f"pooling {found.pooling} needs {what}, which {found.backbone} ({found.model_type}) does not have",
            "use pooling cls",
        )

    mean: torch.Tensor
    std: torch.Tensor


def load_stock_backbone(found: ResolvedRecipe, dtype: torch.dtype) -> StockBackbone:
    """Load a backbone, frozen.

    Raises:
        BackboneError: transformers cannot load it, or its weights are not whole.
    """
    with one_line_errors(found), _quiet_transformers():
        from transformers import AutoModel

        model, report = AutoModel.from_pretrained(
            found.folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers
        raise lacking_tensors(found, missing[0])
    return StockBackbone(model, found).eval().requires_grad_(False)


def stock_backbone_without_weights(found: ResolvedRecipe) -> StockBackbone:
    """Return the backbone on torch's meta device, to ask for shapes.

    Raises:
        BackboneError: transformers does not know it, or it needs a patch size that config.json does not name.
    """
    with one_line_errors(found), _quiet_transformers(), torch.device("meta"):
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(found.folder, local_files_only=True)
        patch_size = getattr(config, "patch_size", None)
        if isinstance(patch_size, int) and found.size_px % patch_size:  # left to the library's default
            raise BackboneError(f"{found.folder}/config.json has no patch_size", f"add it ({patch_size})")
        return StockBackbone(AutoModel.from_config(config), found).eval()


def lacking_tensors(found: ResolvedRecipe, name: str) -> BackboneError:
    """Return the error for weights that are not those of a whole backbone."""
    return BackboneError(
        f"the weights of {found.backbone} lack tensors that a {found.model_type} needs, e.g. {name}",
        "choose a checkpoint of the whole backbone",
    )


@contextmanager
def one_line_errors(found: ResolvedRecipe) -> Iterator[None]:
    """Raise BackboneError in place of nearly anything that libraries raise on a file they cannot use."""
    try:
        yield
    except (BackboneError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackboneError(
            f"{found.backbone} ({found.model_type}) cannot be loaded as a vision backbone ({reason})",
            "download it again or choose another",
        ) from None


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


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
