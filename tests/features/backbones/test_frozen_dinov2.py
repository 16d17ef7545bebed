import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from mirip.features.backbones import onednn
from mirip.features.backbones.frozen_dinov2 import FrozenDinov2
from mirip.features.backbones.recipe import READ_OF_REWRITTEN, is_rewritten

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {
    "plain": {},
    "swiglu": {"use_swiglu_ffn": True},
    "registers": {"num_register_tokens": 4},
    "without qkv bias": {"qkv_bias": False},
    "another eps": {"layer_norm_eps": 1e-3},
}
SMALL = {"hidden_size": 384, "num_attention_heads": 6}
BASE = {"hidden_size": 768, "num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "num_attention_heads": 16}
GIANT = {"hidden_size": 1536, "num_attention_heads": 24, "use_swiglu_ffn": True}
# The true width and feed-forward, at all blocks or at all patches: what rounds differently in either would show there.
RECIPES = {
    "dinov2-small": (SMALL, 12, 518),
    "dinov2-base": (BASE, 12, 224),
    "dinov2-base at all patches": (BASE, 2, 518),
    "dinov2-large": (LARGE, 24, 224),
    "dinov2-large at all patches": (LARGE, 2, 756),
    "dinov2-giant": (GIANT, 4, 224),  # of forty, which are all the same
    "dinov2-giant at all patches": (GIANT, 1, 518),
}


class Pair(NamedTuple):
    """The stock model and its checkpoint."""

    stock: torch.nn.Module
    tensors: dict[str, torch.Tensor]
    config: dict[str, object]

    def frozen(self, dtype: torch.dtype = torch.float32) -> FrozenDinov2:
        """As it runs on a CPU."""
        model = self.unpacked(dtype)
        model.pack()
        return model

    def unpacked(self, dtype: torch.dtype = torch.float32) -> FrozenDinov2:
        """As it runs elsewhere."""
        return FrozenDinov2(self.tensors, self.config, MEAN, STD, dtype)

    def expected(self, pixels: torch.Tensor) -> torch.Tensor:
        """All tokens after the last layer norm."""
        with torch.inference_mode():
            tokens: torch.Tensor = self.stock(pixel_values=normalised(pixels)).last_hidden_state
        return tokens


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def make_pair(folder: Path, **options: object) -> Pair:
    """Save a DINOv2 whose every tensor matters, those that start as 0 or 1 too."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    tiny = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    registers = "num_register_tokens" in options
    config_class, model_class = (
        (Dinov2WithRegistersConfig, Dinov2WithRegistersModel) if registers else (Dinov2Config, Dinov2Model)
    )
    with torch.device("meta"):  # its own way to draw weights is slow
        stock = model_class(config_class(**(tiny | options))).eval()
    stock.to_empty(device="cpu")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in stock.named_parameters():
            if name.endswith("lambda1"):
                parameter.uniform_(0.05, 0.5)
            elif "norm" in name:
                parameter.normal_(float(name.endswith("weight")), 0.1)
            else:
                parameter.normal_(0, 0.05 if name.endswith(("bias", "tokens")) else 0.02)
    stock.save_pretrained(folder)
    return Pair(stock, load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text()))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def random_pixels(n: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels / 255 - mean) / std


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(("height", "width"), [(56, 56), (84, 84), (28, 28), (28, 112), (14, 70)])
def test_it_is_the_stock_model(tmp_path: Path, kind: str, height: int, width: int) -> None:
    """At the size of training, larger, smaller, of another shape with as many patches, and in one row."""
    pair, pixels = make_pair(tmp_path, **SIZES[kind]), random_pixels(2, height, width)
    tokens, expected = pair.frozen()(pixels, patches=True), pair.expected(pixels)
    n_patches = height * width // 14**2
    torch.testing.assert_close(tokens.cls[:, 0], expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.patches, expected[:, -n_patches:], atol=1e-5, rtol=0)


def test_the_cls_token_alone_is_the_one_that_comes_with_the_patches(pair: Pair) -> None:
    model, pixels = pair.frozen(), random_pixels(3, 56, 56)
    torch.testing.assert_close(model(pixels).cls, model(pixels, patches=True).cls, atol=1e-6, rtol=0)
    assert model(pixels).patches is None


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0)])
def test_packed_weights_give_the_same_values(tmp_path: Path, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    """Features that were computed before weights were packed stay the features of their recipe."""
    pair, pixels = make_pair(tmp_path, **SIZES[kind]), random_pixels(4, 84, 84)
    found, expected = (model(pixels, patches=True) for model in (pair.frozen(dtype), pair.unpacked(dtype)))
    torch.testing.assert_close(found.cls, expected.cls, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.patches, expected.patches, atol=tolerance, rtol=0)


def test_without_onednn_nothing_is_packed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_faster", lambda dtype: False)
    assert not any(parameter.is_mkldnn for parameter in pair.frozen(torch.bfloat16).parameters())


def test_normalised_floats_and_pixels_are_the_same_input(pair: Pair) -> None:
    model, pixels = pair.frozen(), random_pixels(2, 56, 56)
    torch.testing.assert_close(model(normalised(pixels)).cls, model(pixels).cls, atol=1e-5, rtol=0)


def test_the_last_blocks_are_those_of_the_stock_model(pair: Pair) -> None:
    pixels = random_pixels(2, 56, 56)
    with torch.inference_mode():
        states = pair.stock(pixel_values=normalised(pixels), output_hidden_states=True).hidden_states
        expected = torch.stack([pair.stock.layernorm(state[:, 0]) for state in states[-2:]], dim=1)
    torch.testing.assert_close(pair.frozen()(pixels, last=2).cls, expected, atol=1e-5, rtol=0)


def test_bfloat16_is_near(pair: Pair) -> None:
    pixels = random_pixels(4, 56, 56)
    cls = pair.frozen(torch.bfloat16)(pixels).cls[:, 0]
    assert cls.dtype == torch.bfloat16
    assert torch.cosine_similarity(cls.float(), pair.expected(pixels)[:, 0]).min() > 1 - 3e-4


def test_a_checkpoint_of_a_classifier_is_taken_too(pair: Pair) -> None:
    prefixed = pair._replace(tensors={f"dinov2.{name}": tensor for name, tensor in pair.tensors.items()})
    prefixed.tensors["classifier.weight"] = torch.zeros(2, 64)
    pixels = random_pixels(1, 56, 56)
    assert torch.equal(prefixed.frozen()(pixels).cls, pair.frozen()(pixels).cls)


@pytest.mark.parametrize(
    "name", ["layernorm.bias", "encoder.layer.2.mlp.fc1.weight", "encoder.layer.0.attention.attention.key.weight"]
)
def test_a_missing_tensor_is_named(pair: Pair, name: str) -> None:
    del pair.tensors[name]
    with pytest.raises(KeyError, match=name):
        pair.frozen()


def test_it_reads_no_more_of_a_config_than_counts_in_the_fingerprint(pair: Pair) -> None:
    class Recorded(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            read[key] = default
            return super().get(key, default)

        def __getitem__(self, key: str) -> object:
            read[key] = None
            return super().__getitem__(key)

    read: dict[str, object] = {}
    config = Recorded(pair.config)
    FrozenDinov2(pair.tensors, config, MEAN, STD, torch.float32)
    assert is_rewritten("dinov2", config)
    del read["patch_size"]  # its default there decides nothing: without it, a backbone is refused
    assert read.items() <= READ_OF_REWRITTEN.items()


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"num_channels": 1}, {"patch_size": [14, 14]}])
def test_what_is_not_rewritten_is_left_to_the_stock_path(pair: Pair, change: dict[str, object]) -> None:
    assert is_rewritten("dinov2", pair.config)
    assert not is_rewritten("dinov2", pair.config | change)
    assert not is_rewritten("vit", pair.config)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_stock_model_at_every_size_of_recipe(tmp_path: Path, name: str) -> None:
    options, n_blocks, side = RECIPES[name]
    pair = make_pair(tmp_path, **options, num_hidden_layers=n_blocks, image_size=518)
    (tmp_path / "model.safetensors").unlink()  # pytest keeps the folder, and this is up to a gigabyte
    pixels = random_pixels(1, side, side)
    torch.testing.assert_close(pair.frozen()(pixels).cls[:, 0], pair.expected(pixels)[:, 0], atol=1e-5, rtol=0)


def test_a_backbone_of_another_activation_goes_the_stock_path(make_dinov2: Callable[..., Path], tmp_path: Path) -> None:
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor
    from mirip.features.backbones.stock import StockBackbone

    folder = make_dinov2(tmp_path / "relu", hidden_act="relu")
    for pooling, width in {"cls": 32, "mean": 32, "cls+mean": 64}.items():
        extractor = DINOv2FeatureExtractor(str(folder), image_size=42, pooling=pooling, device="cpu")
        assert extractor(random_pixels(2, 42, 42)).shape == (2, width)
        assert isinstance(extractor.model, StockBackbone)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [112, 336])
def test_an_image_has_the_same_bits_wherever_it_is_in_its_batch(tmp_path: Path, dtype: torch.dtype, side: int) -> None:
    wide = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "image_size": 112}
    frozen = make_pair(tmp_path, **wide).frozen(dtype)
    images = random_pixels(8, side, side)
    with torch.inference_mode():
        straight = frozen(images).cls
        for turn in range(1, 8):
            assert torch.equal(frozen(images.roll(turn, dims=0)).cls, straight.roll(turn, dims=0)), turn
