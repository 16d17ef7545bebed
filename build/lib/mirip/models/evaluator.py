"""Judgement of a ranking against tiers: every figure with its interval, and next to it what simpler models reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from mirip.metrics.intervals import (
    Interval,
    bootstrap_accuracies,
    percentile_interval,
    resampled_accuracy_interval,
    verdict,
)
from mirip.metrics.pairwise import (
    PairCounter,
    TierPairCounts,
    context_codes,
    pairwise_accuracy,
    rank_correlations,
    sample_pairs,
)
from mirip.metrics.seed_spread import seed_spread
from mirip.metrics.support import GroupSupport, group_support
from mirip.models.comparison_text import Scalar, baseline_metrics, versus

MODEL_NAME = "mirip"
_MAX_CALIBRATION_PAIRS = 2_000_000


@dataclass(frozen=True)
class Evaluation:
    """What `Evaluator.evaluate` found.

    Attributes:
        metrics: flat scalars, the names of metrics/evaluate.json. Accuracies lie in [0, 1]; a figure that does not
            exist (no pair, a baseline not given) is NaN. With several seeds, pairwise_accuracy_seed_sd, _min and _max
            tell the spread of the single heads.
        tier_pairs: better, worse, n_pairs, accuracy, pair ("S > A", for plots); best tiers first.
        gaps: tier_gap, n_pairs, accuracy.
        reliability: bin, confidence, accuracy, n_pairs, and low, high: where a perfectly calibrated model's accuracy
            lies in 95 of 100 cases at this size (NaN without tier probabilities).
        coverage: min_confidence, coverage, accuracy.
        baseline_table: model, pairwise_accuracy, ci_low, ci_high, and margin, margin_ci_low, margin_ci_high: accuracy
            of the evaluated model minus this row's, on the same resamples. Rows: chance, the baselines, mirip.
    """

    metrics: dict[str, Scalar]
    tier_pairs: pd.DataFrame
    gaps: pd.DataFrame
    reliability: pd.DataFrame
    coverage: pd.DataFrame
    baseline_table: pd.DataFrame

    def summary(self) -> str:
        """Say the result in a few lines of words."""
        m = self.metrics
        lines = [
            f"pairwise accuracy {m['pairwise_accuracy']:.3f}, interval {m['pairwise_accuracy_ci_low']:.3f} to "
            f"{m['pairwise_accuracy_ci_high']:.3f} at {m['confidence']:.0%} ({m['n_images']} images, "
            f"{m['n_groups']} groups, {m['n_pairs']} pairs): target {m['target_accuracy']:.2f} {m['verdict']}"
        ]
        if m["small_sample"]:
            lines.append(
                f"small sample: {m['n_groups']} groups, {m['min_groups_in_tier']} in the tier that has fewest; "
                "the interval is a rough one, and the verdict at best undecided"
            )
        if "pairwise_accuracy_seed_sd" in m:
            lines.append(
                f"by seed: single heads reach {m['pairwise_accuracy_seed_min']:.3f} to "
                f"{m['pairwise_accuracy_seed_max']:.3f} (standard deviation {m['pairwise_accuracy_seed_sd']:.3f}); the "
                "figure above is of the mean of their scores"
            )
        for row in self.baseline_table.iloc[1:-1].to_dict("records"):
            difference = Interval(row["margin_ci_low"], row["margin_ci_high"], bool(m["small_sample"]))
            lines.append(versus(row["model"], row["pairwise_accuracy"], row["margin"], difference))
        return "\n".join(lines)


class Evaluator:
    """Judges scores against tiers in one split of a split.

    Args:
        target_accuracy: judged on the interval: met, missed or undecided.
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
        self.min_confidence = min_confidence
        self.target_accuracy = target_accuracy
        self.confidence = confidence
        self.n_bootstrap = n_bootstrap
        self.seed = seed

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
        """Judge scores (N,) against tier ranks (N,), both higher is better.

        Args:
            scores: (N,) finite numbers.
            tier_rank: (N,) integers in 0..K-1.
            tiers: names of the K tiers, best first.
            group_id: (N,) labels of what is resampled together; None: every image stands alone.
            context: (N,) labels within which a comparison is fair; None: all images are of one context.
            temperature: P(a beats b) = sigmoid((score_a - score_b) / temperature), fitted elsewhere.
            baselines: name -> scores (N,) of other models on the same images.
            seed_scores: seed -> scores (N,) of one head alone, where `scores` are the mean of several.
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
        counts = PairCounter(values, rank, block, n_tiers=len(tiers)).count()
        fair = block if context is None else block * len(values) + context_codes(context)
        within = PairCounter(values, rank, fair, n_tiers=len(tiers)).count()
        by_seed = [pairwise_accuracy(one, rank, context=block) for one in (seed_scores or {}).values()]
        support = group_support(rank, group, block)
        ladder = self._ladder(values, rank, group, block, baselines or {}, support)
        judged = ladder.iloc[-1]
        interval = Interval(judged["ci_low"], judged["ci_high"], support.small_sample)
        better, worse = sample_pairs(rank, rng=np.random.default_rng(self.seed), max_pairs=_MAX_CALIBRATION_PAIRS)
        better, worse = (rows[block[better] == block[worse]] for rows in (better, worse))
        better_wins = win_probability(values[better] - values[worse], temperature)
        reliability, ece_high = self._reliability(better_wins, tier_probability, block)
        called = coverage_table(better_wins, [self.min_confidence])  # no row where every pair is too close
        tau_b, spearman = _rank_correlations(values, rank, block)
        metrics: dict[str, Scalar] = {
            "pairwise_accuracy": float(counts.micro),
            "pairwise_accuracy_ci_low": float(interval.low),
            "pairwise_accuracy_ci_high": float(interval.high),
            **seed_spread("pairwise_accuracy", by_seed),
            "pairwise_accuracy_macro": float(counts.macro),
            "pairwise_accuracy_within_context": float(within.micro),
            "kendall_tau_b": tau_b,
            "spearman": spearman,
            "ece": expected_calibration_error(better_wins),
            "ece_if_calibrated_high": ece_high,
            "brier": brier_score(better_wins),
            "min_confidence": self.min_confidence,
            "too_close_to_call": 1 - float(called["coverage"].sum()) if len(better_wins) else float("nan"),
            "pairwise_accuracy_called": float(called["accuracy"].iloc[0]) if len(called) else float("nan"),
            "n_images": len(values),
            "n_groups": support.n_groups,
            "n_pairs": int(counts.pairs.sum()),
            "n_pairs_within_context": int(within.pairs.sum()),
            "min_groups_in_tier": support.fewest_in_tier,
            "small_sample": support.small_sample,
            "confidence": self.confidence,
            "target_accuracy": self.target_accuracy,
            "verdict": verdict(interval.low, interval.high, self.target_accuracy, support.small_sample),
            **baseline_metrics(ladder),
        }
        return Evaluation(
            metrics,
            tier_pair_table(counts, tiers),
            gap_table(counts),
            reliability,
            coverage_table(better_wins),
            ladder,
        )

    def _reliability(
        self, better_wins: NDArray[np.float64], tier_probability: ArrayLike | None, block: NDArray[np.int64]
    ) -> tuple[pd.DataFrame, float]:
        """Return the table, and the calibration error that 5 % of perfectly calibrated models exceed."""
        table = reliability_table(better_wins)
        if tier_probability is None:
            return table.assign(low=np.nan, high=np.nan), float("nan")
        drawn = calibrated_range(tier_probability, rng=np.random.default_rng(self.seed), fold=block)
        of_bin = table["bin"].to_numpy() - 1
        ends = {"low": table["confidence"] + drawn.low[of_bin], "high": table["confidence"] + drawn.high[of_bin]}
        return table.assign(**{name: end.clip(0, 1) for name, end in ends.items()}), drawn.ece_high

    def _ladder(
        self,
        scores: NDArray[np.float64],
        rank: NDArray[np.int64],
        group: NDArray[np.generic],
        block: NDArray[np.int64],
        baselines: Mapping[str, ArrayLike],
        support: GroupSupport,
    ) -> pd.DataFrame:
        names = [*baselines, MODEL_NAME]
        score_sets = np.stack([*(np.asarray(b, dtype=np.float64) for b in baselines.values()), scores])
        rng = np.random.default_rng(self.seed)
        resampled = bootstrap_accuracies(score_sets, rank, group, rng=rng, n_bootstrap=self.n_bootstrap, context=block)
        accuracies = [float(PairCounter(row, rank, block).count().micro) for row in score_sets]
        # Chance orders every pair by a coin: exactly one half in any resample that has a pair.
        names.insert(0, "chance")
        accuracies.insert(0, 0.5 if np.isfinite(accuracies[-1]) else float("nan"))
        resampled = np.column_stack([np.where(np.isnan(resampled[:, -1]), np.nan, 0.5), resampled])
        rows = []
        for name, accuracy, replicates in zip(names, accuracies, resampled.T, strict=True):
            own = resampled_accuracy_interval(accuracy, replicates, support, confidence=self.confidence)
            margin = percentile_interval(
                resampled[:, -1] - replicates, support, confidence=self.confidence, limits=(-1.0, 1.0)
            )
            rows.append(
                {
                    "model": name,
                    "pairwise_accuracy": accuracy,
                    "ci_low": own.low,
                    "ci_high": own.high,
                    "margin": accuracies[-1] - accuracy,
                    "margin_ci_low": margin.low,
                    "margin_ci_high": margin.high,
                }
            )
        return pd.DataFrame(rows)


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


def _rank_correlations(
    scores: NDArray[np.float64], rank: NDArray[np.int64], block: NDArray[np.int64]
) -> tuple[float, float]:
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
