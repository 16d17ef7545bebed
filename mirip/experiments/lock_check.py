"""Does dvc.lock agree with code, params and the results in Git, on a clone that has pulled no data?

`dvc status` compares by DVC's own hashes. It reports data that was not pulled as missing; here only what should be in
Git counts as missing. For data that is missing, the lock is compared with itself: what a stage read must be what
another stage wrote.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirip.errors import DataError
from mirip.experiments.dvc import dvc_json
from mirip.experiments.git import git
from mirip.files import flatten, looked_up, read_yaml

_ABSENT = ("deleted", "not in cache")


@dataclass(frozen=True)
class StaleStage:
    """A stage whose record in dvc.lock is out of date, and why: one text a reason."""

    name: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.name}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class RecordedStage:
    """What dvc.lock records of a stage, paths relative to the working directory."""

    params: Mapping[str, Mapping[str, Any]]
    deps: Mapping[str, str]
    outs: Mapping[str, str]


def check_lock() -> list[StaleStage]:
    """Return the stages of the project in the working directory that are out of date, in the order of DVC.

    Data and models that are missing count as unchanged; what Git holds, or should hold, must be there. A persisted
    output is not compared: what earlier runs left in it does not make the record stale.

    Raises:
        DataError: there is no DVC project, or its files cannot be read.
    """
    if not Path("dvc.yaml").is_file():
        raise DataError("dvc.yaml is not found", "run this in the root folder of the project")
    status = dvc_json("status")
    pipelines = {name.split(":")[0] if ":" in name else "dvc.yaml" for name in status} | {"dvc.yaml"}
    recorded: dict[str, RecordedStage] = {}
    persisted: set[str] = set()
    for pipeline in sorted(pipelines):
        recorded |= _recorded(Path(pipeline))
        persisted |= _persisted(Path(pipeline))
    params = {name: read_yaml(Path(name)) for stage in recorded.values() for name in stage.params}
    stale = stale_stages(status, recorded, params, persisted=persisted, not_in_git=_not_in_git(status))
    return [*stale, *_frozen_stages(pipelines), *_deleted_stages()]


def _frozen_stages(pipelines: Collection[str]) -> list[StaleStage]:
    """Return the stages that DVC takes for up to date whatever has changed."""
    return [
        StaleStage(
            f"{_prefix(Path(pipeline))}{name}",
            (f"it is frozen in {pipeline}, so DVC compares nothing of it: take `frozen` out",),
        )
        for pipeline in sorted(pipelines)
        for name, stage in (read_yaml(Path(pipeline)).get("stages") or {}).items()
        if (stage or {}).get("frozen")
    ]


def _deleted_stages() -> list[StaleStage]:
    """Return the stages that a lock file of the project still records though their dvc.yaml has them no more."""
    locks = (git("ls-files", "-z", "--", "dvc.lock", "*/dvc.lock") or "dvc.lock").split("\0")
    deleted = []
    for lock in sorted({Path("dvc.lock"), *(Path(name) for name in locks if name)}):
        pipeline = lock.with_suffix(".yaml")
        declared = read_yaml(pipeline).get("stages") or {}
        deleted += [
            StaleStage(
                f"{_prefix(pipeline)}{name}",
                (f"{pipeline.as_posix()} has it no more: delete its entry in {lock.as_posix()}",),
            )
            for name in read_yaml(lock).get("stages") or {}
            if _declared(declared, name) is None
        ]
    return deleted


def stale_stages(
    status: Mapping[str, list[Any]],
    recorded: Mapping[str, RecordedStage],
    params: Mapping[str, Mapping[str, Any]],
    *,
    persisted: Collection[str] = (),
    not_in_git: Collection[str] = (),
) -> list[StaleStage]:
    """Return the stages that are out of date.

    Args:
        status: what `dvc status --json` says.
        recorded: what the lock files hold, by the stage's name.
        params: current content of each params file.
        persisted: outputs that a stage adds to, instead of writing them again.
        not_in_git: absent paths that Git does not hold, so a clone need not have them.
    """
    written = {path: (name, found) for name, stage in recorded.items() for path, found in stage.outs.items()}
    stale = []
    for name in [*recorded, *(name for name in status if name not in recorded)]:
        if name not in recorded and not name.endswith(".dvc"):  # of data that was added by hand, DVC keeps no lock
            stale.append(StaleStage(name, ("dvc.lock has no record of it",)))
            continue
        stage = recorded.get(name, RecordedStage({}, {}, {}))
        reasons: dict[str, list[str]] = {
            path: [f"it ran on another {path} than {written[path][0]} wrote"]
            for path, found in stage.deps.items()
            if path in written and written[path][1] != found
        }
        for kind, path, change in _changes(status.get(name, [])):
            if isinstance(change, dict):
                reasons[path] = _changed_params(stage.params.get(path, {}), params.get(path, {}), change)
            elif change in _ABSENT:
                if path not in not_in_git:
                    reasons[path] = [f"{path} is gone"]
            elif not (kind == "changed outs" and path in persisted):
                known = not path or path in stage.deps or path in stage.outs
                reasons[path] = [f"{path or 'its command'} {'changed' if known else 'is new to it'}"]
        if said := [reason for several in reasons.values() for reason in several]:
            stale.append(StaleStage(name, tuple(said)))
    return stale


def _changes(entries: list[Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, path and change of what DVC says of a stage; a change of its command has no path."""
    for entry in entries:
        if entry == "changed command":
            yield entry, "", "modified"
        for kind, paths in entry.items() if isinstance(entry, dict) else ():
            for path, change in paths.items():
                yield kind, path, change


