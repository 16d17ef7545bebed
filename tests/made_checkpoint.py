"""A whole checkpoint with seeded weights, made in no time: for what is done with one, not for how well it ranks."""

from pathlib import Path

import numpy as np
import torch
from made_ranking_data import SMALL

from mirip.features.backbones.recipe import resolve
from mirip.models.checkpoint import Checkpoint, save_checkpoint
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import Recipe, TrainParams

DIM = 24


def write_checkpoint(path: Path, *, seeds: int = 1, dim: int = DIM, recipe: Recipe | None = None) -> Path:
    """Write a checkpoint of `seeds` heads on features of width `dim`; with no recipe, of imported features."""
    recipe = recipe or Recipe(backbone="import:made-1")
    config = TrainParams(head=SMALL, seeds=seeds, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PairwiseRankingModel(feature_dim=dim, config=config).eval()
        rows = torch.randn(200, dim)
    model.projector.fit_standardizer(rows)
    model.fit_head_scales(rows)
    with torch.no_grad():
        scores = model.score(rows).numpy()
    found = resolve(recipe)
    checkpoint = Checkpoint(
        model_state_dict=model.state_dict(),
        config=config.model_dump(mode="json"),
        best_epoch=1,
        tiers=["S", "A", "B", "C"],
        recipe=found.to_dict(),
        fingerprint=found.fingerprint,
        split_digest="d" * 64,
        temperature=1.0,
        ordinal_slope=2.0 / float(scores.std()),
        ordinal_thresholds=[float(2.0 * np.quantile(scores, q) / scores.std()) for q in (0.25, 0.65, 0.9)],
        score_percentiles=np.quantile(scores, np.linspace(0, 1, 101)).tolist(),
        context_percentiles={},
        seen_images=torch.zeros(0, dtype=torch.int64),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, checkpoint)
    return path
