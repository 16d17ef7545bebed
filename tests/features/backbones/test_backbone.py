import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mirip.errors import BackboneError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, resolve_device
from mirip.params import Recipe


def extractor_of(recipe: Recipe, **changes: object) -> DINOv2FeatureExtractor:
    return DINOv2FeatureExtractor.from_recipe(recipe.model_copy(update=changes), "cpu")


def images(n: int = 3, side: int = 28) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def reference(folder: Path, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """CLS and the mean of the patch tokens after the last layer norm, by the plain model."""
    from transformers import Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.inference_mode():
        tokens = Dinov2Model.from_pretrained(folder).eval()(pixels).last_hidden_state
    logging.enable_progress_bar()
    return tokens[:, 0], tokens[:, 1:].mean(dim=1)


def test_construction_neither_looks_for_the_backbone_nor_loads_it() -> None:
    extractor = DINOv2FeatureExtractor("facebook/no-such-model")
    assert extractor.model is None
    with pytest.raises(BackboneError, match="facebook/no-such-model"):
        extractor(images())


def test_the_defaults_are_the_products() -> None:
    assert DINOv2FeatureExtractor().recipe == Recipe()


def test_pooling_cls_is_the_cls_token_after_the_last_layer_norm(recipe: Recipe, dinov2: Path) -> None:
    torch.testing.assert_close(extractor_of(recipe)(images()), reference(dinov2, images())[0])


def test_pooling_mean_is_the_mean_of_the_patch_tokens(recipe: Recipe, dinov2: Path) -> None:
    extractor = extractor_of(recipe, pooling="mean", image_size=42)
    torch.testing.assert_close(extractor(images(2, 42)), reference(dinov2, images(2, 42))[1])


def test_pooling_cls_mean_joins_both(recipe: Recipe, dinov2: Path) -> None:
    extractor = extractor_of(recipe, pooling="cls+mean")
    torch.testing.assert_close(extractor(images()), torch.cat(reference(dinov2, images()), dim=1))
    assert extractor.embedding_dim == 64


def test_pooling_of_the_last_blocks_joins_their_cls_tokens(recipe: Recipe) -> None:
    extractor, pixels = extractor_of(recipe, pooling="cls_last_2"), images()
    assert extractor.embedding_dim == 64
    assert torch.equal(extractor(pixels)[:, 32:], extractor_of(recipe)(pixels))


def test_more_blocks_than_there_are_is_refused(recipe: Recipe) -> None:
    with pytest.raises(BackboneError, match=r"pooling cls_last_3 .* has 2 blocks"):
        extractor_of(recipe, pooling="cls_last_3").load()


def test_pixels_and_their_normalised_values_give_the_same(recipe: Recipe) -> None:
    extractor = extractor_of(recipe)
    pixels = np.random.default_rng(0).integers(0, 256, size=(28, 28, 3), dtype=np.uint8)
    as_bytes = torch.from_numpy(extractor.transform.fitted(pixels)).permute(2, 0, 1)[None]
    torch.testing.assert_close(extractor(as_bytes), extractor(extractor.transform(pixels)[None]))


def test_l2_gives_embeddings_of_length_one(recipe: Recipe) -> None:
    torch.testing.assert_close(extractor_of(recipe, normalize="l2")(images()).norm(dim=1), torch.ones(3))


def test_bfloat16_computes_roughly_the_same_and_returns_float32(recipe: Recipe) -> None:
    exact, rough = extractor_of(recipe)(images()), extractor_of(recipe, compute_dtype="bfloat16")(images())
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.cosine_similarity(rough, exact).min() > 0.999


def test_the_width_is_known_without_loading(recipe: Recipe) -> None:
    extractor = extractor_of(recipe)
    assert extractor.embedding_dim == 32
    assert extractor.model is None


def test_the_backbone_is_frozen(recipe: Recipe) -> None:
    extractor = extractor_of(recipe)
    model = extractor.load()
    extractor.train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert extractor.load() is model


def test_a_head_can_be_trained_on_the_embeddings(recipe: Recipe) -> None:
    head = torch.nn.Linear(32, 1)
    head(extractor_of(recipe)(images())).sum().backward()
    assert head.weight.grad is not None


def test_an_image_has_the_same_bits_in_any_place_and_company_of_a_batch(recipe: Recipe) -> None:
    extractor, generator = extractor_of(recipe), torch.Generator().manual_seed(1)
    one = images(1)
    seen = set()
    for place in range(8):
        batch = torch.zeros(8, 3, 28, 28) if place % 2 else torch.randn(8, 3, 28, 28, generator=generator)
        batch[place] = one[0]
        seen.add(extractor(batch)[place].numpy().tobytes())
    assert len(seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_an_image_in_a_padded_batch_has_the_bits_that_it_has_in_a_full_one(
    make_dinov2: Callable[..., Path], tmp_path: Path, compute_dtype: str, device: str
) -> None:
    """As it comes when it is added later: with fewer others, at another place, black images behind it."""
    wide = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 112}
    recipe = Recipe(backbone=str(make_dinov2(tmp_path, **wide)), image_size=112, compute_dtype=compute_dtype)
    extractor, pixels = DINOv2FeatureExtractor.from_recipe(recipe, device), images(8, 112)
    full = extractor(pixels)
    for n in range(1, 8):
        padded = torch.zeros_like(pixels)
        padded[:n] = pixels[8 - n :]
        assert torch.equal(extractor(padded)[:n], full[8 - n :]), n


def test_loading_is_silent(recipe: Recipe, capfd: pytest.CaptureFixture[str]) -> None:
    extractor_of(recipe).load()
    assert capfd.readouterr() == ("", "")


def test_a_real_convolutional_backbone_gives_its_pooled_output(mobilenet: Path) -> None:
    extractor = DINOv2FeatureExtractor(str(mobilenet), image_size=224, compute_dtype="float32", device="cpu")
    embeddings = extractor(images(2, 224))
    assert embeddings.shape == (2, 1024)
    assert extractor.embedding_dim == 1024
    assert embeddings.std() > 0.1


@pytest.mark.parametrize(
    ("pooling", "what"),
    [("mean", "patch tokens"), ("cls+mean", "patch tokens"), ("cls_last_2", "the CLS token of several blocks")],
)
def test_pooling_that_the_backbone_cannot_do_is_refused(mobilenet: Path, pooling: str, what: str) -> None:
    extractor = DINOv2FeatureExtractor(str(mobilenet), image_size=224, pooling=pooling, device="cpu")
    with pytest.raises(BackboneError, match=f"needs {what}.*use pooling cls"):
        extractor.load()


def test_registers_are_no_patches(recipe: Recipe, tmp_path: Path) -> None:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4)).eval()
    model.save_pretrained(tmp_path / "registers")
    logging.enable_progress_bar()
    with torch.inference_mode():
        tokens = model(images()).last_hidden_state  # CLS, 4 registers, 4 patches
    embeddings = extractor_of(recipe, backbone=str(tmp_path / "registers"), pooling="mean")(images())
    torch.testing.assert_close(embeddings, tokens[:, 5:].mean(dim=1))


