"""Training and evaluation off the pipeline: what the stages do, in one folder."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mirip.data.manifest import Prepared, check_usable, prepare_images
from mirip.data.split import DataSplitter, check_disjoint, split_digest
from mirip.data.tables import write_csv, write_table
from mirip.errors import MetadataError, TrackingError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.files import write_json
from mirip.models.checkpoint import Checkpoint, save_checkpoint
from mirip.models.evaluation import (
    baseline_scores,
    judge,
    load_trained_model,
    public_scores,
    seed_scores,
    test_split,
)
from mirip.models.evaluation_count import count_evaluated
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.trainer import Trainer
from mirip.models.training import short_keys, train_ranker, training_summary
from mirip.params import Params, Recipe
from mirip.tracking.dataset import Dataset, counts_of
from mirip.tracking.logged_model import Ranker
from mirip.tracking.publishing import log_training_run
from mirip.workspace import main_root


def train_job(params: Params, output: Path, *, resume: bool = False) -> None:
    """Prepare, split, extract, train and judge; everything lands in `output`, and in MLflow if params say so.

    Raises:
        MiripError: as the stages do.
    """
    found = resolve(params.recipe)  # before an hour goes into images that no backbone can see
    seen = "features imported" if found.imported else f"{found.size_px} px"
    print(f"recipe {params.extract.recipe}: {found.backbone}, {seen}", file=sys.stderr)
    if not params.data.group:
        print("no --group: works of one person may stand in two splits, the figures may be too good", file=sys.stderr)
    prepared = _prepare(params)
    splits = DataSplitter(**params.split.model_dump()).split(prepared.manifest)
    check_disjoint(splits, prepared.manifest, params.prepare.near_duplicate_bits)
    write_csv(output / "rejected.csv", prepared.rejected)
    write_table(output / "manifest.parquet", prepared.manifest)
    write_table(output / "splits.parquet", splits)
    cache = _extract(params, params.recipe, splits, output / "features.h5")
    checkpoints = output / "checkpoints"
    if not resume:
        for stale in checkpoints.glob("epoch_*.pt"):  # of another training: `--resume` must never find them
            stale.unlink()
    trainer = Trainer(params.train, checkpoint_dir=checkpoints)
    checkpoint, result = train_ranker(splits, cache, trainer, tiers=params.data.tiers, resume=resume, verbose=True)
    save_checkpoint(output / "best_model.pt", checkpoint)
    write_csv(output / "curves.csv", result.curves)
    figures = training_summary(checkpoint, result)
    write_json(output / "train.json", figures)
    model, _ = load_trained_model(output / "best_model.pt", splits, cache, params.data.tiers)
    test = test_split(splits)
    test_x = cache.rows(test["image_sha256"].tolist())
    baselines = baseline_scores(splits, cache, test_x, params.train)
    evaluation, scores = judge(model, test, cache, params.evaluate, baselines)
    write_csv(output / "scores.csv", public_scores(test, scores, seed_scores(model, test_x)), digits=9)
    write_json(output / "evaluate.json", evaluation.metrics)
    print(evaluation.summary())
    accuracy = float(evaluation.metrics["pairwise_accuracy"])
    if words := count_evaluated(split_digest(splits), output / "best_model.pt", accuracy):
        print(words)
    if notice := params.report.notices.get(params.extract.recipe):
        print(f"note: {notice}")
    print(f"model: {output / 'best_model.pt'}, val_pairwise_accuracy {result.val_pairwise_accuracy:.3f}")
    if params.track.enabled:
        metrics = {f"train.{name}": value for name, value in figures.items()}
        judged = {f"evaluate.{name}": value for name, value in evaluation.metrics.items()}
        published = {**metrics, **judged, "split.digest": checkpoint.split_digest}
        ranker = Ranker(output / "best_model.pt", test_x.shape[1])
        name, source = params.data.images.name, str(params.data.metadata)
        dataset = Dataset(name, checkpoint.split_digest, source, counts_of(splits))
        _publish(params, output, published, result.curves, ranker, dataset)


def evaluate_job(params: Params, model: PairwiseRankingModel, output: Path | None) -> None:
    """Judge a model, loaded from a checkpoint, on the works of a metadata file.

    Works that the model was trained on, or its epoch chosen by, are left out.

    Raises:
        MetadataError: the tiers are not those of the checkpoint, or no work is left to judge by.
        MiripError: as the stages do.
    """
    trained = model.checkpoint
    assert trained is not None
    if list(params.data.tiers) != trained.tiers:
        raise MetadataError(
            f"the model knows the tiers {' '.join(trained.tiers)}, not {' '.join(params.data.tiers)}: "
            f"give --tiers {' '.join(trained.tiers)}"
        )
    model.check_backbone()
    images = _unseen(_prepare(params).manifest, trained)
    folder = main_root() / ".mirip"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=folder) as scratch:  # the rows stay in the store
        cache = _extract(params, model.extractor.recipe, images, Path(scratch) / "features.h5")
    evaluation, _ = judge(model, images, cache, params.evaluate)
    if output is not None:
        write_json(output, evaluation.metrics)
    print(evaluation.summary())


def _prepare(params: Params) -> Prepared:
    prepared = prepare_images(params.data, params.prepare)
    for row in prepared.rejected.itertuples():
        print(f"left out: row {row.row}, {row.image_path} {row.reason}", file=sys.stderr)
    check_usable(prepared, params.data.max_rejected_fraction)
    return prepared


def _unseen(manifest: pd.DataFrame, trained: Checkpoint) -> pd.DataFrame:
    seen = np.isin(short_keys(manifest["image_sha256"].tolist()), trained.seen_images.numpy())
    if seen.any():
        print(f"left out: {seen.sum()} of {len(manifest)} works, which the model saw in training", file=sys.stderr)
    unseen = manifest[~seen]
    if unseen["tier_rank"].nunique() < 2:
        raise MetadataError(
            f"{len(unseen)} works of {unseen['tier'].nunique()} tiers are left to judge by: "
            "give works of two tiers that the model has not seen in training"
        )
    return unseen


def _extract(params: Params, recipe: Recipe, images: pd.DataFrame, path: Path) -> FeatureCache:
    extract_features(
        zip(images["image_sha256"], images["image_path"], strict=True),
        image_root=params.data.images,
        recipe=recipe,
        path=path,
        batch_size=params.extract.batch_size,
        workers=params.extract.workers,
        device=params.extract.device,
        max_image_pixels=params.prepare.max_image_pixels,
    )
    return FeatureCache.open(path, recipe)


def _publish(
    params: Params,
    output: Path,
    figures: Mapping[str, object],
    curves: pd.DataFrame,
    ranker: Ranker,
    dataset: Dataset,
) -> None:
    files = ("best_model.pt", "curves.csv", "train.json", "evaluate.json", "scores.csv")
    try:
        published = log_training_run(
            experiment=params.track.experiment,
            run_name=params.track.run_name,
            params=params.model_dump(mode="json", include={"data", "prepare", "split", "extract", "train", "evaluate"})
            | {"recipe": params.recipe.model_dump(mode="json")},
            metrics=figures,
            curves=curves,
            artifacts=[output / name for name in files],
            ranker=ranker,
            dataset=dataset,
        )
    except TrackingError as error:
        print(f"warning: {error}; the results in {output} stand: run the same command to publish", file=sys.stderr)
        return
    print(f"track: {published}")
