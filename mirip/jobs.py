"""Training and evaluation off the pipeline: what the stages do, in one folder."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mirip.data.manifest import Prepared, check_usable, prepare_images, write_manifest
from mirip.data.split import DataSplitter
from mirip.data.tables import write_table
from mirip.errors import MetadataError, TrackingError
from mirip.features.cache import FeatureCache
from mirip.features.extraction import extract_features
from mirip.files import main_root, write_json, write_text
from mirip.models.checkpoint import save_checkpoint
from mirip.models.judgement import baseline_scores, judge, judged_side, load_judged_model
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.training import train_ranker, training_summary
from mirip.params import Params, Recipe
from mirip.tracking import log_training_run


def train_job(params: Params, output: Path, *, resume: bool = False) -> None:
    """Prepare, split, extract, train and judge; everything lands in `output`, and in MLflow if params say so.

    Raises:
        MiripError: as the stages do.
    """
    prepared = prepare_images(params.data, params.prepare)
    _tell_rejected(prepared)
    check_usable(prepared, params.data.max_rejected_fraction)
    splits = DataSplitter(**params.split.model_dump()).split(prepared.manifest)
    write_text(output / "rejected.csv", prepared.rejected.to_csv(index=False, lineterminator="\n"))
    write_manifest(output / "manifest.parquet", prepared.manifest)
    write_table(output / "splits.parquet", splits)
    cache = _extract(params, params.recipe, splits, output / "features.h5")
    checkpoint, result = train_ranker(
        splits,
        cache,
        config=params.train,
        tiers=params.data.tiers,
        checkpoint_dir=output / "checkpoints",
        resume=resume,
        verbose=True,
    )
    save_checkpoint(output / "best_model.pt", checkpoint)
    write_text(output / "curves.csv", result.curves.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_json(output / "train.json", training_summary(checkpoint, result))
    model, _ = load_judged_model(output / "best_model.pt", splits, cache, params.data.tiers)
    test = judged_side(splits)
    baselines = baseline_scores(splits, cache, cache.rows(test["image_sha256"].tolist()))
    evaluation, _ = judge(model, test, cache, params.evaluate, baselines)
    write_json(output / "evaluate.json", evaluation.metrics)
    print(evaluation.summary())
    print(f"model: {output / 'best_model.pt'}, val_pairwise_accuracy {result.val_pairwise_accuracy:.3f}")
    if params.track.enabled:
        _publish(params, output, {**training_summary(checkpoint, result), **evaluation.metrics}, result.curves)


def evaluate_job(params: Params, checkpoint: Path, output: Path | None) -> None:
    """Judge a checkpoint on all works of a metadata file, with the recipe that the checkpoint carries.

    Raises:
        MetadataError: the tiers are not those of the checkpoint.
        MiripError: as the stages do.
    """
    model = PairwiseRankingModel.from_checkpoint(checkpoint, device="cpu")
    trained = model.checkpoint
    assert trained is not None
    if list(params.data.tiers) != trained.tiers:
        raise MetadataError(
            f"{checkpoint} knows the tiers {' '.join(trained.tiers)}, not {' '.join(params.data.tiers)}: "
            f"give --tiers {' '.join(trained.tiers)}"
        )
    model.check_backbone()
    prepared = prepare_images(params.data, params.prepare)
    _tell_rejected(prepared)
    check_usable(prepared, params.data.max_rejected_fraction)
    path = main_root() / ".mirip" / "evaluate" / f"{trained.fingerprint[:16]}.h5"
    cache = _extract(params, model.extractor.recipe, prepared.manifest, path)
    path.unlink()  # its rows stay in the store
    evaluation, _ = judge(model, prepared.manifest, cache, params.evaluate)
    if output is not None:
        write_json(output, evaluation.metrics)
    print(evaluation.summary())


def _tell_rejected(prepared: Prepared) -> None:
    for row in prepared.rejected.itertuples():
        print(f"left out: row {row.row}, {row.image_path} {row.reason}", file=sys.stderr)


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


def _publish(params: Params, output: Path, figures: Mapping[str, object], curves: pd.DataFrame) -> None:
    try:
        published = log_training_run(
            experiment=params.track.experiment,
            run_name=params.track.run_name,
            params=params.model_dump(mode="json", include={"data", "split", "extract", "train"})
            | {"recipe": params.recipe.model_dump(mode="json")},
            metrics=figures,
            curves=curves,
            artifacts=[output / name for name in ("best_model.pt", "curves.csv", "train.json", "evaluate.json")],
        )
    except TrackingError as error:
        print(f"warning: {error}; the results in {output} stand: run the same command to publish", file=sys.stderr)
        return
    print(f"track: run {published.run_name} in {published.uri} ({published.status})")
