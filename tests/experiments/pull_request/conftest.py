from pathlib import Path

import pytest
from result_folder import write_result_folder
from result_repository import ResultRepository


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_result_folder(tmp_path_factory.mktemp("results"), n_images=900)


@pytest.fixture
def repository(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultRepository:
    """The working directory is in it, on the branch `work`."""
    root = tmp_path / "project"
    root.mkdir()
    made = ResultRepository(root, results)
    made.branch()
    monkeypatch.chdir(root)
    return made
