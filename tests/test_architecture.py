"""The shape of the project: which package may import which, how long a stage is, what the folders are called."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

# The rooms from the ground floor up. A module imports from its own room and from rooms below it, never from above.
FLOORS = [
    ("errors", "files", "interruption", "locks", "params", "progress", "randomness", "wording", "workspace"),
    ("metrics",),
    ("sample",),
    ("data",),
    ("features.backbones",),
    ("features.cache",),
    ("features.extract",),
    ("features.exchange",),
    ("models",),
    ("report",),
    ("serve",),
    ("experiments",),
    ("tracking",),
    ("cli",),
    ("__main__",),
]
STAGES = "sample prepare split extract train evaluate audit benchmark report track".split()


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Names of all modules that a file imports, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_name(path: Path) -> str:
    """Return mirip/data/split.py as "mirip.data.split"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """Return the room of a dotted module name, such as "features.cache"; None for mirip itself."""
    inner = module.removeprefix("mirip").removeprefix(".")
    return next((room for floor in FLOORS for room in floor if inner == room or inner.startswith(f"{room}.")), None)


def floor_of(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def imports_within_mirip() -> dict[str, set[str]]:
    """Return the modules of mirip that each of its modules imports, wherever in the file the import stands."""
    modules = {module_name(path): path for path in python_files("mirip")}
    graph = {name: {other for other in imported_modules(path) if other in modules} for name, path in modules.items()}
    return {name: found - {name, "mirip"} for name, found in graph.items() if name != "mirip"}


@pytest.mark.parametrize("path", python_files("mirip"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    own = room_of(module_name(path))
    if own is None:
        assert path.name == "__init__.py"  # mirip's public names, and the empty files of folders that hold rooms
        return
    for module in imported_modules(path):
        assert module.split(".")[0] != "stages", f"{path} imports {module}"
        room = room_of(module) if module.startswith("mirip.") else None
        if room not in (None, own):
            assert floor_of(room) < floor_of(own) or floor_of(own) == 0, f"{path} imports {module}"


@pytest.mark.slow
def test_no_import_runs_in_a_circle() -> None:
    graph = imports_within_mirip()
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("path", python_files("mirip/metrics"), ids=lambda path: path.name)
def test_metrics_know_neither_torch_nor_files(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported_modules(path)} & {"torch", "h5py", "pathlib", "os"}


def test_the_map_has_every_room_from_the_top_down() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| \[mirip/(.+?)/\]", page, re.MULTILINE)
    assert [room.replace("/", ".") for room in reversed(rooms)] == [room for floor in FLOORS[1:-1] for room in floor]


def test_only_one_module_locks() -> None:
    importers = [path.name for path in python_files("mirip") if "filelock" in imported_modules(path)]
    assert importers == ["locks.py"]


def test_only_tracking_imports_mlflow() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in python_files("mirip") + python_files("stages")
        if any(name.split(".")[0] == "mlflow" for name in imported_modules(path))
    }
    assert all(name.startswith("mirip/tracking/") for name in importers), importers


def test_only_the_job_of_its_engine_imports_ray() -> None:
    """Whatever else uses Ray would end with its cluster, or need it to be installed."""
    importers = [
        path.name
        for path in python_files("mirip")
        if any(name.split(".")[0] == "ray" for name in imported_modules(path))
    ]
    assert importers == ["ray_job.py"]


def test_every_stage_has_a_file_a_section_a_test_and_a_place_in_the_pipeline() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    pipeline |= yaml.safe_load((ROOT / "data" / "dvc.yaml").read_text())["stages"]
    assert sorted(pipeline) == sorted(STAGES)
    for stage in STAGES:
        assert pipeline[stage]["cmd"] == f"python -m stages.{stage}"
        assert (ROOT / "stages" / f"{stage}.py").is_file()
        assert (ROOT / "tests" / "stages" / f"test_{stage}.py").is_file(), stage
        assert stage in params


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_like_a_page(stage: str) -> None:
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 155


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_packages_that_it_imports(stage: str) -> None:
    """Also on those that they import in turn: otherwise an edit there would leave a stale result."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    pipeline |= yaml.safe_load((ROOT / "data" / "dvc.yaml").read_text())["stages"]
    declared = set(pipeline[stage]["deps"])
    seen: set[Path] = set()
    todo = [ROOT / "stages" / f"{stage}.py"]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imported_modules(path):
            path = ROOT / module.replace(".", "/")
            candidates = [path.with_suffix(".py"), path / "__init__.py"]
            todo += [found for found in candidates if module.startswith("mirip.") and found.is_file()]
    needed = {path.relative_to(ROOT) for path in seen if path.is_relative_to(ROOT / "mirip")}
    # These decide how a message or a progress bar looks, who waits for whom, and how one ends, never a value.
    needed -= {Path("mirip") / f"{name}.py" for name in ("errors", "progress", "locks", "interruption", "wording")}
    missing = {str(path) for path in needed if not any(path.is_relative_to(folder) for folder in declared)}
    assert not missing


def test_public_names_are_what_the_package_says() -> None:
    import mirip

    for name in mirip.__all__:
        assert getattr(mirip, name).__name__ == name
    with pytest.raises(AttributeError, match="it has DINOv2FeatureExtractor"):
        _ = mirip.Nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, mirip, mirip.cli.main; print(sorted({'torch', 'pandas', 'mlflow', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
