"""Every result that Git, dvc.lock and DVC's cache still know, published as it would have been at the time.

A result is looked for in the workspace, in each commit of each branch and tag that changed dvc.lock or metrics/, in
each DVC experiment, and among those kept when they could not be published (`mirip.tracking.unpublished`), which are
whole. Of the others, params and metrics come from Git; the model and the page from DVC's cache, where they are still
there. What the metrics belong to is proven by dvc.lock: a commit whose params or metrics it does not record is left
out. Of equal results the newest counts; they are published in the order in which they were made.
"""

import functools
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mirip.errors import DataError, MiripError, ParamsError
from mirip.experiments.git import git, git_bytes
from mirip.files import flatten, looked_up, md5_file, read_yaml
from mirip.tracking.publishing import Published, publish
from mirip.tracking.record import provenance_tags
from mirip.tracking.result import LOCK, METRICS, MODEL, PARAMS, RECEIPT, locked_outs, read_lock, read_result
from mirip.tracking.unpublished import kept_results, opened
from mirip.workspace import main_root

_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


@dataclass(frozen=True)
class Revision:
    """A commit that may hold a result.

    Attributes:
        commit: 40 hexadecimal digits.
        made_ms: when it was committed, in milliseconds since 1970.
        provenance: tags that say where the result comes from.
    """

    commit: str
    made_ms: int
    provenance: Mapping[str, str]

    def __str__(self) -> str:
        return self.provenance.get("dvc.experiment", self.commit[:7])


@dataclass(frozen=True)
class LeftOut:
    """A revision, or the file of a kept result, that holds no result which could be published, and why."""

    source: Revision | Path
    reason: str


def publish_workspace() -> Published:
    """Publish the result that stands in the working directory.

    Raises:
        DataError: there is none, or it is not that of params.yaml as it stands.
        TrackingError: see `mirip.tracking.publishing.publish`.
    """
    try:
        check_recorded(Path())
    except DataError as error:
        raise DataError(f"{error}: run `dvc repro`, or `dvc checkout` to have back what it recorded") from None
    return publish(read_result(Path(), provenance_tags()))


def backfill() -> Iterator[Published | LeftOut]:
    """Publish every result that is still known: of commits and experiments, oldest first, kept ones, the workspace's.

    Raises:
        DataError: this is no project's root.
        TrackingError: see `mirip.tracking.publishing.publish`.
    """
    if not PARAMS.is_file():
        raise DataError(f"{PARAMS} is not found: run from the project's root")
    newest: dict[str, Revision] = {}
    for revision in sorted(revisions(), key=lambda revision: revision.made_ms):
        try:
            with checked_out(revision) as folder:
                check_recorded(folder)
                key = read_result(folder, revision.provenance).key
        except MiripError as error:
            yield LeftOut(revision, str(error))
            continue
        newest.pop(key, None)
        newest[key] = revision
    for revision in newest.values():
        with checked_out(revision) as folder:
            record = read_result(folder, revision.provenance)
            yield publish(replace(record, made_ms=revision.made_ms))
    for path in kept_results():
        try:
            with opened(path) as record:
                yield publish(record)
        except (DataError, ParamsError) as error:
            yield LeftOut(path, str(error))
    if METRICS.is_dir():
        yield publish_workspace()


def revisions() -> list[Revision]:
    """Return all commits that changed a result, and all experiments; none outside a Git repository."""
    paths = ("--", LOCK.as_posix(), METRICS.as_posix())
    log = git("log", "--format=%H %ct", "--full-history", "HEAD", "--branches", "--remotes", "--tags", *paths) or ""
    found = [_revision(line, {}) for line in log.splitlines()]
    for line in (git("for-each-ref", "--format=%(refname)", "refs/exps") or "").splitlines():
        if match := _EXPERIMENT.fullmatch(line):
            tags = {"dvc.experiment": match[3], "dvc.baseline": match[1] + match[2]}
            found.append(_revision(git("log", "-1", "--format=%H %ct", line) or "", tags))
    return found


def _revision(line: str, tags: Mapping[str, str]) -> Revision:
    commit, seconds = line.split()
    of_git = {"git.commit": commit, "git.dirty": "false", "mlflow.source.git.commit": commit}
    return Revision(commit, int(seconds) * 1000, {**of_git, **tags})


@contextmanager
def checked_out(revision: Revision) -> Iterator[Path]:
    """Yield a folder with what Git and DVC's cache know of a revision's result, gone afterwards."""
    (main_root() / ".mirip").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=main_root() / ".mirip") as name:
        folder = Path(name)
        # A path that a revision lacks is an error of `git archive`.
        paths = (git("ls-tree", "--name-only", revision.commit, PARAMS.name, LOCK.name, METRICS.name) or "").split()
        if paths and (tar := git_bytes("archive", "--format=tar", revision.commit, "--", *paths)):
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                archive.extractall(folder, filter="data")
        for path, md5 in locked_outs(folder).items():
            if _of_result(path) and not (folder / path).exists() and (cached := _cached(md5)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(cached, folder / path)
        yield folder


def check_recorded(root: Path) -> None:
    """Check that params.yaml, the model and metrics/ under `root` are those of dvc.lock; without one, nothing.

    Raises:
        DataError: they are not.
    """
    values = read_yaml(root / PARAMS)
    for stage in read_lock(root).values():
        ran = flatten(stage.get("params", {}).get(PARAMS.name, {}))
        now = flatten({key: looked_up(values, key) for key in stage.get("params", {}).get(PARAMS.name, {})})
        for key in sorted(ran.keys() | now.keys()):
            if now.get(key) != ran.get(key):
                before, after = (values.get(key, "nothing") for values in (ran, now))
                raise DataError(f"{PARAMS} has {key} {after}, and dvc.lock recorded {before}")
    for path, md5 in locked_outs(root).items():
        if _of_result(path) and (root / path).is_file() and md5_file(root / path) != md5:
            raise DataError(f"{path} is not what dvc.lock recorded")


def _of_result(path: str) -> bool:
    return path == MODEL.as_posix() or (path.startswith(f"{METRICS}/") and path != RECEIPT.as_posix())


def _cached(md5: str) -> Path | None:
    """Return where DVC's cache holds a file, None where it does not."""
    root = _cache_root(main_root())
    path = None if root is None else root / "files" / "md5" / md5[:2] / md5[2:]
    return path if path is not None and path.is_file() else None


@functools.cache
def _cache_root(repository: Path) -> Path | None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Path(Repo(str(repository)).cache.local_cache_dir)
    except DvcException:
        return None
