"""The examples of docs/serving.md, as they stand, against real servers of a model that the pipeline trained."""

import json
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from local_servers import free_port, wait_for
from mlflow_store import kill
from pipeline_clone import BuiltPipeline, Project

from mirip.models.checkpoint import load_checkpoint, save_checkpoint

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not found"),
]

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
ADDRESS = "http://127.0.0.1:8000"
VARYING = (
    "version",
    "fingerprint",
    "request_id",
    "tier",
    "flags",
    "better",
    "title",
)  # by model, request or version of Python


@dataclass
class Example:
    """A block of shell, and the block behind it that shows what its last command answers."""

    commands: list[str]
    language: str
    shown: str
    answers: list[str] = field(default_factory=list)


def examples() -> list[Example]:
    """Return the blocks of shell in the order of the page, but for those of containers."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```$)?", text, re.DOTALL | re.MULTILINE)
    found = [Example(block.replace("\\\n", "").splitlines(), *rest) for block, *rest in blocks]
    return [example for example in found if not example.commands[0].startswith("docker ")]


@pytest.fixture(scope="module")
def asked(pipeline: BuiltPipeline, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """The examples, run in order: what serves runs until the next that does, at a free port."""
    project = pipeline.copy(tmp_path_factory.mktemp("clone"))
    add_contexts(project.root / "models" / "best_model.pt")
    found = examples()
    address, server = "", None
    try:
        for example in found:
            for command in example.commands:
                if "mirip serve" in command:
                    if server is not None:
                        stop(server)
                    port = free_port()
                    address = f"http://127.0.0.1:{port}"
                    server = serve(project, command.partition("#")[0] + f" --port {port}", address)
                else:
                    example.answers.append(ask(project, command.replace(ADDRESS, address)))
    finally:
        if server is not None:
            kill(server)
    return found


def add_contexts(path: Path) -> None:
    """Give a model the contexts that it would know of the whole sample; a small one has too few images of each."""
    checkpoint = load_checkpoint(path)
    known = dict.fromkeys(("craft", "design", "fine_art"), checkpoint.score_percentiles)
    save_checkpoint(path, replace(checkpoint, context_percentiles=known))


def serve(project: Project, command: str, address: str) -> "subprocess.Popen[bytes]":
    """Run a command that serves, and wait until it is ready."""
    log = project.root / ".mirip" / "served.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as stream:
        process = project.start("bash", "-c", command, start_new_session=True, stdout=stream, stderr=stream)
    try:
        wait_for(f"{address}/health/ready", process, log)
    except BaseException:
        kill(process)
        raise
    return process


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Tell a server to stop, and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    finally:
        kill(process)


def ask(project: Project, command: str) -> str:
    """Run a command and return its answer, without the progress that curl tells."""
    process = project.start("bash", "-c", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    answer, told = process.communicate(timeout=120)
    assert process.returncode == 0, f"{command}\n{told.decode()}"
    return str(answer.decode())


def is_shown(example: Any, answer: Any) -> bool:
    """Tell whether an answer has all that an example shows, numbers and what varies by their types alone."""
    if isinstance(example, dict):
        return isinstance(answer, dict) and all(
            name in answer and (name in VARYING or is_shown(value, answer[name])) for name, value in example.items()
        )
    if isinstance(example, list):
        return isinstance(answer, list) and all(any(is_shown(part, other) for other in answer) for part in example)
    if isinstance(example, str):
        return isinstance(answer, str) and example in answer
    if isinstance(example, int | float):
        return isinstance(answer, int | float)
    return example is answer


def test_the_page_has_examples_with_and_without_keys() -> None:
    lines = [command for example in examples() for command in example.commands]
    assert sum("mirip serve" in line for line in lines) == 2
    assert all("mirip serve" in line or line.startswith("curl ") for line in lines)


def test_every_command_of_the_page_is_answered(asked: list[Example]) -> None:
    for example in asked:
        for answer in example.answers:
            assert answer or " -o " in example.commands[-1], example.commands
            is_problem = answer.startswith("{") and "urn:mirip:problem:" in answer
            assert is_problem == ("urn:mirip:problem:" in example.shown), f"{example.commands}: {answer}"


def test_answers_have_what_the_page_shows(asked: list[Example]) -> None:
    shown = [example for example in asked if example.language == "json"]
    assert len(shown) > 5
    for example in shown:
        answer = json.loads(example.answers[-1])
        assert is_shown(json.loads(example.shown), answer), f"{example.commands}: {example.answers[-1]}"


def test_metrics_have_the_names_that_the_page_shows(asked: list[Example]) -> None:
    (example,) = (example for example in asked if example.language == "text")
    names = {line.rpartition(" ")[0] for line in example.shown.splitlines()}
    assert names <= {line.rpartition(" ")[0] for line in example.answers[-1].splitlines()}


def test_each_route_of_the_description_has_an_example(asked: list[Example]) -> None:
    (described,) = (e.answers[-1] for e in asked if e.commands[-1].endswith("/openapi.json"))
    lines = [command for example in asked for command in example.commands]
    for route in json.loads(described)["paths"]:
        assert any(line.endswith(ADDRESS + route) for line in lines), f"docs/serving.md has no example of {route}"
