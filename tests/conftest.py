"""What every test may use. Nothing here reaches a network."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "1"
for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)  # set where the tests run inside `dvc exp run` or against a user's server

ROOT = Path(__file__).parents[1]


def _beside(name: str) -> Path:
    """Find test material that stands beside the project, or say why the test is skipped."""
    path = Path(os.environ.get("MIRIP_TEST_MATERIAL", ROOT.parent / "shared")) / name
    if not path.is_dir():
        pytest.skip(f"{name} is not here: set MIRIP_TEST_MATERIAL to the folder that holds it")
    return path


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of this project."""
    return ROOT


@pytest.fixture(scope="session")
def savoias() -> Path:
    """Real paintings with crowd labels: images/ and metadata.csv."""
    return _beside("data/savoias")


@pytest.fixture(scope="session")
def mobilenet() -> Path:
    """A real pretrained backbone, MobileNetV1, in Hugging Face format."""
    return _beside("weights/mobilenet_v1_1.0_224")
