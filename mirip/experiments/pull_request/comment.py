"""The comment on a pull request: the verdict first, then what was changed and how the results changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirip.errors import DataError
from mirip.experiments.dvc import dvc_json
from mirip.experiments.lock_check import StaleStage, check_lock
from mirip.experiments.pull_request.charts import charts
from mirip.experiments.pull_request.revision import Revision, committed, merge_base, working_tree
from mirip.experiments.pull_request.tables import code, folded, headline_table, other_metrics, params_table, speed
from mirip.experiments.scores import ModelScores, compare_scores, remarks
from mirip.metrics.comparison import ModelComparison
from mirip.report import formatting as fmt

MARKER = "<!-- mirip-pr-report -->"  # by which the comment is found again and updated in place
HEAD_NAME = "this branch"
CONFIDENCE = 0.95
_MOST_PARAMS = 25  # that are shown without a click
_LONGEST = 60_000  # characters; GitHub takes 65,536
_ADVICE = (
    "Choose between models by the validation accuracy (`val_pairwise_accuracy`). The test accuracy is there to "
    "evaluate the chosen one: if models are chosen by it, it looks better than it is."
)


@dataclass(frozen=True)
class Verdict:
    """What the comment says first.

    Attributes:
        title: in two or three words.
        sentences: what was found, then what a reader must know beside it.
        same_test_split: both models were evaluated on the same images, so that their metrics may be subtracted.
        same_scores: every image has the same score in both.
    """

    title: str
    sentences: tuple[str, ...]
    same_test_split: bool
    same_scores: bool


def pull_request_report(base: str) -> str:
    """Return the comment for the work since the merge base of `base` and HEAD, from the current repository.

    Raises:
        DataError: there is no such revision, no commit in common with it, or no DVC project here.
    """
    commit = merge_base(base)
    stale = check_lock()
    before, after = committed(commit, base), working_tree(HEAD_NAME)
    params = dvc_json("params", "diff", commit)
    return comment(before, after, verdict(before, after), params, stale)


def verdict(before: Revision, after: Revision) -> Verdict:
    """Say whether the result got better, by the paired bootstrap over groups on both revisions' scores."""
    if before.scores is None or after.scores is None:
        missing = " and ".join(revision.no_scores for revision in (before, after) if revision.no_scores)
        return _no_verdict(before, after, f"There is nothing to compare: {missing}.")
    try:
        found = compare_scores(after.scores, before.scores, confidence=CONFIDENCE)
    except DataError as error:
        return _no_verdict(before, after, fmt.sentence(error.problem))
    if np.array_equal(after.scores.members, before.scores.members):
        sentence = f"Test pairwise accuracy **{fmt.percent(found.accuracy_a)}**, as before: no score has changed."
        return Verdict("unchanged", (sentence,), True, True)
    return Verdict(found.verdict, _compared(found, before.scores, after.scores), True, False)


def _no_verdict(before: Revision, after: Revision, why: str) -> Verdict:
    """Give both accuracies, without their difference, and say why."""
    known = {
        when: fmt.percent(revision.metrics["evaluate"]["pairwise_accuracy"])
        for when, revision in (("before", before), ("after", after))
        if fmt.known(revision.metrics["evaluate"].get("pairwise_accuracy"))
    }
    said = ", ".join(f"**{accuracy}** {when}" for when, accuracy in known.items()) or fmt.NOT_AVAILABLE
    both = "; the two cannot be compared" if len(known) == 2 else ""
    return Verdict("no verdict", (f"Test pairwise accuracy: {said}{both}.", why), False, False)


def _compared(found: ModelComparison, before: ModelScores, after: ModelScores) -> tuple[str, ...]:
    label, _ = fmt.COMPARISONS[found.verdict]
    what = "Out-of-fold pairwise accuracy" if found.out_of_fold else "Test pairwise accuracy"
    what += " within a context" if found.within_context else ""
    which = f"all {found.n_images} images" if found.out_of_fold else f"the {found.n_images} test images"
    return (
        f"{what} **{fmt.percent(found.accuracy_b)} → {fmt.percent(found.accuracy_a)}**, "
        f"{fmt.margin(found.difference, found.interval)} points: **{label}**.",
        f"By a paired bootstrap over the {found.support.n_groups} groups of {which}, "
        f"{fmt.percent(CONFIDENCE, 0)} interval.",
        *(fmt.sentence(remark) for remark in remarks(found, code(after.source), code(before.source))),
    )


def comment(
    before: Revision,
    after: Revision,
    found: Verdict,
    params: Mapping[str, Mapping[str, Mapping[str, Any]]],
    stale: Sequence[StaleStage],
) -> str:
    """Return the comment as GitHub's Markdown, its first line the marker.

    Args:
        before: at the merge base.
        after: of the branch.
        found: the verdict on the two.
        params: what `dvc params diff --json` says.
        stale: stages that dvc.lock records wrongly; the metrics are then not those of this code.
    """
    metrics = headline_table(before, after, same_test_split=found.same_test_split)
    parts = [
        MARKER,
        f"## Mirip: {'dvc.lock is out of date' if stale else found.title}",
        _stale(stale),
        found.sentences[0],
        " ".join(found.sentences[1:]),
        _other_features(before, after),
        "### Params",
        _params(params),
        "### Metrics",
        metrics or "The headline metrics are the same.",
        "" if found.same_scores or not metrics else _ADVICE,
        *charts(before, after),
        speed(before, after),
    ]
    text = "\n\n".join(part for part in parts if part)
    if others := other_metrics(before, after):
        text += f"\n\n{folded('All other metrics that changed', others)}"
    if len(text) > _LONGEST:
        text = "\n\n".join(part for part in parts[:6] if part) + "\n\nThe tables are too long for a comment."
    return f"{text}\n\n{_foot(before, after)}\n"


def _other_features(before: Revision, after: Revision) -> str:
    """Say so where one recipe gave different features for the same images: then more than the params differs."""
    old, new = (revision.metrics["extract"] for revision in (before, after))
    same = ("fingerprint", "rows")
    if not old or any(old.get(name) != new.get(name) for name in same):
        return ""
    if old.get("content_digest") == new.get("content_digest") or _split(before) != _split(after):
        return ""
    return (
        "The features differ as well, though images and recipe are the same (`extract.content_digest`), as on "
        "another device or with other library versions: some of the difference may come from there."
    )


def _split(revision: Revision) -> Any:
    return revision.metrics["split"].get("digest")


def _params(changed: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    shown, count = params_table(changed), sum(map(len, changed.values()))
    if not shown:
        return "No param has changed."
    return shown if count <= _MOST_PARAMS else folded(f"{count} params have changed", shown)


def _stale(stale: Sequence[StaleStage]) -> str:
    if not stale:
        return ""
    lines = ["**The metrics below are not those of this code and these params:**", ""]
    lines += [f"- {code(stage.name)}: {', '.join(code(reason) for reason in stage.reasons)}" for stage in stale]
    lines += ["", "Run `dvc repro`, then commit dvc.lock and metrics/. (After a `git switch`, `dvc checkout` first.)"]
    lines += ["Before that, do what a line above says."]
    return "\n".join(f"> {line}".rstrip() for line in ("[!WARNING]", *lines))


def _foot(before: Revision, after: Revision) -> str:
    dirty = " with changes that are not committed" if after.dirty else ""
    return (
        f"<sub>before: {before.commit[:8]}, where this branch left {code(before.name)}; "
        f"after: {after.commit[:8]}{dirty}. 95 % intervals in brackets. Made by `mirip pr-report`.</sub>"
    )
