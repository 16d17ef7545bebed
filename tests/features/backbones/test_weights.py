import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mirip.errors import BackboneError
from mirip.features.backbones.weights import is_hub_id, locate_backbone, weight_files, weights_sha256
from mirip.files import sha256_bytes, sha256_file


@pytest.mark.slow
def test_a_folder_is_found_by_absolute_and_by_relative_path(dinov2: Path) -> None:
    assert locate_backbone(str(dinov2)).path == dinov2
    assert locate_backbone(dinov2.name, root=dinov2.parent).path == dinov2


def test_a_relative_folder_is_also_found_in_the_main_repository(
    dinov2: Path, tmp_path: Path, main_repository: Path
) -> None:
    """`dvc exp run --temp` works in a copy that lacks what Git ignores."""
    shutil.copytree(dinov2, main_repository / "models" / "mine")
    (tmp_path / "copy").mkdir()
    assert locate_backbone("models/mine", root=tmp_path / "copy").path == main_repository / "models" / "mine"


def test_a_backbone_that_is_nowhere_names_both_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        locate_backbone("facebook/no-such-model", "0123abc")
    assert "hf download facebook/no-such-model --revision 0123abc" in str(caught.value)
    assert "recipes.<name>.backbone" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["http://mirip.invalid", "http://127.0.0.1:9"])
def test_without_network_it_fails_within_30_seconds(endpoint: str, tmp_path: Path) -> None:
    code = "from mirip.features.backbones.weights import locate_backbone; locate_backbone('facebook/dinov2-large')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert time.monotonic() - start < 30
    assert "point recipes.<name>.backbone to a local folder" in result.stderr


def test_a_path_that_is_no_hub_id_asks_no_hub(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"has no config\.json"):
        locate_backbone("models/backbones/absent", root=tmp_path)


@pytest.mark.parametrize("name", ["facebook/dinov2-large", "dinov2"])
def test_hub_ids(name: str, tmp_path: Path) -> None:
    assert is_hub_id(name, tmp_path)


@pytest.mark.parametrize("name", ["models/backbones/sample", "/facebook/dinov2", "./dinov2", "~/dinov2"])
def test_paths_are_no_hub_ids(name: str, tmp_path: Path) -> None:
    assert not is_hub_id(name, tmp_path)


def test_the_hub_cache_serves_without_network(dinov2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--backbone"
    shutil.copytree(dinov2, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = locate_backbone("some/backbone")
    assert found.revision == commit
    assert found.path.name == commit


def test_a_folder_without_safetensors_is_refused(dinov2: Path, tmp_path: Path) -> None:
    shutil.copy(dinov2 / "config.json", tmp_path)
    with pytest.raises(BackboneError, match=r"no model\.safetensors"):
        locate_backbone(str(tmp_path))


def write_shards(folder: Path, names: list[str], present: list[str]) -> None:
    index = {"weight_map": {f"tensor_{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in present:
        (folder / name).write_bytes(name.encode())


def test_weights_in_several_files_are_hashed_over_their_sorted_hashes(tmp_path: Path) -> None:
    write_shards(tmp_path, ["b.safetensors", "a.safetensors", "b.safetensors"], ["a.safetensors", "b.safetensors"])
    hashes = sorted(sha256_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert weights_sha256(tmp_path) == sha256_bytes("".join(hashes).encode())


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, ["a.safetensors", "b.safetensors"], ["a.safetensors"])
    with pytest.raises(BackboneError, match=r"lacks b\.safetensors"):
        weight_files(tmp_path)


def test_the_hash_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    first = weights_sha256(tmp_path)
    state = weights.stat()
    weights.write_bytes(b"two")
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert weights_sha256(tmp_path) == first  # same path, size and time: not read again
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert weights_sha256(tmp_path) == sha256_bytes(b"two")


def test_a_damaged_memory_of_hashes_is_replaced(tmp_path: Path, main_repository: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    (main_repository / ".mirip").mkdir()
    (main_repository / ".mirip" / "hashes.json").write_text("{")
    assert weights_sha256(tmp_path) == sha256_bytes(b"one")
