"""The stage evaluate: a trained model on the test split, beside the baselines; and a model on other images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mirip.data.split import check_tiers, read_splits, split_digest
from mirip.data.tables import write_csv
from mirip.errors import CheckpointError, DataError, MetadataError
from mirip.features.backbones.recipe import first_decisive_difference
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import write_json
from mirip.metrics.calibration import tier_probabilities
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.baselines import baseline_scores
from mirip.models.checkpoint import Checkpoint, load_checkpoint, short_keys
from mirip.models.evaluation_count import count_evaluated
from mirip.models.evaluator import Evaluation, Evaluator
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.scores import Scores, public_labels, public_scores
from mirip.models.training import ranking_data
from mirip.params import EvaluateParams, Params
from mirip.workspace import Workspace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EvaluatedModel:
    """What the stage evaluate found.

    Attributes:
        evaluation: on the test split.
        count: which of how many models on this test split it is, in words; None for the only one.
    """

    evaluation: Evaluation
    count: str | None

    @property
    def lines(self) -> list[str]:
        """The result in lines of words."""
        return [*self.evaluation.summary().splitlines(), *([self.count] if self.count else [])]


def evaluate(workspace: Workspace, params: Params, *, trained: Checkpoint | None = None) -> EvaluatedModel:
    """Evaluate the workspace's model on the test split, and write metrics, tables and the public scores.

    metrics/scores.csv goes into Git so that anyone can compute every metric again; what would name a person or a file
    (path, group, context) is a hash there. The tables are left out of a flat workspace.

    Args:
        workspace: holds splits, features and the model.
        params: the sections data, extract, recipes and evaluate.
        trained: the workspace's model, where it is in memory.

    Raises:
        DataError: an input is missing or damaged, or the test split holds no cross-tier pair.
        SplitError: the split was made with other tiers.
        CacheError: the features are missing, of another recipe, or lack an image.
        CheckpointError: the model is missing or damaged, or was trained on something else.
    """
    splits = read_splits(workspace.splits)
    cache = FeatureCache.open(workspace.features(params.extract.recipe), params.recipe)
    trained = trained or load_checkpoint(workspace.model)
    check_trained_on(trained, workspace.model, splits, cache, params.data.tiers)
    test = images_in_test_split(splits)
    features = cache.rows(test["image_sha256"].tolist())
    config = trained.train_params
    model = PairwiseRankingModel.from_checkpoint(trained, device="cpu")
    scores = score(model, features, seed=config.seed)
    train, val = (ranking_data(splits, cache, split) for split in ("train", "val"))
    baselines = baseline_scores(train, val, features, config, members=scores.by_kind)
    evaluation = evaluate_scores(scores, trained, test, params.evaluate, baselines)
    if not workspace.flat:
        tables = _tables(evaluation, test, scores.mean) | {"members": _members_table(model, scores, test)}
        _write_tables(workspace.tables("evaluate"), tables)
    write_csv(workspace.scores, public_scores(test, scores), digits=9)
    write_json(workspace.metrics("evaluate"), evaluation.metrics)
    accuracy = float(evaluation.metrics["pairwise_accuracy"])
    return EvaluatedModel(evaluation, count_evaluated(trained.split_digest, workspace.model, accuracy))


def check_same_tiers(tiers: Sequence[str], trained: Checkpoint) -> None:
    """Check that tiers, best first, are those that a model was trained on; raise MetadataError if not."""
    if list(tiers) != trained.tiers:
        known = " ".join(trained.tiers)
        raise MetadataError(f"the model knows the tiers {known}, not {' '.join(tiers)}", f"give --tiers {known}")


def unseen_images(manifest: pd.DataFrame, trained: Checkpoint) -> pd.DataFrame:
    """Return the rows of the images that a model was neither trained on nor its epoch chosen by.

    Raises:
        MetadataError: images of fewer than two tiers are left.
    """
    seen = np.isin(short_keys(manifest["image_sha256"].tolist()), trained.seen_images.numpy())
    unseen = manifest[~seen]
    if unseen["tier_rank"].nunique() < 2:
        raise MetadataError(
            f"{len(unseen)} images of {unseen['tier'].nunique()} tiers are left to evaluate on",
            "give images of two tiers that the model has not seen in training",
        )
    return unseen


def evaluate_images(
    model: PairwiseRankingModel, images: pd.DataFrame, cache: FeatureCache, settings: EvaluateParams
) -> Evaluation:
    """Evaluate a trained model on other images, without baselines.

    Args:
        model: on the CPU, loaded from a checkpoint.
        images: N rows of a manifest, as `unseen_images` returns them.
        cache: holds their features.
        settings: target, confidence and resamples.

    Raises:
        CacheError: an image has no row in the cache.
    """
    trained = model.checkpoint
    scores = score(model, cache.rows(images["image_sha256"].tolist()), seed=trained.train_params.seed)
    return evaluate_scores(scores, trained, images, settings)


def check_trained_on(
    trained: Checkpoint, path: Path, splits: pd.DataFrame, cache: FeatureCache, tiers: Sequence[str]
) -> None:
    """Check that a checkpoint was trained on these features, this split and these tiers.

    Args:
        trained: the checkpoint.
        path: its file, for the message.
        splits: as `read_splits` returns it.
        cache: features of the active recipe.
        tiers: names, best first.

    Raises:
        SplitError: the split was made with other tiers.
        CheckpointError: it was trained on something else.
    """
    check_tiers(splits, tiers)
    if trained.fingerprint != cache.fingerprint:
        name, expected, found = first_decisive_difference(trained.recipe, cache.recipe)
        differs = f"features with {name} {expected}, {cache.path} has {found}"
    elif trained.split_digest != (digest := split_digest(splits)):
        differs = f"the split {trained.split_digest[:12]}, here is {digest[:12]}"
    elif trained.tiers != list(tiers):
        differs = f"the tiers {', '.join(trained.tiers)}, here is {', '.join(tiers)}"
    else:
        return
    raise CheckpointError(f"{path} was trained on {differs}", "run `dvc repro train`")


def images_in_test_split(splits: pd.DataFrame) -> pd.DataFrame:
    """Return the test split's rows.

    Raises:
        DataError: it holds no cross-tier pair.
    """
    test = splits[splits["split"] == "test"]
    if test["tier_rank"].nunique() < 2:
        tiers = ", ".join(sorted(test["tier"].unique())) or "none"
        raise DataError(
            f"the test split holds {len(test)} images of the tiers {tiers}, so no pair to evaluate", "raise split.test"
        )
    return test


def score(model: PairwiseRankingModel, features: NDArray[np.float32], *, seed: int) -> Scores:
    """Score features (N, D) on the CPU, by the model and by parts of it; the first head has `seed`."""
    with torch.inference_mode():
        members = model.score_members(torch.from_numpy(features))  # (N, D) -> (m, N)
        kinds = model.by_kind(members).numpy().astype(np.float64)
        mean = model.weighted(members).numpy().astype(np.float64)
    weight_of_head, *weights = model.kind_weights
    linear = np.array(weights) @ kinds[1:]  # what the linear members add to the score
    heads = members[: model.n_heads].numpy().astype(np.float64)
    by_seed = {seed + k: weight_of_head * own + linear for k, own in enumerate(heads)}
    by_kind = dict(zip(model.kinds, kinds, strict=True))
    return Scores(mean, by_seed if len(by_seed) > 1 else {}, by_kind if len(by_kind) > 1 else {})


def evaluate_scores(
    scores: Scores,
    trained: Checkpoint,
    images: pd.DataFrame,
    settings: EvaluateParams,
    baselines: Mapping[str, Floats] | None = None,
) -> Evaluation:
    """Evaluate the scores of a trained model.

    Args:
        scores: of N images.
        trained: what turns them into probabilities.
        images: N rows with tier_rank, group_id and context.
        settings: target, confidence and resamples.
        baselines: name -> scores (N,) of other models on the same images.
    """
    return Evaluator(**settings.model_dump()).evaluate(
        scores.mean,
        images["tier_rank"].to_numpy(),
        tiers=trained.tiers,
        # The hashes that scores.csv holds: who resamples that file draws the groups in the same order.
        group_id=public_labels(images["group_id"]),
        context=images["context"].to_numpy(),
        temperature=trained.temperature,
        baselines=baselines,
        seed_scores=scores.by_seed,
        tier_probability=tier_probabilities(scores.mean, trained.ordinal_slope, trained.ordinal_thresholds),
    )


def _tables(evaluation: Evaluation, test: pd.DataFrame, scores: Floats) -> dict[str, pd.DataFrame]:
    """Return the tables of metrics/evaluate/ by file name; scores_by_tier holds neither ids nor their order."""
    by_tier = pd.DataFrame({"tier": test["tier"].to_numpy(), "rank": -test["tier_rank"].to_numpy(), "score": scores})
    return {
        "tier_pairs": evaluation.tier_pairs,
        "gaps": evaluation.gaps,
        "reliability": evaluation.reliability,
        "coverage": evaluation.coverage,
        "baselines": evaluation.baseline_table,
        "scores_by_tier": by_tier.sort_values(["rank", "score"], kind="stable")[["tier", "score"]],
    }


def _members_table(model: PairwiseRankingModel, scores: Scores, test: pd.DataFrame) -> pd.DataFrame:
    """Return member, weight and pairwise_accuracy of each kind of members alone, where the model has several."""
    rank = test["tier_rank"].to_numpy()
    rows = [
        {"member": kind, "weight": weight, "pairwise_accuracy": pairwise_accuracy(scores.by_kind[kind], rank)}
        for kind, weight in zip(model.kinds, model.kind_weights, strict=True)
        if scores.by_kind
    ]
    return pd.DataFrame(rows, columns=["member", "weight", "pairwise_accuracy"])


def _write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as CSV, six significant digits, and remove tables that another version left in the folder."""
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    for stale in folder.glob("*.csv"):
        if stale.stem not in tables:
            stale.unlink()
