"""Every result that Git, dvc.lock and DVC's cache still know, published as it would have been at the time.

Results come from four places: each commit of a branch or tag that changed dvc.lock or metrics/, each DVC experiment,
those that could not be published (`mirip.tracking.unpublished`), and the workspace. Those that could not be published
are whole. Of the others, params and metrics come from Git, and the model and the page from DVC's cache, if it still
has them. dvc.lock proves what the metrics belong to: a commit whose params or metrics it does not record is left out.
Of equal results the newest counts. They are published in the order in which they were made.
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

from mirip.errors import DataError, MiripError, ParamsError, TrackingError
from mirip.experiments.git import git, git_bytes
from mirip.files import flatten, looked_up, md5_file, read_yaml
from mirip.params import load_params
from mirip.tracking.publishing import Published, publish
from mirip.tracking.result import RunRecord, locked_outs, provenance_tags, read_lock, read_result
from mirip.tracking.store import answers, tracking_uri
from mirip.tracking.unpublished import kept_results, opened
from mirip.workspace import Workspace, main_root, private_folder

# Where every revision has its files: paths relative to the project's root.
_HERE = Workspace()
_METRICS = _HERE.receipt.parent
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


@dataclass(frozen=True)
class Failed:
    """A result that the store refused, and why; it can be published later, by the same command."""

    source: Revision | Path | str
    reason: str


def publish_workspace() -> Published:
    """Publish the result of the working directory.

    Raises:
        DataError: see `workspace_result`.
        TrackingError: see `mirip.tracking.publishing.publish`.
    """
    return publish(workspace_result())


def workspace_result() -> RunRecord:
    """Read the result of the working directory.

    Raises:
        DataError: there is none, or it is not the result of the present params.yaml.
    """
    try:
        check_recorded(_HERE)
    except DataError as error:
        raise DataError(error.problem, "run `dvc repro`, or `dvc checkout` to restore what it recorded") from None
    return _read(_HERE, provenance_tags())


def backfill() -> Iterator[Published | LeftOut | Failed]:
    """Publish every result that is still known: of commits and experiments, oldest first, kept ones, the workspace's.

    One that the store refuses stops none of the others.

    Raises:
        DataError: this is no project's root, or the workspace holds no result of its params.yaml.
        TrackingError: the store cannot be reached or used at all.
    """
    if not _HERE.params.is_file():
        raise DataError(f"{_HERE.params} is not found", "run this in the project's root")
    newest: dict[str, Revision] = {}
    for revision in sorted(revisions(), key=lambda revision: revision.made_ms):
        try:
            with checked_out(revision) as workspace:
                check_recorded(workspace)
                key = _read(workspace, revision.provenance).key
        except MiripError as error:
            yield LeftOut(revision, str(error))
            continue
        newest.pop(key, None)
        newest[key] = revision
    for revision in newest.values():
        with checked_out(revision) as workspace:
            record = _read(workspace, revision.provenance, f"{revision.commit}^")
            record = replace(record, made_ms=revision.made_ms)
            yield _published(revision, record)
    for path in kept_results():
        try:
            with opened(path) as record:
                yield _published(path, record)
        except (DataError, ParamsError) as error:
            yield LeftOut(path, str(error))
    if _METRICS.is_dir():
        yield _published("the workspace", workspace_result())


def _published(source: Revision | Path | str, record: RunRecord) -> Published | Failed:
    try:
        return publish(record)
    except TrackingError as error:
        if not answers(tracking_uri()):
            raise
        return Failed(source, str(error))


def _read(workspace: Workspace, provenance: Mapping[str, str], usual: str = "HEAD") -> RunRecord:
    return read_result(workspace, load_params(workspace.params), provenance, usual)


def revisions() -> list[Revision]:
    """Return all commits that changed a result, and all experiments; none outside a Git repository."""
    paths = ("--", _HERE.lock.as_posix(), _METRICS.as_posix())
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
def checked_out(revision: Revision) -> Iterator[Workspace]:
    """Yield a workspace with what Git and DVC's cache know of a revision's result; it is deleted afterwards.

    Raises:
        DataError: its dvc.lock is damaged, or one of its files is a link that leads out of it.
    """
    private = private_folder().root
    private.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=private) as name:
        workspace = Workspace(Path(name))
        # `git archive` fails on a path that a revision lacks, so it is asked only for those that exist.
        wanted = (_HERE.params.name, _HERE.lock.name, _METRICS.name)
        paths = (git("ls-tree", "--name-only", revision.commit, *wanted) or "").split()
        if paths and (tar := git_bytes("archive", "--format=tar", revision.commit, "--", *paths)):
            try:
                with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                    archive.extractall(workspace.root, filter="data")
            except tarfile.TarError as error:  # a link that leads out
                raise DataError(f"its files cannot be used ({error})", "") from None
        for path, md5 in locked_outs(workspace).items():
            if _of_result(path) and not (workspace.root / path).exists() and (cached := _cached(md5)):
                (workspace.root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(cached, workspace.root / path)
        yield workspace


def check_recorded(workspace: Workspace) -> None:
    """Check that params.yaml, the model and metrics/ are those that dvc.lock recorded; without it, check nothing.

    Raises:
        DataError: they are not.
    """
    values, name = read_yaml(workspace.params), workspace.params.name
    for stage in read_lock(workspace).values():
        recorded = stage.params.get(name, {})
        ran, now = flatten(recorded), flatten({key: looked_up(values, key) for key in recorded})
        for key in sorted(ran.keys() | now.keys()):
            if now.get(key) != ran.get(key):
                before, after = (values.get(key, "nothing") for values in (ran, now))
                raise DataError(f"{name} has {key} {after}, and dvc.lock recorded {before}")
    for path, md5 in locked_outs(workspace).items():
        if _of_result(path) and (workspace.root / path).is_file() and md5_file(workspace.root / path) != md5:
            raise DataError(f"{path} is not what dvc.lock recorded")


def _of_result(path: str) -> bool:
    """Tell whether a path of dvc.lock belongs to a result: the model, and all of metrics/ but the receipt."""
    if path == _HERE.model.as_posix():
        return True
    return path.startswith(f"{_METRICS.as_posix()}/") and path != _HERE.receipt.as_posix()


def _cached(md5: str) -> Path | None:
    """Return where DVC's cache has a file, None where it does not have it."""
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
