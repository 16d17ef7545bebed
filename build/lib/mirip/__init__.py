"""Mirip ranks the quality of artworks, learned from images and a tier column (S > A > B > C).

The public names are loaded when first used, so that `import mirip` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirip.data.pairs import PairwiseDataset
    from mirip.data.split import DataSplitter
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor
    from mirip.models.config import TrainingConfig
    from mirip.models.evaluator import Evaluator
    from mirip.models.projector import Projector
    from mirip.models.ranking import PairwiseRankingModel
    from mirip.models.score_head import ScoreHead
    from mirip.models.trainer import Trainer

__all__ = [
    "DINOv2FeatureExtractor",
    "DataSplitter",
    "Evaluator",
    "PairwiseDataset",
    "PairwiseRankingModel",
    "Projector",
    "ScoreHead",
    "Trainer",
    "TrainingConfig",
]

_HOMES = {
    "DINOv2FeatureExtractor": "mirip.features.backbones.backbone",
    "DataSplitter": "mirip.data.split",
    "Evaluator": "mirip.models.evaluator",
    "PairwiseDataset": "mirip.data.pairs",
    "PairwiseRankingModel": "mirip.models.ranking",
    "Projector": "mirip.models.projector",
    "ScoreHead": "mirip.models.score_head",
    "Trainer": "mirip.models.trainer",
    "TrainingConfig": "mirip.models.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mirip' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
