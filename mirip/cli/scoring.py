"""`mirip score | rank | compare`: image files and a trained model in; scores, an order, or the better one out."""

import argparse
import csv
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli.command import add_command, add_device_flag, params_here
from mirip.workspace import Workspace

if TYPE_CHECKING:
    from mirip.metrics.places import Pair
    from mirip.models.trained_ranker import ImageScore, TrainedRanker

_MOST_IN_PAIRS = 100  # images; pairs grow with the square


def add_commands(commands: Any) -> None:
    """Add them to the commands of `mirip`."""
    for name, function in (("score", score), ("rank", rank), ("compare", compare)):
        command = add_command(commands, name, function)
        add_checkpoint_flags(command)
        add_device_flag(command)
        if function is compare:
            command.add_argument("a", type=Path, metavar="IMAGE_A", help="an image file")
            command.add_argument("b", type=Path, metavar="IMAGE_B", help="the image file to compare it with")
        else:
            about = "an image file, or a folder for all images below it"
            command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help=about)
        command.add_argument(
            "--context", help="give percentiles within this context of the training split; default: within all"
        )
        form = command.add_mutually_exclusive_group()
        with_pairs = f", and each pair of up to {_MOST_IN_PAIRS} images" if function is rank else ""
        form.add_argument(
            "--json", action="store_true", help=f"print one JSON object, the images left out with it{with_pairs}"
        )
        form.add_argument("--csv", action="store_true", help="print CSV with a header")


def score(options: argparse.Namespace) -> int:
    """Print the score of each image file, its percentile among the training images, and its tier or "undecided"."""
    from mirip.data.image_files import with_folders_opened

    output = _Output(options)
    for path, found in output.results(list(with_folders_opened(options.images))):
        output.add(path, found)
    return output.end()


def rank(options: argparse.Namespace) -> int:
    """Print image files from best to worst, each with the places that it may have and what cannot be told apart."""
    from mirip.data.image_files import with_folders_opened

    output, least = _Output(options, ["place", "first", "last"]), min_confidence()
    scored = list(output.results(list(with_folders_opened(options.images))))
    found = output.ranker.places([result.score for _, result in scored], min_confidence=least)
    for place, index in enumerate(found.order.tolist(), start=1):
        path, result = scored[index]
        first, last = int(found.first[index]), int(found.last[index])
        span = f"{first}-{last}" if last > first else f"{first}"
        output.add(path, result, f"{place:4}  {span:>7}  ", place=place, first=first, last=last)
    bands = [{"first": start + 1, "last": stop} for start, stop in found.bands]
    if not options.json and not options.csv:
        for band in bands:
            print(f"places {band['first']} to {band['last']} are too close to call", file=sys.stderr)
    with_pairs = options.json and len(scored) <= _MOST_IN_PAIRS
    pairs = [pair._asdict() for pair in _pairs(output.ranker, scored, least)] if with_pairs else None
    return output.end(bands=bands, pairs=pairs, min_confidence=least)


def compare(options: argparse.Namespace) -> int:
    """Say which of two image files is better and how sure that is, or that it is too close to call."""
    output, least = _Output(options, ["p_is_better", "is_better"] if options.csv else []), min_confidence()
    scored = list(output.results([options.a, options.b]))
    pairs = _pairs(output.ranker, scored, least)  # one, or none where an image was left out
    for index, (path, result) in enumerate(scored):
        of_pair: dict[str, Any] = {}
        for pair in pairs if options.csv else []:
            chance = 1 - pair.p_a_is_better if index else pair.p_a_is_better
            of_pair = {"p_is_better": chance, "is_better": None if pair.better is None else chance >= 0.5}
        output.add(path, result, **of_pair)
    if not options.json and not options.csv:
        for pair in pairs:
            print(which_is_better(pair, least))
    return output.end(pairs=[pair._asdict() for pair in pairs], min_confidence=least)


def which_is_better(pair: "Pair[str]", least: float) -> str:
    """Say which of two is the better one, or that it is too close to call, below the confidence `least`."""
    better, confidence = (pair.a, pair.p_a_is_better) if pair.p_a_is_better >= 0.5 else (pair.b, 1 - pair.p_a_is_better)
    said = f"{better} is the better one with probability {confidence:.2f}"
    return said if pair.better else f"too close to call: {said}, below {least:.2f} (evaluate.min_confidence)"


