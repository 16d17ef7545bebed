"""`mirip train | evaluate | list-images`: what is done with images and a table, off the pipeline."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli.command import a_listing, a_location, a_path, add_command, add_device_flag, params_here
from mirip.cli.param_options import given_params, naming_options, with_options
from mirip.cli.scoring import add_checkpoint_flags
from mirip.errors import CheckpointError, DataError
from mirip.workspace import private_folder

if TYPE_CHECKING:
    from mirip.data.manifest import Prepared
    from mirip.params import Params


def add_commands(commands: Any) -> None:
    """Add them to the commands of `mirip`."""
    command = add_command(commands, "train", train)
    _add_data_flags(command)
    command.add_argument(
        "--output", type=a_path, required=True, help="folder for the model, the metrics and all files in between"
    )
    command.add_argument("--epochs", type=int, help="the most epochs, as train.max_epochs")
    command.add_argument("--batch-size", type=int, help="cross-tier pairs in a step, as train.batch_size")
    command.add_argument("--learning-rate", type=float, help="as train.learning_rate")
    command.add_argument("--seed", type=int, help="seed of the training, as train.seed")
    command.add_argument("--recipe", help="name of the feature recipe, as extract.recipe")
    command.add_argument("--backbone", help="local folder or hub id of a backbone, instead of the recipe's own")
    command.add_argument(
        "--resume", action="store_true", help="continue from the latest checkpoint in the output folder"
    )
    command.add_argument("--experiment", help="name of the tracking experiment")
    command.add_argument("--run-name", help="name of the tracking run")
    command.add_argument("--no-tracking", action="store_true", help="do not publish to MLflow")

    command = add_command(commands, "evaluate", evaluate)
    add_checkpoint_flags(command)
    _add_data_flags(command)
    command.add_argument("--output", type=a_path, help="JSON file for the metrics; default: print them only")

    command = add_command(commands, "list-images", list_images)
    command.add_argument("url", help="bucket and prefix of the object store, as s3://bucket/prefix")
    command.add_argument(
        "--output", type=a_listing, required=True, help="file of the listing, NAME.parquet; data.images can name it"
    )


@naming_options
def train(options: argparse.Namespace) -> None:
    """Train on any image folder and metadata file, and write all results into one folder."""
    from mirip.cli.output_folder import output_folder
    from mirip.data.manifest import prepare
    from mirip.data.split import split
    from mirip.features.backbones.recipe import resolve
    from mirip.features.extract import extract
    from mirip.models.evaluation import evaluate
    from mirip.models.training import train

    params = _params(options)
    with output_folder(options.output) as folder:
        workspace = folder.unfinished
        recipe = resolve(params.recipe)  # before an hour goes into images that no backbone can see
        seen = "features imported" if recipe.imported else f"{recipe.size_px} px"
        print(f"recipe {params.extract.recipe}: {recipe.backbone}, {seen}", file=sys.stderr)
        if not params.data.group:
            print("no --group: one person's images may be in two splits, the accuracy may be too good", file=sys.stderr)
        _print_notes(prepare(workspace, params), options)
        split(workspace, params)
        extract(workspace, params)
        training = train(workspace, params, resume=options.resume, keep_checkpoints=True)
        evaluated = evaluate(workspace, params, trained=training.checkpoint)
        folder.finish()
        print("\n".join(evaluated.lines))
        if notice := params.report.notices.get(params.extract.recipe):
            print(f"note: {notice}")
        val_accuracy = training.result.val_pairwise_accuracy
        print(f"model: {folder.finished.model}, val_pairwise_accuracy {val_accuracy:.3f}")
        for path in folder.evaluations_of_other_models():
            print(f"{path} is of an earlier model: evaluate again", file=sys.stderr)
        if params.track.enabled:
            from mirip.tracking.publishing import track

            tracked = track(folder.finished, params)
            if tracked.warning:
                print(f"warning: {with_options(tracked.warning, options)}", file=sys.stderr)
            else:
                print(f"track: {tracked.summary()}")


@naming_options
def evaluate(options: argparse.Namespace) -> None:
    """Evaluate a checkpoint on another image folder and metadata file, without the images that it was trained on."""
    from mirip.cli.output_folder import MODEL_SHA256, check_output_file
    from mirip.data.manifest import check_usable, prepare_images
    from mirip.features.cache.feature_cache import FeatureCache
    from mirip.features.extract.extraction import extract_features
    from mirip.files import sha256_file, write_json
    from mirip.models.evaluation import check_same_tiers, evaluate_images, unseen_images

    params = _params(options)
    if options.output is not None:
        check_output_file(options.output)
    options.device = "cpu"  # a head on cached features is no work for a GPU
    model_sha256 = sha256_file(options.checkpoint) if options.checkpoint.is_file() else None
    model = _model(options)
    if sha256_file(options.checkpoint) != model_sha256:  # a training has just ended there
        raise CheckpointError(f"{options.checkpoint} changed while it was read", "run the same command again")
    check_same_tiers(params.data.tiers, model.checkpoint)
    model.check_backbone()
    prepared = prepare_images(params.data, params.prepare)
    _print_notes(prepared, options)
    check_usable(prepared, params.data.max_rejected_fraction)
    images = unseen_images(prepared.manifest, model.checkpoint)
    if n_seen := len(prepared.manifest) - len(images):
        print(f"left out: {n_seen} of {len(prepared.manifest)} images, seen in training", file=sys.stderr)
    scratch_folder = private_folder().root
    scratch_folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=scratch_folder) as scratch:  # the rows stay in the store
        path = Path(scratch) / "features.h5"
        extract_features(
            zip(images["image_sha256"], images["image_path"], strict=True),
            image_root=params.data.images,
            recipe=model.extractor.recipe,
            path=path,
            batch_size=params.extract.batch_size,
            workers=params.extract.workers,
            device=params.extract.device,
            engine=params.extract.engine,
            actors=params.extract.actors,
            max_image_pixels=params.prepare.max_image_pixels,
        )
        cache = FeatureCache.open(path, model.extractor.recipe)
        evaluation = evaluate_images(model, images, cache, params.evaluate)
    if options.output is not None:
        write_json(options.output, {MODEL_SHA256: model_sha256, **evaluation.metrics})
    print(evaluation.summary())


def list_images(options: argparse.Namespace) -> None:
    """List the images of an object store into a file that DVC can depend on. The file changes when an object did."""
    from mirip.data.image_listing import ImageListing, read_listing, write_listing
    from mirip.data.object_store import ObjectStore

    path: Path = options.output
    before = read_listing(path) if path.is_file() else None
    url = options.url.rstrip("/")
    listing = ImageListing.of(url, ObjectStore(url).objects())
    if not len(listing):
        raise DataError(f"there is no object below {url}", "check the prefix")
    write_listing(path, listing)
    print(f"{path}: {listing.summary(before)}")


def _print_notes(prepared: "Prepared", options: argparse.Namespace) -> None:
    for notice in prepared.notices:
        print(f"note: {with_options(notice, options)}", file=sys.stderr)
    for row in prepared.rejected.itertuples():
        reason = with_options(str(row.reason), options)
        print(f"left out: row {row.row}, {row.image_path} {reason}", file=sys.stderr)


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=a_location, required=True, help="folder of the images, or its URL in an object store"
    )
    parser.add_argument(
        "--metadata", type=a_path, required=True, help="CSV, xlsx or Parquet with the columns image_path and tier"
    )
    parser.add_argument("--tiers", nargs="+", help="names of the tiers, best first; default S A B C")
    parser.add_argument("--group", nargs="*", help="columns that say whose image it is; default none")
    parser.add_argument("--context", nargs="*", help="columns within which a comparison is fair; default none")
    add_device_flag(parser)
    parser.add_argument(
        "--params", type=Path, help="file with the values that no option names; default params.yaml, if there is one"
    )


def _model(options: argparse.Namespace) -> Any:
    from mirip.models.ranking import PairwiseRankingModel

    return PairwiseRankingModel.from_checkpoint(
        options.checkpoint, device=options.device or "auto", backbone=options.backbone
    )


def _params(options: argparse.Namespace) -> "Params":
    """Take values from flags, then from the params file, then from the defaults.

    Groups and contexts are columns of one table: those of a params file are not carried over to another.
    """
    from mirip.params import override_params

    flags, file = vars(options), options.params or params_here()
    options.params = file  # for what an error says
    changes = {"data.group": [], "data.context": [], **given_params(options)}
    if flags.get("batch_size") is not None:
        changes["train.images_per_step"] = None
    if flags.get("no_tracking"):
        changes["track.enabled"] = False
    params = override_params(file, changes)
    if options.command is train and (backbone := options.backbone):
        own = {"backbone": backbone, "revision": None, "weights_sha256": None}
        recipe = params.recipe.model_copy(update=own)
        params = params.model_copy(update={"recipes": {**params.recipes, params.extract.recipe: recipe}})
    return params
