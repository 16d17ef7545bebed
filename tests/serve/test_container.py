"""Dockerfile and compose.yaml against the project: what they copy, mount, start and ask exists."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve.conftest import Running, Serving, wait_until_ready

from mirip.cli.main import build_parser
from mirip.serve.settings import KEYS_VARIABLE, ServeSettings

ROOT = Path(__file__).parents[2]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def instructions(name: str) -> list[str]:
    """Return what stands behind an instruction of the Dockerfile, each time that it is used."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["api"]
    return found


def command() -> list[str]:
    (entrypoint,), (default,) = instructions("ENTRYPOINT"), instructions("CMD")
    return [*json.loads(entrypoint), *json.loads(default)]


def health_check() -> str:
    """Return the code that Docker runs to see whether the server is ready."""
    (found,) = instructions("HEALTHCHECK")
    program, option, code = json.loads(found.partition("CMD ")[2])
    assert (program, option) == ("python", "-c")
    return str(code)


def test_both_images_have_one_python_that_the_project_takes() -> None:
    versions = {re.match(r"python:(\d+)\.(\d+)-slim", source) for source in instructions("FROM")}
    (version,) = {(int(found[1]), int(found[2])) for found in versions if found}
    least = re.search(r'^requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert least is not None
    assert version >= (int(least[1]), int(least[2]))


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [words.split()[:-1] for words in instructions("COPY") if not words.startswith("--from")]
    paths = [path.removeprefix("./") for words in copied for path in words]
    assert {"requirements.txt", "pyproject.toml", "mirip"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in IGNORED, f"{path} is left out by .dockerignore"


def test_it_runs_without_rights(service: dict[str, Any]) -> None:
    (user,) = instructions("USER")
    (added,) = (line for line in instructions("RUN") if "useradd" in line)
    assert int(user) > 0
    assert f"--uid {user} " in added
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_it_starts_a_command_that_mirip_knows_with_what_is_mounted(service: dict[str, Any]) -> None:
    options = build_parser().parse_args(command()[1:])
    sources = {parts[1]: parts[0] for parts in (volume.rsplit(":", 2) for volume in service["volumes"]) if parts[2:]}
    assert sources == {str(options.checkpoint): "./models/best_model.pt", options.backbone: sources[options.backbone]}
    assert sources[options.backbone] == "${MIRIP_BACKBONE:-./models/backbones/sample}"
    assert "models/best_model.pt" in (ROOT / "dvc.yaml").read_text()
    assert "models/backbones/sample" in (ROOT / "data" / "dvc.yaml").read_text()


def test_ports_and_keys_are_those_of_the_server(service: dict[str, Any]) -> None:
    port = str(build_parser().parse_args(command()[1:]).port)
    assert instructions("EXPOSE") == [port]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/" in health_check()
    assert list(service["environment"]) == [KEYS_VARIABLE]


def test_it_is_given_the_time_that_the_server_takes_to_stop(service: dict[str, Any]) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > ServeSettings().shutdown_s


def test_the_health_check_tells_a_server_that_is_ready_from_one_that_is_not(serving: Serving) -> None:
    def check(running: Running) -> None:
        exec(compile(ast.parse(health_check().replace("127.0.0.1:8000", running.url[7:])), "HEALTHCHECK", "exec"), {})

    with serving() as running:
        wait_until_ready(running)
        check(running)
        running.server.state.why_not_ready = "a test"
        with pytest.raises(OSError, match="503"):
            check(running)
