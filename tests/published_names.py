"""Names in metrics/*.json that other tools rely on: a change here breaks somebody's dashboard."""

EVALUATE = {
    "pairwise_accuracy",
    "pairwise_accuracy_ci_low",
    "pairwise_accuracy_ci_high",
    "pairwise_accuracy_macro",
    "pairwise_accuracy_within_context",
    "kendall_tau_b",
    "spearman",
    "ece",
    "brier",
    "n_images",
    "n_groups",
    "n_pairs",
    "target_accuracy",
    "verdict",
    "baseline_ridge_accuracy",
    "baseline_knn_accuracy",
}
TRAIN = {"val_pairwise_accuracy", "best_epoch", "epochs"}
AUDIT = {
    "best_shortcut",
    "best_shortcut_accuracy",
    "margin_over_shortcut",
    "margin_over_shortcut_ci_low",
    "margin_over_shortcut_ci_high",
    "n_findings",
}
BENCHMARK = {
    "pair_latency_ms_p50",
    "pair_latency_ms_p95",
    "pair_latency_ms_p99",
    "pair_latency_from_file_ms_p50",
    "pair_latency_cached_ms_p50",
    "images_per_second",
    "train_seconds_10k",
    "device",
    "pair_latency_verdict",
    "memory_verdict",
    "train_verdict",
}
EXTRACT = {"rows", "dim", "fingerprint", "content_digest"}
