import json
import logging

import pytest

from mirip.sample.backbone import write_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(folder)
    return folder


@pytest.mark.slow
def test_the_size_told_is_that_of_the_files_and_under_60_mb(folder, tmp_path):
    size = write_backbone(tmp_path)
    assert size == sum(file.stat().st_size for file in tmp_path.iterdir()) < 60_000_000
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }


def test_it_loads_as_any_other_folder_with_no_key_missing_or_left_over(folder, caplog):
    transformers = pytest.importorskip("transformers")
    with caplog.at_level(logging.WARNING):
        model, loading = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "Dinov2Model"
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not caplog.records


def test_the_pooled_output_tells_images_apart(folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    size = json.loads((folder / "config.json").read_text())["image_size"]
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    images[1] = torch.linspace(-1, 1, size)
    with torch.inference_mode():
        features = model(images).pooler_output
    assert features.shape == (3, 1024)
    assert torch.isfinite(features).all()
    assert torch.cosine_similarity(features[0], features[1], dim=0) < 0.98
