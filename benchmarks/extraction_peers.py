"""The ways that benchmarks/extraction.py times, each a class: a prepared image, an embedded batch, files to HDF5.

All embed the same checkpoint, which true_backbone.py writes in Hugging Face format; timm and ONNX get its weights under
their own names. All squash an image to the same square. A library that is not installed makes a way unavailable, not
an error.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from benchmarks.true_backbone import MEAN, PATCH_PX, STD
from mirip.features.backbones.backbone import DINOv2FeatureExtractor
from mirip.features.extract.extraction import extract_features
from mirip.params import Recipe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ONNX_FILE = "model.onnx"  # in the backbone's folder, for one batch size and one image size


def export_to_onnx(folder: Path, batch_size: int, size_px: int) -> None:
    """Write the backbone as ONNX in float32, for one shape, into its folder."""
    model = _Pooled(_stock_model(folder, "float32"))
    example = torch.zeros(batch_size, 3, size_px, size_px)
    torch.onnx.export(model, (example,), folder / ONNX_FILE, input_names=["pixels"], dynamo=True, verbose=False)


class Way:
    """A way from files to embeddings; what differs between ways is overridden.

    Args:
        folder: the backbone's.
        dtype: float32 or bfloat16, of compute.
        size_px: side of the square.
        batch_size: images in a pass.
        workers: threads that decode, for those ways that have any.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    def __init__(self, folder: Path, dtype: str, size_px: int, batch_size: int, workers: int) -> None:
        self.folder, self.dtype, self.size_px, self.workers = folder, dtype, size_px, workers
        self.batch_size = batch_size

    def prepared(self, path: Path) -> torch.Tensor:
        """Decode a file: (3, S, S) float32, normalised; Mirip gives uint8."""
        size = (self.size_px, self.size_px)
        image = Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Embed a batch of what `prepared` gave, as (B, D) float32."""
        raise NotImplementedError

    def extract(self, paths: list[Path], out: Path) -> None:
        """Write the embeddings of all files to `out`: the loop that one writes first."""
        rows = []
        for start in range(0, len(paths), self.batch_size):
            images = torch.stack([self.prepared(path) for path in paths[start : start + self.batch_size]])
            rows.append(self.embedded(images).astype(np.float16))
        with h5py.File(out, "w") as file:
            file["features"] = np.concatenate(rows)


class Stock(Way):
    """AutoModel of transformers, in batches."""

    name, dtypes = "transformers, batches", ("float32", "bfloat16")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model = _stock_model(self.folder, self.dtype)

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """See Way."""
        with torch.inference_mode():
            pooled = self.model(pixel_values=images.to(DTYPES[self.dtype])).pooler_output
        found: NDArray[np.float32] = pooled.float().numpy()
        return found


class Plain(Stock):
    """AutoModel of transformers, one image at a time."""

    name, dtypes = "transformers, one image at a time", ("float32",)

    def __init__(self, folder: Path, dtype: str, size_px: int, batch_size: int, workers: int) -> None:
        super().__init__(folder, dtype, size_px, 1, workers)


class Pipeline(Stock):
    """The pipeline "image-feature-extraction" of transformers, with its own image processor."""

    name, dtypes = "transformers, pipeline", ("float32",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        from transformers import AutoImageProcessor, pipeline

        self.processor: Any = AutoImageProcessor.from_pretrained(self.folder)
        self.pipeline: Any = pipeline(
            "image-feature-extraction", model=self.model, image_processor=self.processor, device="cpu"
        )

    def prepared(self, path: Path) -> torch.Tensor:
        """See Way."""
        pixels: torch.Tensor = self.processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels

    def extract(self, paths: list[Path], out: Path) -> None:
        """See Way."""
        pooled = self.pipeline(list(map(str, paths)), batch_size=self.batch_size, pool=True, return_tensors=True)
        with h5py.File(out, "w") as file:
            file["features"] = torch.cat(pooled).to(torch.float16).numpy()


class Timm(Way):
    """timm's vit_large_patch14_dinov2 with its own transform; positions are interpolated as in the stock model."""

    name, dtypes = "timm", ("float32", "bfloat16")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        import timm
        from safetensors.torch import load_file
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.folder)
        shape = {
            "embed_dim": config.hidden_size,
            "depth": config.num_hidden_layers,
            "num_heads": config.num_attention_heads,
        }
        model = timm.create_model("vit_large_patch14_dinov2", pretrained=False, img_size=self.size_px, **shape)
        weights = _timm_weights(load_file(self.folder / "model.safetensors"), self.size_px // PATCH_PX)
        model.load_state_dict(weights)
        self.model: Any = model.eval().to(DTYPES[self.dtype])
        data_config = timm.data.resolve_model_data_config(model) | {
            "input_size": (3, self.size_px, self.size_px),
            "crop_mode": "squash",
        }
        self.transform: Any = timm.data.create_transform(**data_config, is_training=False)

    def prepared(self, path: Path) -> torch.Tensor:
        """See Way."""
        pixels: torch.Tensor = self.transform(Image.open(path).convert("RGB"))
        return pixels

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """See Way."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.model(images.to(DTYPES[self.dtype])).float().numpy()
        return found


class OnnxRuntime(Way):
    """ONNX Runtime on the exported stock model; on a CPU it computes in float32."""

    name = "ONNX Runtime"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count()
        providers = ["CPUExecutionProvider"]
        self.session: Any = onnxruntime.InferenceSession(str(self.folder / ONNX_FILE), options, providers)

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """See Way."""
        found: NDArray[np.float32] = self.session.run(None, {"pixels": images.numpy()})[0]
        return found


class OpenVino(Way):
    """OpenVINO on the exported stock model."""

    name, dtypes = "OpenVINO", ("float32", "bfloat16")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        import openvino

        precision = {"float32": "f32", "bfloat16": "bf16"}[self.dtype]
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": os.cpu_count(),
            "PERFORMANCE_HINT": "LATENCY",  # one stream that has all threads
        }
        self.compiled: Any = openvino.Core().compile_model(str(self.folder / ONNX_FILE), "CPU", settings)

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """See Way."""
        found: NDArray[np.float32] = np.array(self.compiled(images.numpy())[0])
        return found


class Mirip(Way):
    """`extract_features` with an empty store and no features file; loading the backbone is part of the call."""

    name, dtypes = "Mirip", ("float32", "bfloat16")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recipe = Recipe(backbone=str(self.folder), image_size=self.size_px, fit="squash", compute_dtype=self.dtype)
        self.extractor = DINOv2FeatureExtractor.from_recipe(self.recipe, "cpu")
        self.extractor.load()

    def prepared(self, path: Path) -> torch.Tensor:
        """See Way."""
        from mirip.data.decoding import decode_image

        return torch.from_numpy(self.extractor.transform.fitted(decode_image(path.read_bytes()).pixels)).permute(
            2, 0, 1
        )

    def embedded(self, images: torch.Tensor) -> NDArray[np.float32]:
        """See Way."""
        found: NDArray[np.float32] = self.extractor(images).numpy()
        return found

    def extract(self, paths: list[Path], out: Path) -> None:
        """See Way."""
        items = [(hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in paths]
        out.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as store:
            extract_features(
                items,
                image_root=paths[0].parent,
                recipe=self.recipe,
                path=out,
                store_root=Path(store),
                batch_size=self.batch_size,
                workers=self.workers,
                device="cpu",
                visible=False,
            )


WAYS: dict[str, type[Way]] = {
    "stock": Stock,  # the first: what the others are compared with
    "plain": Plain,
    "pipeline": Pipeline,
    "timm": Timm,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "mirip": Mirip,
}
NEEDS = {"timm": ("timm",), "onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "onnxscript")}


class _Pooled(torch.nn.Module):
    """A stock model whose only output is the pooled one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.model(pixel_values=pixels).pooler_output
        return pooled


def _stock_model(folder: Path, dtype: str) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=DTYPES[dtype]).eval()