def _changed_params(old: Mapping[str, Any], values: Mapping[str, Any], changed: Mapping[str, str]) -> list[str]:
    """Say of each changed value what it was and is; DVC names no more than the section."""
    said = []
    for name in changed:
        before, after = flatten({name: old.get(name)}), flatten({name: looked_up(values, name)})
        if name not in old:
            said.append(f"{name} is new to it")
            continue
        for key in {**before, **after}:
            if before.get(key, "nothing") != after.get(key, "nothing"):
                said.append(f"{key} {_shown(before, key)} -> {_shown(after, key)}")
    return said


def _shown(values: Mapping[str, Any], key: str) -> str:
    return "nothing" if key not in values else "null" if values[key] is None else str(values[key])


def _recorded(pipeline: Path) -> dict[str, RecordedStage]:
    """Read what the lock file beside a dvc.yaml records."""
    declared = read_yaml(pipeline).get("stages") or {}
    locked = read_yaml(pipeline.with_suffix(".lock")).get("stages") or {}
    return {
        f"{_prefix(pipeline)}{name}": RecordedStage(
            {_here(pipeline, stage, path): values for path, values in (entry.get("params") or {}).items()},
            _hashes(pipeline, stage, entry.get("deps")),
            _hashes(pipeline, stage, entry.get("outs")),
        )
        for name, entry in locked.items()
        if (stage := _declared(declared, name)) is not None
    }


def _prefix(pipeline: Path) -> str:
    """Return what DVC puts before the name of a stage of a dvc.yaml."""
    return "" if pipeline == Path("dvc.yaml") else f"{pipeline.as_posix()}:"


def _declared(stages: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return how dvc.yaml declares a stage, also one of a `foreach` or a `matrix`, which has the name `stage@item`."""
    if name in stages:
        return dict(stages[name] or {})
    several = stages.get(name.partition("@")[0])
    return None if several is None or "@" not in name else dict(several.get("do") or several)


def _persisted(pipeline: Path) -> set[str]:
    found = set()
    for stage in (read_yaml(pipeline).get("stages") or {}).values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind) or []:
                for path, flags in out.items() if isinstance(out, dict) else ():
                    if isinstance(flags, dict) and flags.get("persist"):
                        found.add(_here(pipeline, stage, path))
    return found


def _hashes(pipeline: Path, stage: Mapping[str, Any], entries: list[dict[str, Any]] | None) -> dict[str, str]:
    return {_here(pipeline, stage, entry["path"]): str(entry.get("md5", "")) for entry in entries or []}


def _here(pipeline: Path, stage: Mapping[str, Any], path: str) -> str:
    """Return a path of a stage relative to the working directory, as `dvc status` writes it."""
    whole = Path(os.path.normpath(Path.cwd() / pipeline.parent / stage.get("wdir", ".") / path))
    return whole.relative_to(Path.cwd()).as_posix() if whole.is_relative_to(Path.cwd()) else whole.as_posix()


def _not_in_git(status: Mapping[str, list[Any]]) -> set[str]:
    """Return the absent paths that a clone need not have: ignored by Git, or outside the repository."""
    absent = {path for entries in status.values() for _, path, change in _changes(entries) if str(change) in _ABSENT}
    root = Path((git("rev-parse", "--show-toplevel") or ".").strip()).resolve()
    return {
        path
        for path in absent
        if not Path(path).resolve().is_relative_to(root) or git("check-ignore", "--no-index", "-q", path) is not None
    }
