"""The comment, from the repository that the working directory is in."""

from mirip.experiments.dvc import dvc_json
from mirip.experiments.lock_check import check_lock
from mirip.experiments.pull_request.comment import comment
from mirip.experiments.pull_request.revision import committed, merge_base, working_tree
from mirip.experiments.pull_request.verdict import judge

HEAD_NAME = "this branch"


def pull_request_report(base: str) -> str:
    """Return the comment for the work since the merge base of `base` and HEAD; see `comment.comment`.

    Raises:
        DataError: there is no such revision, nothing in common with it, or no DVC project here.
    """
    commit = merge_base(base)
    stale = check_lock()
    before, after = committed(commit, base), working_tree(HEAD_NAME)
    params = dvc_json("params", "diff", commit)
    return comment(before, after, judge(before, after), params, stale)