def _timm_weights(tensors: dict[str, torch.Tensor], side: int) -> dict[str, torch.Tensor]:
    """Give the tensors of a Dinov2 checkpoint the names of timm; the positions become those of side x side patches."""
    parts = {
        "norm1.": "norm1.",
        "norm2.": "norm2.",
        "attention.output.dense.": "attn.proj.",
        "mlp.fc1.": "mlp.fc1.",
        "mlp.fc2.": "mlp.fc2.",
    }
    positions = tensors["embeddings.position_embeddings"]
    table, size = positions[:, 1:], round((positions.shape[1] - 1) ** 0.5)
    if size != side:
        square = table.view(1, size, size, -1).permute(0, 3, 1, 2)
        table = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    found = {
        "cls_token": tensors["embeddings.cls_token"],
        "pos_embed": torch.cat([positions[:, :1], table], dim=1),
        "patch_embed.proj.weight": tensors["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": tensors["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": tensors["layernorm.weight"],
        "norm.bias": tensors["layernorm.bias"],
    }
    n_blocks = sum(name.endswith("layer_scale1.lambda1") for name in tensors)
    for number in range(n_blocks):
        theirs, ours = f"encoder.layer.{number}.", f"blocks.{number}."
        for kind in ("weight", "bias"):
            names = (f"{theirs}attention.attention.{part}.{kind}" for part in ("query", "key", "value"))
            found[f"{ours}attn.qkv.{kind}"] = torch.cat([tensors[name] for name in names])
            found |= {f"{ours}{new}{kind}": tensors[f"{theirs}{old}{kind}"] for old, new in parts.items()}
        for scale in (1, 2):
            found[f"{ours}ls{scale}.gamma"] = tensors[f"{theirs}layer_scale{scale}.lambda1"]
    return found
