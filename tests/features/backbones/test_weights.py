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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights whose hash is remembered."""
    (tmp_path / "model.safetensors").write_bytes(b"one")
    weights_sha256(tmp_path)
    return tmp_path / "model.safetensors"


def hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which files `weights_sha256` reads, and check what it returns."""
    read: list[str] = []
    monkeypatch.setattr(
        "mirip.features.backbones.weights.sha256_file", lambda path: read.append(path.name) or sha256_file(path)
    )
    assert weights_sha256(folder) == sha256_file(folder / "model.safetensors")
    return read


def test_the_hash_of_an_unchanged_file_is_remembered(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashed(weights.parent, monkeypatch) == []


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_file_of_the_same_size_and_time_is_another(weights: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tar and `rsync -a` leave it."""
    state = weights.stat()
    new = weights if how == "in place" else weights.with_name("new")
    new.write_bytes(b"two")
    os.utime(new, ns=(state.st_atime_ns, state.st_mtime_ns))
    new.replace(weights)
    assert hashed(weights.parent, monkeypatch) == ["model.safetensors"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")

    def read_and_change(path: Path) -> str:
        found = sha256_file(path)
        path.write_bytes(b"two!")
        return found

    with monkeypatch.context() as patch:
        patch.setattr("mirip.features.backbones.weights.sha256_file", read_and_change)
        weights_sha256(tmp_path)
    assert hashed(tmp_path, monkeypatch) == ["model.safetensors"]


@pytest.mark.parametrize(
    "damaged", ["{", "[]", "null", "[" * 100_000, '"a"', '{"a": 1}', "no dict", "no hash", "one digit", "state"]
)
def test_a_damaged_memory_of_hashes_is_replaced(
    weights: Path, main_repository: Path, damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = main_repository / ".mirip" / "hashes.json"
    ((name, entry),) = json.loads(memory.read_text()).items()
    digit = {"0": "1"}.get(entry["sha256"][0], "0")
    entries = {
        "no dict": "damaged",
        "no hash": entry | {"sha256": "damaged"},
        "one digit": entry | {"sha256": digit + entry["sha256"][1:]},
        "state": {key: value for key, value in entry.items() if key != "inode"},
    }
    memory.write_text(json.dumps({name: entries[damaged]}) if damaged in entries else damaged)
    assert hashed(weights.parent, monkeypatch) == ["model.safetensors"]
    assert json.loads(memory.read_text())[name] == entry
