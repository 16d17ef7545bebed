"""Evaluation of a ranking against tiers: every metric with its interval, beside what the baselines reach.

METRICS is the list of what metrics/evaluate.json holds: a new metric is one entry there (and a line in
docs/metrics.md, which a test asks for).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.calibrated_range import calibrated_range
from mirip.metrics.calibration import (
    brier_score,
    coverage_table,
    expected_calibration_error,
    reliability_table,
    win_probability,
)
from mirip.metrics.comparison import WORSE, Compared, compare_with_model, comparison_text
from mirip.metrics.intervals import (
    GroupSupport,
    Interval,
    accuracy_interval,
    bootstrap_accuracies,
    group_support,
    seed_spread,
    target_verdict,
)
from mirip.metrics.pairwise import (
    PairCounter,
    TierPairCounts,
    context_codes,
    pairwise_accuracy,
    rank_correlations,
    sample_pairs,
)
from mirip.randomness import stream

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Scalar = float | int | str | bool

CHANCE = "chance"
MODEL_NAME = "mirip"
_MAX_CALIBRATION_PAIRS = 2_000_000


class Measured(NamedTuple):
    """What the metrics are read from, measured once.

    Attributes:
        counts: of all pairs that count.
        within: of the pairs within one context.
        interval: of the accuracy over all pairs.
        within_interval: of the accuracy over the pairs within one context; without contexts, `interval`.
        within_support: the groups behind that accuracy.
        contexts: whether the images are of several contexts: the verdict is then on the pairs within one.
        seed_spread: of that accuracy over single heads, by metric name; empty for one head.
        tau_b: Kendall's.
        spearman: Spearman's rho.
        better_wins: (P,) probability that the model gives to the truly better image of each pair.
        ece_high: the calibration error that 5 % of perfectly calibrated models exceed.
        called: the row of the coverage table at `min_confidence`; None where every pair is too close to call.
        n_images: images evaluated.
        support: the groups behind the accuracy.
        evaluator: the settings.
    """

    counts: TierPairCounts
    within: TierPairCounts
    interval: Interval
    within_interval: Interval
    within_support: GroupSupport
    contexts: bool
    seed_spread: Mapping[str, float]
    tau_b: float
    spearman: float
    better_wins: Floats
    ece_high: float
    called: Mapping[Any, float] | None
    n_images: int
    support: GroupSupport
    evaluator: "Evaluator"


# Name in metrics/evaluate.json -> how it is read. One that returns None is left out of the file.
METRICS: dict[str, Callable[[Measured], Scalar | None]] = {
    "pairwise_accuracy": lambda m: float(m.counts.micro),
    "pairwise_accuracy_ci_low": lambda m: float(m.interval.low),
    "pairwise_accuracy_ci_high": lambda m: float(m.interval.high),
    "pairwise_accuracy_seed_sd": lambda m: m.seed_spread.get("pairwise_accuracy_seed_sd"),
    "pairwise_accuracy_seed_min": lambda m: m.seed_spread.get("pairwise_accuracy_seed_min"),
    "pairwise_accuracy_seed_max": lambda m: m.seed_spread.get("pairwise_accuracy_seed_max"),
    "pairwise_accuracy_macro": lambda m: float(m.counts.macro),
    "pairwise_accuracy_within_context": lambda m: float(m.within.micro),
    "pairwise_accuracy_within_context_ci_low": lambda m: float(m.within_interval.low),
    "pairwise_accuracy_within_context_ci_high": lambda m: float(m.within_interval.high),
    "kendall_tau_b": lambda m: m.tau_b,
    "spearman": lambda m: m.spearman,
    "ece": lambda m: expected_calibration_error(m.better_wins),
    "ece_if_calibrated_high": lambda m: m.ece_high,
    "brier": lambda m: brier_score(m.better_wins),
    "min_confidence": lambda m: m.evaluator.min_confidence,
    "too_close_to_call": lambda m: _too_close_to_call(m),
    "pairwise_accuracy_called": lambda m: float(m.called["accuracy"]) if m.called else float("nan"),
    "n_images": lambda m: m.n_images,
    "n_groups": lambda m: m.support.n_groups,
    "n_pairs": lambda m: int(m.counts.pairs.sum()),
    "n_pairs_within_context": lambda m: int(m.within.pairs.sum()),
    "min_groups_in_tier": lambda m: m.support.fewest_in_tier,
    "small_sample": lambda m: m.within_support.small_sample,
    "confidence": lambda m: m.evaluator.confidence,
    "target_accuracy": lambda m: m.evaluator.target_accuracy,
    "verdict_on": lambda m: "within_context" if m.contexts else "all_pairs",
    "verdict": lambda m: target_verdict(m.within_interval, m.evaluator.target_accuracy),
}


@dataclass(frozen=True)
class Evaluation:
    """What `Evaluator.evaluate` found.

    Attributes:
        metrics: flat scalars, by the names of METRICS, and those of each baseline. Accuracies lie in [0, 1]; a metric
            that does not exist (no pair, a baseline not given) is NaN.
        compared: chance, the baselines and the model itself, each compared with the model.
        interval: of the model's accuracy.
        tier_pairs: better, worse, n_pairs, accuracy, pair ("S > A", for plots); best tiers first.
        gaps: tier_gap, n_pairs, accuracy.
        reliability: bin, confidence, accuracy, n_pairs, and low, high: where a perfectly calibrated model's accuracy
            lies in 95 of 100 cases at this size (NaN without tier probabilities).
        coverage: min_confidence, coverage, accuracy.
    """

    metrics: dict[str, Scalar]
    compared: Sequence[Compared]
    interval: Interval
    tier_pairs: pd.DataFrame
    gaps: pd.DataFrame
    reliability: pd.DataFrame
    coverage: pd.DataFrame

    @property
    def baseline_table(self) -> pd.DataFrame:
        """Return model, pairwise_accuracy, ci_low, ci_high, margin, margin_ci_low, margin_ci_high.

        margin is the model's accuracy minus this row's, on the same resamples. Rows: chance, the baselines, mirip.
        """
        return pd.DataFrame([{"model": one.name, **one.row()} for one in self.compared])

    def summary(self) -> str:
        """Say the result in a few lines of words."""
        m = self.metrics
        aim = f": target {m['target_accuracy']:.2f} {m['verdict']}"
        within, low, high = (float(m[f"pairwise_accuracy_within_context{end}"]) for end in ("", "_ci_low", "_ci_high"))
        beyond = float(m["pairwise_accuracy"]) - within
        lines = [
            f"pairwise accuracy {m['pairwise_accuracy']:.3f}, interval {self.interval.low:.3f} to "
            f"{self.interval.high:.3f} at {m['confidence']:.0%} ({m['n_images']} images, "
            f"{m['n_groups']} groups, {m['n_pairs']} pairs){aim if m['verdict_on'] == 'all_pairs' else ''}"
        ]
        if m["verdict_on"] == "within_context":
            lines.append(
                f"within one context {within:.3f}, interval {low:.3f} to {high:.3f} ({m['n_pairs_within_context']} "
                f"pairs, the fair ones){aim}"
            )
            if not low <= within + beyond <= high:
                lines.append(
                    f"over all pairs it is {beyond:+.3f}, beyond that interval: the context tells something of the "
                    "tier, so go by the pairs within one"
                )
        if m["small_sample"]:
            lines.append(
                f"small sample: {m['n_groups']} groups, {m['min_groups_in_tier']} in the tier that has fewest; "
                "the interval is a rough one, and no verdict is given on it"
            )
        if "pairwise_accuracy_seed_sd" in m:
            lines.append(
                f"by seed: with single heads it reaches {m['pairwise_accuracy_seed_min']:.3f} to "
                f"{m['pairwise_accuracy_seed_max']:.3f} (standard deviation {m['pairwise_accuracy_seed_sd']:.3f}); the "
                "accuracy above is that of their mean score"
            )
        return "\n".join([*lines, *map(_versus, _baselines(self.compared))])


class Evaluator:
    """Evaluates scores against the tiers of one split.

    Args:
        target_accuracy: held against the interval: met, missed or undecided.
        confidence: nominal coverage of all intervals.
        n_bootstrap: resamples over groups.
        seed: of the resamples, and of the pairs drawn for calibration where there are more than two million.
        min_confidence: a pair whose P(a beats b), either way, is below is too close to call.
    """

    def __init__(
        self,
        *,
        target_accuracy: float = 0.60,
        confidence: float = 0.95,
        n_bootstrap: int = 2000,
        seed: int = 42,
        min_confidence: float = 0.6,
    ) -> None:
        self.min_confidence: float = min_confidence
        self.target_accuracy: float = target_accuracy
        self.confidence: float = confidence
        self.n_bootstrap: int = n_bootstrap
        self.seed: int = seed

    def evaluate(
        self,
        scores: ArrayLike,
        tier_rank: ArrayLike,
        *,
        tiers: Sequence[str],
        group_id: ArrayLike | None = None,
        context: ArrayLike | None = None,
        temperature: float = 1.0,
        baselines: Mapping[str, ArrayLike] | None = None,
        seed_scores: Mapping[int, ArrayLike] | None = None,
        fold: ArrayLike | None = None,
        tier_probability: ArrayLike | None = None,
    ) -> Evaluation:
        """Evaluate scores (N,) against tier ranks (N,), both higher is better.

        Args:
            scores: (N,) finite numbers.
            tier_rank: (N,) integers in 0..K-1.
            tiers: names of the K tiers, best first.
            group_id: (N,) labels of what is resampled together; None: every image is a group of its own.
            context: (N,) labels within which a comparison is fair; None: all images are of one context.
            temperature: P(a beats b) = sigmoid((score_a - score_b) / temperature), fitted elsewhere.
            baselines: name -> scores (N,) of other models on the same images.
            seed_scores: seed -> scores (N,) with that seed's head alone, where the model has several.
            fold: (N,) labels; only pairs of one fold count anywhere, since scores of different folds are of different
                models. None: all are of one model.
            tier_probability: (N, K) the model's own, column k is tier_rank k; what a perfectly calibrated model would
                show is drawn from them. None: it is not said.

        Raises:
            ValueError: shapes differ, a score is not finite, or a rank has no tier.
        """
        values, rank = np.asarray(scores, dtype=np.float64), np.asarray(tier_rank, dtype=np.int64)
        group = np.arange(len(values)) if group_id is None else np.asarray(group_id)
        block = np.zeros(len(values), dtype=np.int64) if fold is None else context_codes(fold)
        # A fair pair is within one fold and one context: one label for each combination of both.
        fair = block if context is None else context_codes(block, context)
        counts = PairCounter(values, rank, block, n_tiers=len(tiers)).count()
        support = group_support(rank, group, block)
        compared = self._compared(values, rank, group, block, baselines or {}, support)
        within = PairCounter(values, rank, fair, n_tiers=len(tiers)).count()
        contexts = context is not None and len(np.unique(np.asarray(context))) > 1
        within_support = group_support(rank, group, fair) if contexts else support
        better, worse = sample_pairs(rank, rng=stream(self.seed, "calibration pairs"), max_pairs=_MAX_CALIBRATION_PAIRS)
        better, worse = (rows[block[better] == block[worse]] for rows in (better, worse))
        better_wins = win_probability(values[better] - values[worse], temperature)
        reliability, ece_high = self._reliability(better_wins, values, temperature, tier_probability, block)
        called = coverage_table(better_wins, [self.min_confidence]).to_dict("records")
        tau_b, spearman = _rank_correlations(values, rank, block)
        by_seed = [pairwise_accuracy(one, rank, context=block) for one in (seed_scores or {}).values()]
        measured = Measured(
            counts=counts,
            within=within,
            interval=compared[-1].interval,
            within_interval=accuracy_interval(
                values,
                rank,
                group,
                rng=stream(self.seed, "bootstrap"),  # the same resamples
                n_bootstrap=self.n_bootstrap,
                confidence=self.confidence,
                context=fair,
            )
            if contexts
            else compared[-1].interval,
            within_support=within_support,
            contexts=contexts,
            seed_spread=seed_spread("pairwise_accuracy", by_seed),
            tau_b=tau_b,
            spearman=spearman,
            better_wins=better_wins,
            ece_high=ece_high,
            called=called[0] if called else None,
            n_images=len(values),
            support=support,
            evaluator=self,
        )
        read = {name: metric(measured) for name, metric in METRICS.items()}
        return Evaluation(
            {name: value for name, value in read.items() if value is not None} | _baseline_metrics(compared),
            compared,
            measured.interval,
            tier_pair_table(counts, tiers),
            gap_table(counts),
            reliability,
            coverage_table(better_wins),
        )

    def _reliability(
        self,
        better_wins: Floats,
        scores: Floats,
        temperature: float,
        tier_probability: ArrayLike | None,
        block: Codes,
    ) -> tuple[pd.DataFrame, float]:
        """Return the table, and the calibration error that 5 % of perfectly calibrated models exceed."""
        table = reliability_table(better_wins)
        if tier_probability is None:
            return table.assign(low=np.nan, high=np.nan), float("nan")
        rng = stream(self.seed, "calibrated range")
        drawn = calibrated_range(scores, tier_probability, temperature=temperature, rng=rng, fold=block)
        of_bin = table["bin"].to_numpy() - 1
        ends = {"low": table["confidence"] + drawn.low[of_bin], "high": table["confidence"] + drawn.high[of_bin]}
        return table.assign(**{name: end.clip(0, 1) for name, end in ends.items()}), drawn.ece_high

    def _compared(
        self,
        scores: Floats,
        rank: Codes,
        group: NDArray[np.generic],
        block: Codes,
        baselines: Mapping[str, ArrayLike],
        support: GroupSupport,
    ) -> list[Compared]:
        """Compare chance, the baselines and the model, which comes last, on the same resamples."""
        score_sets = np.stack([*(np.asarray(b, dtype=np.float64) for b in baselines.values()), scores])
        rng = stream(self.seed, "bootstrap")
        resampled = bootstrap_accuracies(score_sets, rank, group, rng=rng, n_bootstrap=self.n_bootstrap, context=block)
        accuracies = [float(PairCounter(row, rank, block).count().micro) for row in score_sets]
        # Chance orders every pair by a coin: exactly one half in any resample that has a pair.
        by_chance = np.where(np.isnan(resampled[:, -1]), np.nan, 0.5)
        chance, *others = compare_with_model(
            [CHANCE, *baselines, MODEL_NAME],
            [0.5 if np.isfinite(accuracies[-1]) else float("nan"), *accuracies],
            np.column_stack([by_chance, resampled]),
            model=-1,
            support=support,
            confidence=self.confidence,
        )
        exactly = Interval(chance.accuracy, chance.accuracy, support.small_sample)  # known, not estimated
        return [chance._replace(interval=exactly), *others]


def tier_pair_table(counts: TierPairCounts, tiers: Sequence[str]) -> pd.DataFrame:
    """Return accuracy by tier pair, best tiers first: better, worse, n_pairs, accuracy (NaN without pairs), pair."""
    best = len(tiers) - 1
    return pd.DataFrame(
        [
            {
                "better": tiers[best - high],
                "worse": tiers[best - low],
                "n_pairs": int(counts.pairs[high, low]),
                "accuracy": float(counts.accuracy[high, low]),
                "pair": f"{tiers[best - high]} > {tiers[best - low]}",
            }
            for high in range(best, 0, -1)
            for low in range(high - 1, -1, -1)
        ]
    )


def gap_table(counts: TierPairCounts) -> pd.DataFrame:
    """Return accuracy by the distance between tiers: tier_gap (1 to K-1), n_pairs, accuracy (NaN without pairs)."""
    rows = []
    for distance in range(1, counts.pairs.shape[-1]):
        wins, pairs = counts.gap(distance)
        accuracy = float(wins / pairs) if pairs > 0 else float("nan")
        rows.append({"tier_gap": distance, "n_pairs": int(pairs), "accuracy": accuracy})
    return pd.DataFrame(rows, columns=["tier_gap", "n_pairs", "accuracy"])


def _baselines(compared: Sequence[Compared]) -> Sequence[Compared]:
    """Leave out chance, which is first, and the model, which is last."""
    return compared[1:-1]


def _baseline_metrics(compared: Sequence[Compared]) -> dict[str, Scalar]:
    """Return flat metrics of each baseline; those of ridge and k-NN always exist, NaN where they were not given."""
    metrics: dict[str, Scalar] = {"baseline_ridge_accuracy": float("nan"), "baseline_knn_accuracy": float("nan")}
    for one in _baselines(compared):
        metrics[f"baseline_{one.name}_accuracy"] = one.accuracy
        metrics[f"margin_over_{one.name}"] = one.margin
        metrics[f"margin_over_{one.name}_ci_low"] = one.difference.low
        metrics[f"margin_over_{one.name}_ci_high"] = one.difference.high
    return metrics


def _versus(baseline: Compared) -> str:
    """Say how the model compares with a baseline, and what to do where it is worse."""
    said = comparison_text(baseline.verdict, "the model", baseline.name)
    if baseline.verdict == WORSE:
        said += f": use {baseline.name}, or train differently"
    low, high = baseline.difference.low, baseline.difference.high
    return f"{said} ({baseline.accuracy:.3f}; difference {baseline.margin:+.3f}, {low:+.3f} to {high:+.3f})"


def _too_close_to_call(measured: Measured) -> float:
    """Return the share of pairs below the least confidence, in [0, 1]; NaN without pairs."""
    if not len(measured.better_wins):
        return float("nan")
    return 1 - float(measured.called["coverage"] if measured.called else 0.0)


def _rank_correlations(scores: Floats, rank: Codes, block: Codes) -> tuple[float, float]:
    """Return tau-b and Spearman's rho, of several blocks their means weighted by images; NaN where none has any.

    A block of one tier (a fold that holds out one group, say) has neither and is left out.
    """
    members = [np.flatnonzero(block == k) for k in np.unique(block)]
    both = np.array([rank_correlations(scores[rows], rank[rows]) for rows in members]).reshape(-1, 2)
    weights = np.array([len(rows) for rows in members]) * np.isfinite(both).all(axis=1)
    if not weights.sum():
        return float("nan"), float("nan")
    tau_b, rho = np.average(np.nan_to_num(both), axis=0, weights=weights)
    return float(tau_b), float(rho)
