"""The comment on a pull request: the verdict first, then what was changed and what came of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mirip.experiments.lock_check import StaleStage
from mirip.experiments.pull_request.charts import charts
from mirip.experiments.pull_request.markdown import code, folded
from mirip.experiments.pull_request.revision import Side
from mirip.experiments.pull_request.tables import headline_table, other_figures, params_table, speed
from mirip.experiments.pull_request.verdict import Judgement

MARKER = "<!-- mirip-pr-report -->"  # by which the comment is found again and updated in place
_MOST_PARAMS = 25  # that are shown without a click
_LONGEST = 60_000  # characters; GitHub takes 65,536
_ADVICE = (
    "Choose between models by the validation figure (`val_pairwise_accuracy`): the test figure is there to judge the "
    "one chosen, and looks better than it is once it has done the choosing."
)


def comment(
    before: Side,
    after: Side,
    judgement: Judgement,
    params: Mapping[str, Mapping[str, Mapping[str, Any]]],
    stale: Sequence[StaleStage],
) -> str:
    """Return the comment as GitHub's Markdown, its first line the marker.

    Args:
        before: at the merge base.
        after: of the branch.
        judgement: of the two.
        params: what `dvc params diff --json` says.
        stale: stages that dvc.lock records wrongly; the figures are then not those of this code.
    """
    figures = headline_table(before, after, same_test_split=judgement.same_test_split)
    parts = [
        MARKER,
        f"## Mirip: {'dvc.lock is out of date' if stale else judgement.title}",
        _stale(stale),
        judgement.sentences[0],
        " ".join(judgement.sentences[1:]),
        _other_features(before, after),
        "### Params",
        _params(params),
        "### Figures",
        figures or "The headline figures are the same.",
        "" if judgement.same_scores or not figures else _ADVICE,
        *charts(before, after),
        speed(before, after),
    ]
    text = "\n\n".join(part for part in parts if part)
    if others := other_figures(before, after):
        text += f"\n\n{folded('All other figures that changed', others)}"
    if len(text) > _LONGEST:
        text = "\n\n".join(part for part in parts[:6] if part) + "\n\nThe tables are too long for a comment."
    return f"{text}\n\n{_foot(before, after)}\n"


def _other_features(before: Side, after: Side) -> str:
    """Say where one recipe gave other bytes for the same images: then the params are not all that differs."""
    old, new = (side.metrics["extract"] for side in (before, after))
    same = ("fingerprint", "rows")
    if not old or any(old.get(name) != new.get(name) for name in same):
        return ""
    if old.get("content_digest") == new.get("content_digest") or _split(before) != _split(after):
        return ""
    return (
        "The features differ as well, though images and recipe are the same (`extract.content_digest`), as on "
        "another device or by other library versions: some of the difference may come from there."
    )


def _split(side: Side) -> Any:
    return side.metrics["split"].get("digest")


def _params(changed: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    shown, count = params_table(changed), sum(map(len, changed.values()))
    if not shown:
        return "No param has changed."
    return shown if count <= _MOST_PARAMS else folded(f"{count} params have changed", shown)


def _stale(stale: Sequence[StaleStage]) -> str:
    if not stale:
        return ""
    lines = ["**The figures below are not those of this code and these params:**", ""]
    lines += [f"- {code(stage.name)}: {', '.join(code(reason) for reason in stage.reasons)}" for stage in stale]
    lines += ["", "Run `dvc repro`, then commit dvc.lock and metrics/. (After a `git switch`, `dvc checkout` first.)"]
    return "\n".join(f"> {line}".rstrip() for line in ("[!WARNING]", *lines))


def _foot(before: Side, after: Side) -> str:
    dirty = " with changes that are not committed" if after.dirty else ""
    return (
        f"<sub>before: {before.commit[:8]}, where this branch left {code(before.name)}; "
        f"after: {after.commit[:8]}{dirty}. 95 % intervals in brackets. Made by `mirip pr-report`.</sub>"
    )
