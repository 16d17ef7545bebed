"""docs/ray_cluster.yaml is a file that Ray's cluster launcher takes. No cluster is launched."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

# In a process of its own: Ray warns as it is imported.
VALIDATE = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))
"""


def validated(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", VALIDATE, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_launcher_takes_the_file(project_root: Path) -> None:
    pytest.importorskip("ray")
    result = validated(project_root / "docs" / "ray_cluster.yaml")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_launcher_would_refuse_a_key_that_it_does_not_know(project_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    cluster = yaml.safe_load((project_root / "docs" / "ray_cluster.yaml").read_text(encoding="utf-8"))
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(cluster | {"min_wokers": 2}))
    result = validated(tmp_path / "cluster.yaml")
    assert "'min_wokers' was unexpected" in result.stderr


def test_its_version_of_ray_is_the_locked_one(project_root: Path) -> None:
    """The file asks for what `grep '^ray=='` finds there."""
    lines = (project_root / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.startswith("ray==")]) == 1
