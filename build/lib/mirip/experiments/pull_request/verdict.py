"""Did the result get better? Judged on the scores of both sides, or said why it cannot be."""

from dataclasses import dataclass

import numpy as np

from mirip.errors import DataError
from mirip.experiments.pull_request.revision import Side
from mirip.experiments.scores import compare_scores
from mirip.metrics.comparison import ModelComparison
from mirip.report import formatting as fmt

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Judgement:
    """What the comment says first.

    Attributes:
        title: in two or three words.
        sentences: what was found, then what a reader must know beside it.
        same_test_split: the two are judged on the same works, so that their figures may be subtracted.
        same_scores: every work has the same score on both sides.
    """

    title: str
    sentences: tuple[str, ...]
    same_test_split: bool
    same_scores: bool


def judge(before: Side, after: Side) -> Judgement:
    """Compare the scores of both sides by the paired bootstrap over groups."""
    if before.scores is None or after.scores is None:
        missing = " and ".join(side.no_scores for side in (before, after) if side.no_scores)
        sentence = f"There is nothing to compare: {missing}."
        return Judgement("no verdict", (_accuracies(before, after), sentence), False, False)
    try:
        found = compare_scores(after.scores, before.scores, confidence=CONFIDENCE)
    except DataError as error:
        return Judgement("no verdict", (_accuracies(before, after), f"{_sentence(str(error))}."), False, False)
    if np.array_equal(after.scores.heads, before.scores.heads):
        sentence = f"Test pairwise accuracy **{fmt.percent(found.accuracy_a)}**, as before: no score has changed."
        return Judgement("unchanged", (sentence,), True, True)
    return Judgement(found.verdict, _compared(found, len(after.scores.works)), True, False)


def _compared(found: ModelComparison, n_works: int) -> tuple[str, ...]:
    meaning = {
        "better": "better, beyond noise",
        "worse": "worse, beyond noise",
        "within noise": "within noise: no difference is shown",
    }[found.verdict]
    sentences = [
        f"Test pairwise accuracy **{fmt.percent(found.accuracy_b)} → {fmt.percent(found.accuracy_a)}**, "
        f"{fmt.margin(found.difference, found.interval.low, found.interval.high)} points: **{meaning}**.",
        f"By a paired bootstrap over the {found.support.n_groups} groups of the {n_works} test works, "
        f"{fmt.percent(CONFIDENCE, 0)} interval.",
    ]
    single = [name for name, heads in (("before", found.members_b), ("after", found.members_a)) if heads == 1]
    if single:
        sentences.append(
            f"One training seed {' and '.join(single)}: another seed may turn the verdict; with `train.seeds` above 1 "
            "the interval holds that spread too."
        )
    if found.support.small_sample:
        sentences.append("Small sample: fewer than 30 groups, or than 5 in a tier; the intervals are rough ones.")
    return tuple(sentences)


def _accuracies(before: Side, after: Side) -> str:
    """Say the figures there are without subtracting them."""
    known = {
        when: fmt.percent(side.metrics["evaluate"]["pairwise_accuracy"])
        for when, side in (("before", before), ("after", after))
        if fmt.known(side.metrics["evaluate"].get("pairwise_accuracy"))
    }
    said = ", ".join(f"**{figure}** {when}" for when, figure in known.items()) or fmt.NOT_AVAILABLE
    return f"Test pairwise accuracy: {said}{'; the two cannot be compared' if len(known) == 2 else ''}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
