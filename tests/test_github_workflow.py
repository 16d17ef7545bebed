"""The workflow of a pull request: it is read as GitHub reads it, and what it runs exists."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mirip.experiments.pull_request.comment import MARKER

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict:
    values = yaml.safe_load(WORKFLOW.read_text())
    values["on"] = values.pop(True)  # what YAML 1.1 makes of the word
    return values


@pytest.fixture(scope="module")
def steps(workflow: dict) -> list[dict]:
    return workflow["jobs"]["ci"]["steps"]


def named(steps: list[dict], name: str) -> dict:
    (step,) = [step for step in steps if step.get("name", "").startswith(name)]
    return step


def test_it_runs_on_pull_requests_and_on_pushes_to_main(workflow: dict) -> None:
    assert set(workflow["on"]) == {"pull_request", "push"}
    assert workflow["on"]["push"] == {"branches": ["main"]}


def test_it_may_read_the_code_and_comment_and_no_more(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert all("permissions" not in job for job in workflow["jobs"].values())


def test_two_pushes_to_one_pull_request_do_not_race(workflow: dict) -> None:
    assert "github.event.pull_request.number" in workflow["concurrency"]["group"]
    assert workflow["concurrency"]["cancel-in-progress"] is True


def test_only_first_party_actions_of_a_pinned_major_version_are_used(workflow: dict) -> None:
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) == 4
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)


def test_the_whole_history_is_checked_out_and_the_token_is_not_left_behind(steps: list[dict]) -> None:
    assert steps[0]["with"]["fetch-depth"] == 0
    assert steps[0]["with"]["persist-credentials"] is False


def test_no_value_of_a_pull_request_is_pasted_into_a_script(workflow: dict) -> None:
    assert not any("${{" in step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])


def test_the_fast_tests_run_on_windows_and_macos_without_make(workflow: dict) -> None:
    job = workflow["jobs"]["other-systems"]
    assert job["strategy"]["matrix"]["os"] == ["windows-latest", "macos-latest"]
    assert job["steps"][-1]["run"] == "python -m pytest -n auto"
    assert not any("make " in step.get("run", "") for step in job["steps"])


def test_every_command_of_ours_exists(steps: list[dict]) -> None:
    scripts = "\n".join(step.get("run", "") for step in steps)
    targets = re.findall(r"\bmake (\S+)", scripts)
    commands = re.findall(r"bin/mirip (\S+)", scripts)
    assert targets == ["install"]
    assert commands == ["pr-report", "check-lock"]
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        subprocess.run([sys.executable, "-m", "mirip", command, "--help"], check=True, capture_output=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert ".ci/run" in scripts


def test_the_comment_comes_before_what_may_fail_and_all_of_it_is_run(steps: list[dict]) -> None:
    names = [step.get("name", "") for step in steps]
    assert names.index("Comment") < names.index("Test")
    for name in ("Check that dvc.lock", "Test"):
        assert "!cancelled()" in named(steps, name)["if"]


def test_a_fork_gets_a_summary_and_no_comment(steps: list[dict]) -> None:
    assert "head.repo.full_name == github.repository" in named(steps, "Comment")["if"]
    assert named(steps, "Report")["if"] == "github.event_name == 'pull_request'"
    assert "GITHUB_STEP_SUMMARY" in named(steps, "Report")["run"]


# Answers as `gh api` does, on comments in a file: the one tool that needs GitHub itself.
GH = """#!/usr/bin/env python3
import json, os, pathlib, subprocess, sys
path, arguments = pathlib.Path(os.environ["COMMENTS"]), sys.argv[2:]
comments = json.loads(path.read_text())
value = {name: arguments[k + 1] for k, name in enumerate(arguments) if name in ("--jq", "--method", "--field")}
address = next(argument for argument in arguments if argument.startswith("repos/"))
if "--jq" in value:
    assert address == "repos/o/r/issues/7/comments" and "--paginate" in arguments
    filtered = subprocess.run(["jq", "-r", value["--jq"]], input=json.dumps(comments), text=True, stdout=-1, check=True)
    print(filtered.stdout, end="")
    sys.exit()
name, _, file = value["--field"].partition("=@")
body = {name: pathlib.Path(file).read_text()}
if value["--method"] == "POST":
    assert address == "repos/o/r/issues/7/comments"
    comments.append({"id": 100 + len(comments), "user": {"login": "github-actions[bot]"}, **body})
else:
    (found,) = [comment for comment in comments if address == f"repos/o/r/issues/comments/{comment['id']}"]
    found.update(body)
path.write_text(json.dumps(comments))
"""


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not found")
def test_two_pushes_leave_one_comment_and_touch_no_other(steps: list[dict], tmp_path: Path) -> None:
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text(GH)
    gh.chmod(gh.stat().st_mode | stat.S_IXUSR)
    stored = tmp_path / "comments.json"
    others = [
        {"id": 1, "user": {"login": "somebody"}, "body": f"{MARKER}\nnot of ours"},
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": f"of another workflow, on {MARKER}"},
    ]
    stored.write_text(json.dumps(others))
    environment = {
        **os.environ,
        "PATH": f"{gh.parent}:{os.environ['PATH']}",
        "COMMENTS": str(stored),
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_REPOSITORY": "o/r",
        "NUMBER": "7",
    }
    for text in ("first", "second"):
        (tmp_path / "comment.md").write_text(f"{MARKER}\n{text}\n")
        # As GitHub runs a script.
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", named(steps, "Comment")["run"]]
        subprocess.run(script, env=environment, check=True)
        comments = json.loads(stored.read_text())
        assert comments[:2] == others
        assert [comment["body"] for comment in comments[2:]] == [f"{MARKER}\n{text}\n"]
