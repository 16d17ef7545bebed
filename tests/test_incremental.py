"""What the feature cache saves, with real DVC: edits of the data, switches of the recipe, a laptop without images."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pipeline_clone import BuiltPipeline, Project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(pipeline: BuiltPipeline, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone after its first `dvc repro`, committed."""
    return pipeline.copy(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    """The clone, put back to its committed state afterwards."""
    yield built
    built.put_back()


@pytest.fixture
def n_rows(built: Project) -> int:
    """Distinct images of the sample."""
    return built.json("extract")["rows"]


class Artworks:
    """A folder of images and their table outside the repository, which a test edits."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder, self._project = folder, project
        shutil.copytree(project.root / "data" / "sample", folder)
        self.table = pd.read_csv(folder / "metadata.csv")
        truth = json.loads((folder / "truth.json").read_text())
        planted = {case[key] for case in truth["planted"].values() for key in ("image_path", "copy_of") if key in case}
        self.ordinary = [path for path in self.table["image_path"] if path not in planted]

    def use(self) -> None:
        """Point the project's params at the folder."""
        params = yaml.safe_load((self._project.root / "params.yaml").read_text())
        params["data"] |= {"images": str(self.folder), "metadata": str(self.folder / "metadata.csv")}
        (self._project.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def edit(self) -> None:
        """One artwork is new, one is drawn over, one gets another name, one is gone."""
        new, changed, renamed, deleted = "images/new.png", *self.ordinary[:3]
        rng = np.random.default_rng(0)
        for path in (new, changed):
            Image.fromarray(rng.integers(0, 256, size=(90, 60, 3), dtype=np.uint8)).save(self.folder / path)
        (self.folder / renamed).rename(self.folder / "images" / "renamed.jpg")
        (self.folder / deleted).unlink()
        table = self.table[self.table["image_path"] != deleted].replace({"image_path": {renamed: "images/renamed.jpg"}})
        added = self.table.iloc[[0]].assign(image_path=new, artist="artist-new")
        pd.concat([table, added]).to_csv(self.folder / "metadata.csv", index=False)


def counts(output: str) -> list[tuple[int, int, int]]:
    """What each extraction said of itself: rows, computed, reused."""
    found = re.findall(r"^extract: (\d+) rows, (\d+) computed, (\d+) reused$", output, re.MULTILINE)
    return [(int(rows), int(computed), int(reused)) for rows, computed, reused in found]


def test_one_new_one_changed_one_renamed_one_deleted_computes_two_and_the_way_back_nothing(
    project: Project, n_rows: int, tmp_path: Path
) -> None:
    features, model = project.root / "features/sample.h5", project.root / "models/best_model.pt"
    before, trained = features.read_bytes(), model.read_bytes()
    artworks = Artworks(project, tmp_path / "artworks")
    artworks.use()
    output = project.run("dvc", "repro", "train")
    assert counts(output) == [(n_rows, 0, n_rows)]  # the same images in another place
    assert "train" not in project.stages_run(output)

    artworks.edit()
    output = project.run("dvc", "repro", "train")
    assert counts(output) == [(n_rows, 2, n_rows - 2)]
    assert "train" in project.stages_run(output)

    for path in artworks.folder.rglob("*"):
        os.utime(path)
    assert project.stages_run(project.run("dvc", "repro", "train")) == []

    shutil.rmtree(artworks.folder)
    Artworks(project, artworks.folder)
    output = project.run("dvc", "repro", "train")
    assert counts(output) in ([], [(n_rows, 0, n_rows)])
    assert "train" not in project.stages_run(output)
    assert features.read_bytes() == before
    assert model.read_bytes() == trained


def test_plain_repro_to_a_recipe_and_back_computes_nothing_twice(project: Project, n_rows: int) -> None:
    features = project.root / "features/sample.h5"
    before = features.read_bytes()
    project.edit("params.yaml", "recipe: sample", "recipe: at_28")
    assert counts(project.run("dvc", "repro", "extract")) == [(n_rows, n_rows, 0)]
    project.edit("params.yaml", "recipe: at_28", "recipe: sample")
    assert counts(project.run("dvc", "repro", "extract")) == [(n_rows, 0, n_rows)]
    assert features.read_bytes() == before
    project.edit("params.yaml", "recipe: sample", "recipe: at_28")
    assert counts(project.run("dvc", "repro", "extract")) == [(n_rows, 0, n_rows)]


def test_experiments_to_a_recipe_and_back_compute_nothing_twice(project: Project, n_rows: int) -> None:
    features = project.root / "features/sample.h5"
    before = features.read_bytes()
    there = project.run("dvc", "exp", "run", "-S", "extract.recipe=at_42", "extract")
    assert counts(there) == [(n_rows, n_rows, 0)]
    features.unlink(missing_ok=True)  # as DVC does where the whole pipeline runs: the store is what remembers
    back = project.run("dvc", "exp", "run", "-S", "extract.recipe=sample", "extract")
    assert counts(back) == [(n_rows, 0, n_rows)]
    assert features.read_bytes() == before


def test_temporary_experiments_share_what_they_compute(project: Project, n_rows: int) -> None:
    temporary = ("dvc", "exp", "run", "--temp", "extract")
    assert counts(project.run(*temporary, "-S", "extract.recipe=at_56")) == [(n_rows, n_rows, 0)]
    assert counts(project.run(*temporary, "-S", "extract.recipe=sample")) in ([], [(n_rows, 0, n_rows)])
    assert counts(project.run(*temporary, "-S", "extract.recipe=at_56")) == [(n_rows, 0, n_rows)]
    assert counts(project.run("dvc", "exp", "run", "extract", "-S", "extract.recipe=at_56")) == [(n_rows, 0, n_rows)]


@pytest.fixture
def workers_stopped(project: Project) -> Iterator[None]:
    """No worker of the queue is left behind, even by a test that failed."""
    yield
    project.run("dvc", "queue", "stop", "--kill", check=False)
    deadline = time.monotonic() + 60
    while "0 active, 0 idle" not in project.run("dvc", "queue", "status"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_stopped")
def test_four_queued_experiments_two_at_a_time_compute_each_row_once(project: Project, n_rows: int) -> None:
    names = []
    for recipe in ("at_70", "at_84"):
        for rate in ("0.0002", "0.0003"):
            names.append(f"{recipe}-{rate.removeprefix('0.')}")
            settings = ("-S", f"extract.recipe={recipe}", "-S", f"train.learning_rate={rate}")
            project.run("dvc", "exp", "run", "--queue", "-n", names[-1], *settings, "train")
    project.run("dvc", "exp", "run", "--run-all", "-j", "2")
    status = project.run("dvc", "queue", "status")
    assert len(re.findall(r"\bSuccess\b", status)) == 4, status
    logs = {name: project.run("dvc", "queue", "logs", name) for name in names}
    for recipe in ("at_70", "at_84"):
        mine = [counts(log) for name, log in logs.items() if name.startswith(recipe)]
        assert sorted(mine) == [[(n_rows, 0, n_rows)], [(n_rows, n_rows, 0)]]
    assert all("train" in project.stages_run(log) for log in logs.values())


@pytest.fixture
def laptop(project: Project, tmp_path: Path) -> Project:
    """A fresh clone of Git alone, with a remote that has everything: no image, no backbone, no store."""
    project.run("dvc", "remote", "add", "--local", "--force", "--default", "shared", str(tmp_path / "remote"))
    project.run("dvc", "push")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "laptop"))
    laptop = Project(tmp_path / "laptop")
    laptop.run("git", "config", "user.name", "Test")
    laptop.run("git", "config", "user.email", "test@example.org")
    laptop.run("dvc", "remote", "add", "--local", "--default", "shared", str(tmp_path / "remote"))
    return laptop


def commands_of_the_readme(project: Project) -> list[list[str]]:
    """The lines of the section on laptops."""
    readme = (project.root / "README.md").read_text()
    section = readme.split("## On a laptop without images or GPU\n")[1].split("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [line.split("  #")[0].split() for line in block.group(1).splitlines()]


@pytest.mark.slow
def test_a_laptop_without_images_or_backbone_experiments_as_the_readme_says(laptop: Project) -> None:
    pull, rate, head = commands_of_the_readme(laptop)
    laptop.run(*pull)
    output = laptop.run(*rate)
    assert laptop.stages_run(output) == ["train", "evaluate", "audit", "report", "track"]
    assert (laptop.root / "metrics/report.html").is_file()
    assert laptop.stages_run(laptop.run(*head)) == ["train", "evaluate", "audit"]
    assert not (laptop.root / "data/sample").exists()
    assert not (laptop.root / "models/backbones/sample").exists()
    assert not (laptop.root / ".mirip/store").exists()
