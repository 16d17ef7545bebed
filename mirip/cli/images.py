"""`mirip train | evaluate | score | compare | rank`: what is done with a folder of images or with image files."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli.command import a_path, add_command
from mirip.cli.output_folder import MODEL_SHA256, check_output_file, output_folder
from mirip.cli.param_options import given_params, naming_options, with_options
from mirip.errors import CheckpointError, ImageError
from mirip.params import EvaluateParams, Params, load_params, override_params
from mirip.workspace import Workspace, private_folder

if TYPE_CHECKING:
    from mirip.data.manifest import Prepared


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
    _add_checkpoint_flags(command)
    _add_data_flags(command)
    command.add_argument("--output", type=a_path, help="JSON file for the metrics; default: print them only")

    for name, function in (("score", score), ("rank", rank)):
        command = add_command(commands, name, function)
        _add_image_flags(command)
        command.add_argument(
            "images", type=Path, nargs="+", metavar="IMAGE", help="an image file, or a folder for all images below it"
        )
        if function is score:
            command.add_argument(
                "--context", help="give the percentile within this context of the training split; default: within all"
            )

    command = add_command(commands, "compare", compare)
    _add_image_flags(command)
    command.add_argument("a", type=Path, metavar="IMAGE_A", help="an image file")
    command.add_argument("b", type=Path, metavar="IMAGE_B", help="the image file to compare it with")


@naming_options
def train(options: argparse.Namespace) -> None:
    """Train on any image folder and metadata file, and write all results into one folder."""
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
            max_image_pixels=params.prepare.max_image_pixels,
        )
        cache = FeatureCache.open(path, model.extractor.recipe)
        evaluation = evaluate_images(model, images, cache, params.evaluate)
    if options.output is not None:
        write_json(options.output, {MODEL_SHA256: model_sha256, **evaluation.metrics})
    print(evaluation.summary())


def score(options: argparse.Namespace) -> int:
    """Print the score of each image file, its percentile among the training images, and its likeliest tier."""
    from mirip.models.percentiles import score_summary

    model, left_out = _model(options), list[Path]()
    for path, value in _scored(model, options.images, left_out):
        found = score_summary(model.checkpoint, value, options.context)
        print(f"{value:+.4f}  {found.percentile:3.0f} %  {found.likeliest_tier}  {path}")
    return 1 if left_out else 0


def compare(options: argparse.Namespace) -> None:
    """Say which of two image files is better and how sure that is, or that it is too close to call."""
    least = (load_params(path).evaluate if (path := _params_here()) else EvaluateParams()).min_confidence
    result = _model(options).compare(options.a, options.b)
    print(f"{result.score_a:+.4f}  {options.a}")
    print(f"{result.score_b:+.4f}  {options.b}")
    print(which_is_better(options.a, options.b, result.probability, least))


def which_is_better(a: Path, b: Path, probability: float, least: float) -> str:
    """Say which of two is the better one, given P(a is); below the confidence `least`, too close to call."""
    better, confidence = (a, probability) if probability >= 0.5 else (b, 1 - probability)
    said = f"{better} is the better one with probability {confidence:.2f}"
    return said if confidence >= least else f"too close to call: {said}, below {least:.2f} (evaluate.min_confidence)"


def rank(options: argparse.Namespace) -> int:
    """Print image files from best to worst."""
    left_out = list[Path]()
    scored = sorted(_scored(_model(options), options.images, left_out), key=lambda item: -item[1])
    for place, (path, value) in enumerate(scored, start=1):
        print(f"{place:4}  {value:+.4f}  {path}")
    return 1 if left_out else 0


def _scored(model: Any, given: Sequence[Path], left_out: list[Path]) -> Iterator[tuple[Path, float]]:
    """Yield each image with its score; one that cannot be used is named on stderr and goes to `left_out`."""
    from mirip.data.image_files import with_folders_opened

    for path in with_folders_opened(given):
        try:
            yield path, model.score_images([path])[0]
        except ImageError as error:
            left_out.append(path)
            print(f"left out: {error}", file=sys.stderr)


def _print_notes(prepared: "Prepared", options: argparse.Namespace) -> None:
    for notice in prepared.notices:
        print(f"note: {with_options(notice, options)}", file=sys.stderr)
    for row in prepared.rejected.itertuples():
        reason = with_options(str(row.reason), options)
        print(f"left out: row {row.row}, {row.image_path} {reason}", file=sys.stderr)


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=a_path, required=True, help="folder of the images")
    parser.add_argument(
        "--metadata", type=a_path, required=True, help="CSV, xlsx or Parquet with the columns image_path and tier"
    )
    parser.add_argument("--tiers", nargs="+", help="names of the tiers, best first; default S A B C")
    parser.add_argument("--group", nargs="*", help="columns that say whose image it is; default none")
    parser.add_argument("--context", nargs="*", help="columns within which a comparison is fair; default none")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="where the backbone computes; auto is cuda where there is one"
    )
    parser.add_argument(
        "--params", type=Path, help="file with the values that no option names; default params.yaml, if there is one"
    )


def _add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Workspace().model,
        help="file of the trained model; default models/best_model.pt",
    )
    parser.add_argument("--backbone", help="folder of its backbone, if it is not where the checkpoint says")


def _add_image_flags(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_flags(parser)
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="where the backbone computes; auto is cuda where there is one"
    )


def _model(options: argparse.Namespace) -> Any:
    from mirip.models.ranking import PairwiseRankingModel

    return PairwiseRankingModel.from_checkpoint(
        options.checkpoint, device=options.device or "auto", backbone=options.backbone
    )


def _params_here() -> Path | None:
    return path if (path := Path("params.yaml")).is_file() else None


def _params(options: argparse.Namespace) -> Params:
    """Take values from flags, then from the params file, then from the defaults.

    Groups and contexts are columns of one table: those of a params file are not carried over to another.
    """
    flags, file = vars(options), options.params or _params_here()
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
