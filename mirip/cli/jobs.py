"""Training and evaluation off the pipeline: what the stages do, in one folder."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mirip.data.manifest import Prepared, check_usable, prepare_images, write_manifest
from mirip.data.split import DataSplitter, check_disjoint
from mirip.data.tables import write_csv, write_table
from mirip.errors import TrackingError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.files import write_json
from mirip.models.evaluation import check_same_tiers, evaluate, evaluate_images, unseen_images
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.training import train
from mirip.params import Params, Recipe
from mirip.tracking.dataset import Dataset, counts_of
from mirip.tracking.logged_model import Ranker
from mirip.tracking.publishing import log_training_run
from mirip.workspace import Workspace, main_root


def train_job(params: Params, output: Path, *, resume: bool = False) -> None:
    """Prepare, split, extract, train and judge; everything lands in `output`, and in MLflow if params say so.

    Raises:
        MiripError: as the stages do.
    """
    recipe = resolve(params.recipe)  # before an hour goes into images that no backbone can see
    seen = "features imported" if recipe.imported else f"{recipe.size_px} px"
    print(f"recipe {params.extract.recipe}: {recipe.backbone}, {seen}", file=sys.stderr)
    if not params.data.group:
        print("no --group: works of one person may stand in two splits, the figures may be too good", file=sys.stderr)
    prepared = _prepare(params)
    splits = DataSplitter(**params.split.model_dump()).split(prepared.manifest)
    check_disjoint(splits, prepared.manifest, params.prepare.near_duplicate_bits)
    write_csv(output / "rejected.csv", prepared.rejected)
    write_manifest(output / "manifest.parquet", prepared.manifest)
    write_table(output / "splits.parquet", splits)
    _extract(params, params.recipe, splits, output / "features.h5")
    workspace = Workspace(output, flat=True)
    training = train(workspace, params, resume=resume, keep_checkpoints=True)
    found = evaluate(workspace, params, trained=training.checkpoint)
    print("\n".join(found.lines))
    if notice := params.report.notices.get(params.extract.recipe):
        print(f"note: {notice}")
    print(f"model: {workspace.model}, val_pairwise_accuracy {training.result.val_pairwise_accuracy:.3f}")
    if params.track.enabled:
        checkpoint = training.checkpoint
        metrics: dict[str, object] = {f"train.{name}": value for name, value in training.metrics.items()}
        metrics |= {f"evaluate.{name}": value for name, value in found.evaluation.metrics.items()}
        metrics["split.digest"] = checkpoint.split_digest
        ranker = Ranker(workspace.model, checkpoint.feature_dim)
        dataset = Dataset(
            params.data.images.name, checkpoint.split_digest, str(params.data.metadata), counts_of(splits)
        )
        _publish(params, output, metrics, training.result.curves, ranker, dataset)


def evaluate_job(params: Params, model: PairwiseRankingModel, output: Path | None) -> None:
    """Judge a model, loaded from a checkpoint, on the works of a metadata file.

    Works that the model was trained on, or its epoch chosen by, are left out.

    Raises:
        MetadataError: the tiers are not those of the checkpoint, or no work is left to judge by.
        MiripError: as the stages do.
    """
    check_same_tiers(params.data.tiers, model.checkpoint)
    model.check_backbone()
    manifest = _prepare(params).manifest
    images = unseen_images(manifest, model.checkpoint)
    if n_seen := len(manifest) - len(images):
        print(f"left out: {n_seen} of {len(manifest)} images, which the model saw in training", file=sys.stderr)
    folder = main_root() / ".mirip"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=folder) as scratch:  # the rows stay in the store
        cache = _extract(params, model.extractor.recipe, images, Path(scratch) / "features.h5")
    evaluation = evaluate_images(model, images, cache, params.evaluate)
    if output is not None:
        write_json(output, evaluation.metrics)
    print(evaluation.summary())


def _prepare(params: Params) -> Prepared:
    prepared = prepare_images(params.data, params.prepare)
    for row in prepared.rejected.itertuples():
        print(f"left out: row {row.row}, {row.image_path} {row.reason}", file=sys.stderr)
    check_usable(prepared, params.data.max_rejected_fraction)
    return prepared


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
