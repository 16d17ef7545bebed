"""Training and evaluation off the pipeline: what the stages do, in one folder."""

import sys
import tempfile
from pathlib import Path

import pandas as pd

from mirip.data.manifest import Prepared, check_usable, prepare_images
from mirip.data.split import DataSplitter, check_disjoint, counts_by_split, split_digest
from mirip.data.tables import write_csv, write_table
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.history import last_extraction
from mirip.files import write_json
from mirip.models.evaluation import check_same_tiers, evaluate, evaluate_images, unseen_images
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.training import train
from mirip.params import Params, Recipe
from mirip.tracking.publishing import track
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
    write_table(output / "manifest.parquet", prepared.manifest)
    write_table(output / "splits.parquet", splits)
    _extract(params, params.recipe, splits, output / "features.h5")
    workspace = Workspace(output, flat=True)
    training = train(workspace, params, resume=resume, keep_checkpoints=True)
    found = evaluate(workspace, params, trained=training.checkpoint)
    print("\n".join(found.lines))
    if notice := params.report.notices.get(params.extract.recipe):
        print(f"note: {notice}")
    print(f"model: {workspace.model}, val_pairwise_accuracy {training.result.val_pairwise_accuracy:.3f}")
    write_json(output / "data.json", prepared.counts)
    write_json(output / "split.json", {**counts_by_split(splits), "digest": split_digest(splits)})
    if extracted := last_extraction(output / "features.h5"):
        names = ("rows", "dim", "fingerprint", "content_digest")
        write_json(output / "extract.json", {name: getattr(extracted, name) for name in names})
    if params.track.enabled:
        tracked = track(workspace, params)
        if tracked.warning:
            print(f"warning: {tracked.warning}", file=sys.stderr)
        else:
            print(f"track: {tracked.summary()}")


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