def add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint and --backbone."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Workspace().model,
        help="file of the trained model; default models/best_model.pt",
    )
    parser.add_argument("--backbone", help="folder of its backbone, if it is not where the checkpoint says")


def min_confidence() -> float:
    """Return evaluate.min_confidence of the params.yaml that is here, or its default."""
    from mirip.params import EvaluateParams, load_params

    return (load_params(path).evaluate if (path := params_here()) else EvaluateParams()).min_confidence


class _Output:
    """Scores images and prints them, each as a line or a row of CSV, or all as one JSON object at the end.

    Args:
        options: of the command; an unknown context ends it before an image is read.
        columns: what each image has beside its score.
    """

    def __init__(self, options: argparse.Namespace, columns: Sequence[str] = ()) -> None:
        with _uncollected():
            from mirip.models.trained_ranker import TrainedRanker

        self.ranker = TrainedRanker.from_checkpoint(
            options.checkpoint, device=options.device or "auto", backbone=options.backbone
        )
        self.ranker.check_context(options.context)
        self._context, self._as_json = options.context, options.json
        self._images: list[dict[str, Any]] = []
        self._left_out: list[dict[str, str]] = []
        self._csv: csv.DictWriter[str] | None = None
        if options.csv:
            chances = [f"p_{tier}" for tier in self.ranker.checkpoint.tiers]
            columns = [*columns, "score", "percentile", "tier", *chances, "flags", "path"]
            self._csv = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
            self._csv.writeheader()

    def results(self, paths: Sequence[Path]) -> Iterator[tuple[Path, "ImageScore"]]:
        """Yield each image with its score; one that cannot be used is left out and named on stderr."""
        from mirip.models.trained_ranker import ImageProblem
        from mirip.progress import Progress

        visible = len(paths) > 1 and not sys.stdout.isatty()  # on one terminal with the results it would tear them
        with Progress("score", len(paths), "image", visible=visible) as progress:
            for path, found in zip(paths, self.ranker.score(paths, context=self._context), strict=True):
                progress.update(1)
                if isinstance(found, ImageProblem):
                    self._left_out.append({"path": str(path), **found._asdict()})
                    print(f"left out: {path} {found}", file=sys.stderr)
                else:
                    yield path, found

    def add(self, path: Path, found: "ImageScore", before: str = "", **more: Any) -> None:
        """Print an image, or keep it for the JSON; `more` by the names of columns, `before` for its line."""
        tier = found.tier or "undecided"
        if self._as_json:
            self._images.append({**more, **found.to_dict(), "path": str(path)})
        elif self._csv:
            chances = {f"p_{name}": chance for name, chance in found.tiers.items()}
            row = {**more, "score": found.score, "percentile": found.percentile, "tier": tier, **chances}
            self._csv.writerow({**row, "flags": " ".join(found.flags), "path": str(path)})
        else:
            flags = f"  ({', '.join(flag.replace('_', ' ') for flag in found.flags)})" if found.flags else ""
            print(f"{before}{found.score:+.4f}  {found.percentile:3.0f} %  {tier}{flags}  {path}", flush=True)

    def end(self, **more: Any) -> int:
        """Print the JSON, with `more`, and return the exit code: 1 where an image was left out."""
        if self._as_json:
            known = self.ranker.checkpoint
            model = {
                "version": self.ranker.version, "fingerprint": known.fingerprint, "split_digest": known.split_digest,
            }  # fmt: skip
            found = {"model": model, "images": self._images, **more, "left_out": self._left_out}
            print(json.dumps(found, indent=2, ensure_ascii=False))
        return 1 if self._left_out else 0


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import torch without looking for garbage among what it makes, now or when the process ends: half a second."""
    if "torch" in sys.modules:  # and maybe libraries that ask at the end whether all that is theirs was collected
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _pairs(ranker: "TrainedRanker", scored: Sequence[tuple[Path, "ImageScore"]], least: float) -> list["Pair[str]"]:
    return ranker.pairs([(str(path), found.score) for path, found in scored], min_confidence=least)