def test_weights_that_lack_a_tensor_are_refused(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(dinov2, tmp_path / "partial")
    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lack tensors that a dinov2 needs, e\.g\. layernorm\.weight"):
        extractor_of(recipe, backbone=str(folder)).load()


def test_weights_of_the_wrong_shape_are_refused(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(dinov2, tmp_path / "narrow")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.mlp.fc1.weight"] = tensors["encoder.layer.1.mlp.fc1.weight"][:, :16].contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="cannot be loaded"):
        extractor_of(recipe, backbone=str(folder)).load()


def test_damaged_weights_are_one_line(recipe: Recipe, dinov2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="cannot be loaded") as caught:
        extractor_of(recipe, backbone=str(folder)).load()
    assert "\n" not in str(caught.value)


def test_the_transform_fits_the_backbone(recipe: Recipe, make_dinov2: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_dinov2(tmp_path / "fine", patch_size=4)
    transform = extractor_of(recipe, backbone=str(folder), image_size=30).transform
    assert (transform.size_px, transform.fit, transform.interpolation) == (28, "pad", "bicubic")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_there_is_refused_with_advice() -> None:
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(BackboneError, match="use auto or cpu"):
        resolve_device("cuda")


def test_imported_features_cannot_be_computed_for_new_images() -> None:
    extractor = DINOv2FeatureExtractor("import:clip-v1", device="cpu")
    for attempt in (
        extractor.load,
        lambda: extractor.embedding_dim,
        lambda: extractor.transform,
        lambda: extractor(images()),
    ):
        with pytest.raises(
            BackboneError, match="of import:clip-v1 were imported, Mirip cannot compute them for new images"
        ):
            attempt()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("DNNL_DEFAULT_FPMATH_MODE", "any"),
        ("NVIDIA_TF32_OVERRIDE", "1"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
    ],
)
def test_float32_that_is_computed_with_fewer_digits_is_refused(
    recipe: Recipe, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BackboneError, match=f"computes in float32, and {name}={value}"):
        DINOv2FeatureExtractor.from_recipe(recipe).load()
    DINOv2FeatureExtractor.from_recipe(recipe.model_copy(update={"compute_dtype": "bfloat16"})).load()
    monkeypatch.setenv(name, {"BF16": "strict", "any": "STRICT"}.get(value, "0"))
    DINOv2FeatureExtractor.from_recipe(recipe).load()


def test_a_precision_of_torch_that_changes_later_is_refused_too(recipe: Recipe) -> None:
    extractor = DINOv2FeatureExtractor.from_recipe(recipe)
    extractor.load()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(BackboneError, match="set_float32_matmul_precision"):
            extractor(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))
    finally:
        torch.set_float32_matmul_precision("highest")
