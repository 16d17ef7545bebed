"""Out of fold: scores of images by models that saw none of their group, and what is learned from such scores.

The training split is dealt into folds of whole groups. Each fold is scored by a model trained on the others as the
final model is, for as many epochs. A model's scores of its own training images are too far apart, so three things are
taken from these scores instead: the weights of the members, what turns scores into probabilities, and the accuracy over
all images that the audit states.

For that accuracy nothing that is scored may have had a say in its own model. The validation split chose the epochs, so
another model scores it, trained on all folds but one, which alone chooses the epoch and the weights of that model. The
images of a fold are scored with weights learned on the scores of the other folds (by models that saw it). The test
split is not looked at here: the final model scores it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mirip.data.folds import deal_folds
from mirip.data.pairs import count_cross_tier_pairs
from mirip.features.backbones.backbone import resolve_device
from mirip.metrics.pairwise import context_codes, sample_fair_pairs
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.scores import NO_FOLD
from mirip.models.trainer import Trainer
from mirip.params import TrainParams
from mirip.progress import Progress
from mirip.randomness import stream

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Result = TypeVar("Result")

_EQUAL_WEIGHTS = 5.0  # strength of the prior on equal weights, in images: docs/benchmarks.md
_MAX_PAIRS = 100_000
_MAX_BYTES_SIDE_BY_SIDE = 2**32  # of all that is trained on at the same time
_COPIES = 4  # of its features that a training holds at most, in float32: rows, tensor, axes, and what is being made


class CrossFit(NamedTuple):
    """Scores of N images out of fold.

    Attributes:
        fold: (N,) the fold that each image is in; NO_FOLD where the rest of the images holds no pair to learn from.
        by_kind: (1 + L, N) standardised scores of each kind of members; NaN where there is no fold.
        weights: (1 + L,) of the kinds, learned on all folds; they sum to 1.
        scores: (N,) weighted means, each fold's by weights learned on the other folds; NaN where there is no fold.
        val_scores: (M,) of the validation split, by a model in which it had no say; NaN where no fold holds a pair to
            choose the epoch by. None where they were not asked for.
    """

    fold: Codes
    by_kind: Floats
    weights: Floats
    scores: Floats
    val_scores: Floats | None


def cross_fit(
    data: RankingData,
    config: TrainParams,
    *,
    epochs: Sequence[int],
    val: RankingData | None = None,
    verbose: bool = False,
) -> CrossFit:
    """Score every image by a model that saw no image of its group.

    On a CPU the folds are trained side by side, each by one thread: two small trainings on two cores take less time
    than one after the other on both. What comes out does not depend on it.

    Args:
        data: N images of the training split.
        config: options of training.
        epochs: how long each head of a fold's model is trained.
        val: M images of the validation split, to be scored as well.
        verbose: show progress on stderr.
    """
    trainer = Trainer(config)
    fold = training_folds(data, config)
    folds = [int(k) for k in np.unique(fold) if k != NO_FOLD]
    by_kind = np.full((1 + len(config.linear_members), len(data)), np.nan)

    n_pairs = [_count_pairs(data, fold == k, config) for k in folds]
    chooser = folds[int(np.argmax(n_pairs))] if val is not None and any(n_pairs) else NO_FOLD
    folds.sort(key=lambda k: k != chooser)  # the longest training first
    val_scores = None if val is None else np.full(len(val), np.nan)

    def trained(k: int) -> tuple[Floats, Floats | None]:
        rest, held_out = data.rows(fold != k), data.rows(fold == k)
        model, chosen = trainer.fit_fold(rest, epochs, held_out if k == chooser else None)
        of_fold = kind_scores(model, held_out.features)
        if chosen is None or val is None:
            return of_fold, None
        return of_fold, _scores_by_chosen(chosen, held_out, val, config)

    with Progress("calibrate", len(folds), "fold", visible=verbose) as progress:
        found = _side_by_side(trained, folds, data, config, done=lambda: progress.update(1))
    for k, (of_fold, of_val) in zip(folds, found, strict=True):
        by_kind[:, fold == k] = of_fold
        val_scores = val_scores if of_val is None else of_val
    block = pair_blocks(data, config, fold)
    scored = fold != NO_FOLD
    scores = np.full(len(data), np.nan)
    for k in folds:
        others = scored & (fold != k)
        weights = learned_weights(by_kind[:, others], data.tier_rank[others], block[others], seed=config.seed)
        scores[fold == k] = weights @ by_kind[:, fold == k]
    weights = learned_weights(by_kind[:, scored], data.tier_rank[scored], block[scored], seed=config.seed)
    return CrossFit(fold, by_kind, weights, scores, val_scores)


def _side_by_side(
    train: Callable[[int], Result],
    folds: Sequence[int],
    data: RankingData,
    config: TrainParams,
    *,
    done: Callable[[], None],
) -> list[Result]:
    """Train on the rest of each fold of `data`, as many at a time as there are cores and memory for them."""
    on_cpu = resolve_device(config.device).type == "cpu"
    fitting = _MAX_BYTES_SIDE_BY_SIDE // max(_COPIES * 4 * data.features.size, 1)
    n_jobs = max(1, min(len(folds), _usable_cores(), fitting)) if on_cpu else 1
    found: list[Result] = []
    # One thread each also where one runs at a time: what comes out must not depend on the number of cores.
    with ThreadPoolExecutor(n_jobs) as pool, _one_thread_each() if on_cpu else nullcontext():
        try:
            for future in [pool.submit(train, k) for k in folds]:
                found.append(future.result())
                done()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # an interruption waits for what runs, not for all folds
            raise
    return found


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let every product of matrices use one thread: more would compete for the cores."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(n_threads)


def _scores_by_chosen(
    model: PairwiseRankingModel, chosen_by: RankingData, val: RankingData, config: TrainParams
) -> Floats:
    """Score the validation split, (M,), by a model whose epoch one fold chose. That fold decides its weights too."""
    block = pair_blocks(chosen_by, config, np.zeros(len(chosen_by), dtype=np.int64))
    weights = learned_weights(kind_scores(model, chosen_by.features), chosen_by.tier_rank, block, seed=config.seed)
    return weights @ kind_scores(model, val.features)


def training_folds(data: RankingData, config: TrainParams) -> Codes:
    """Deal images to `config.calibration_folds` folds of whole groups, each with its share of every tier.

    Returns:
        The fold of each image, (N,) from 0; NO_FOLD for the images of a fold whose rest holds no pair to learn from.
    """
    groups = np.arange(len(data)) if data.group is None else data.group
    fold = deal_folds(groups, data.tier_rank, config.calibration_folds, np.random.default_rng(config.seed))
    for k in range(config.calibration_folds):
        if not _count_pairs(data, fold != k, config):
            fold = np.where(fold == k, NO_FOLD, fold)
    return fold


def kind_scores(model: PairwiseRankingModel, features: NDArray[np.floating]) -> Floats:
    """Score features (N, D) by each kind of members, (1 + L, N) float64."""
    with torch.inference_mode():
        members = model.score_members(torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)))
        return model.by_kind(members).numpy().astype(np.float64)


def pair_blocks(data: RankingData, config: TrainParams, fold: Codes) -> Codes:
    """Return codes (N,) within which pairs count: of a fold, and where training uses only those, of a context."""
    if config.pair_context != "same":
        return fold
    return context_codes(fold, data.context)


def learned_weights(by_kind: Floats, tier_rank: NDArray[np.integer], block: Codes, *, seed: int) -> Floats:
    """Learn how much each kind of members counts, from scores of images that it has not seen.

    This is stacking (Wolpert 1992, Neural Networks 5) with weights that are not negative (Breiman 1996, Machine
    Learning 24). The weighted sum of scores is fitted to the order of cross-tier pairs by maximum likelihood (Bradley &
    Terry 1952). A prior draws the weights towards equal ones, which are hard to beat with few images.

    Args:
        by_kind: (K, N) standardised scores.
        tier_rank: (N,) integers, higher is better.
        block: (N,) codes; only pairs of one block count.
        seed: draws pairs where there are more than 100,000.

    Returns:
        (K,) numbers >= 0 that sum to 1; equal ones where there is no pair.
    """
    from scipy.optimize import minimize

    n_kinds, n_images = by_kind.shape
    equal = np.full(n_kinds, 1 / n_kinds)
    better, worse = sample_fair_pairs(tier_rank, block, rng=stream(seed, "weights"), max_pairs=_MAX_PAIRS)
    difference = by_kind[:, better] - by_kind[:, worse]  # (K, P)
    if n_kinds == 1 or not difference.shape[1]:
        return equal

    def loss(slopes: Floats) -> tuple[float, Floats]:
        total = slopes.sum() + 1e-9
        off = slopes / total - equal
        d = slopes @ difference
        strength = _EQUAL_WEIGHTS * n_kinds / n_images
        gradient = -(difference @ _loses(d)) / len(d)
        gradient += 2 * strength * (off - off @ (slopes / total)) / total
        return float(np.mean(np.logaddexp(0.0, -d)) + strength * off @ off), gradient

    found = minimize(loss, np.ones(n_kinds), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * n_kinds).x
    return np.asarray(found / found.sum() if found.sum() > 1e-6 else equal, dtype=np.float64)


def _loses(difference: Floats) -> Floats:
    """Return 1 / (1 + exp(d)), the probability that the better image is taken for the worse one."""
    from scipy.special import expit

    return np.asarray(expit(-difference), dtype=np.float64)


def _count_pairs(data: RankingData, chosen: NDArray[np.bool_], config: TrainParams) -> int:
    """Count the pairs that training would use among some of the images, without copying any feature."""
    fair = data.context[chosen] if config.pair_context == "same" else None
    return count_cross_tier_pairs(data.tier_rank[chosen], fair)
