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
def jobs(workflow: dict) -> dict[str, list[dict]]:
    """The steps of each job."""
    return {name: job["steps"] for name, job in workflow["jobs"].items()}


def named(steps: list[dict], name: str) -> dict:
    (step,) = [step for step in steps if step.get("name", "").startswith(name)]
    return step


def test_it_runs_on_pull_requests_in_a_merge_queue_and_on_pushes_to_main(workflow: dict) -> None:
    assert set(workflow["on"]) == {"pull_request", "merge_group", "push"}
    assert workflow["on"]["push"] == {"branches": ["main"]}


def test_the_job_that_comments_alone_may_write_and_runs_nothing_of_the_pull_request(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job} == {
        "comment": {"pull-requests": "write"}
    }
    steps = workflow["jobs"]["comment"]["steps"]
    assert not any("checkout" in step.get("uses", "") for step in steps)
    assert not any("mirip " in step.get("run", "") or "make" in step.get("run", "") for step in steps)


def test_two_pushes_to_one_pull_request_do_not_race(workflow: dict) -> None:
    assert "github.event.pull_request.number" in workflow["concurrency"]["group"]
    assert workflow["concurrency"]["cancel-in-progress"] is True


def test_only_first_party_actions_pinned_to_a_commit_are_used_and_each_says_its_version() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text())
    assert len(used) == 12
    assert all(re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)


def test_every_job_that_installs_takes_the_libraries_from_a_cache(jobs: dict[str, list[dict]]) -> None:
    for steps in jobs.values():
        names = [step.get("name", "").split()[0] if step.get("name") else "" for step in steps]
        if "Install" in names:
            assert names.index("Cache") < names.index("Install")
            assert "requirements-dev.txt" in named(steps, "Cache")["with"]["key"]


def test_the_whole_history_is_checked_out_and_the_token_is_not_left_behind(jobs: dict[str, list[dict]]) -> None:
    for name in ("ci", "report"):
        assert jobs[name][0]["with"]["fetch-depth"] == 0
    found = [step for steps in jobs.values() for step in steps if "checkout" in step.get("uses", "")]
    assert len(found) == 3
    assert all(step["with"]["persist-credentials"] is False for step in found)


def test_no_value_of_a_pull_request_is_pasted_into_a_script(workflow: dict) -> None:
    assert not any("${{" in step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])


def test_the_fast_tests_run_on_windows_and_macos_without_make(workflow: dict) -> None:
    job = workflow["jobs"]["other-systems"]
    assert job["strategy"]["matrix"]["os"] == ["windows-latest", "macos-latest"]
    assert job["steps"][-1]["run"] == "python -m pytest -n auto"
    assert not any("make " in step.get("run", "") for step in job["steps"])


def test_every_command_of_ours_exists(jobs: dict[str, list[dict]]) -> None:
    scripts = "\n".join(step.get("run", "") for name in ("ci", "report") for step in jobs[name])
    targets = re.findall(r"\bmake (\S+)", scripts)
    commands = re.findall(r"bin/mirip (\S+)", scripts)
    assert set(targets) == {"install"}
    assert commands == ["check-lock", "pr-report"]
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        subprocess.run([sys.executable, "-m", "mirip", command, "--help"], check=True, capture_output=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert ".ci/run" in scripts


def test_the_comment_waits_for_no_test_and_tests_run_though_the_lock_is_stale(workflow: dict) -> None:
    assert workflow["jobs"]["comment"]["needs"] == "report"
    assert "needs" not in workflow["jobs"]["report"]
    assert "!cancelled()" in named(workflow["jobs"]["ci"]["steps"], "Test")["if"]


def test_a_fork_gets_a_summary_and_no_comment(workflow: dict) -> None:
    assert "head.repo.full_name == github.repository" in workflow["jobs"]["comment"]["if"]
    assert workflow["jobs"]["report"]["if"] == "github.event_name == 'pull_request'"
    assert "GITHUB_STEP_SUMMARY" in named(workflow["jobs"]["report"]["steps"], "Report")["run"]


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
def test_two_pushes_leave_one_comment_and_touch_no_other(jobs: dict[str, list[dict]], tmp_path: Path) -> None:
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
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", named(jobs["comment"], "Comment")["run"]]
        subprocess.run(script, env=environment, check=True)
        comments = json.loads(stored.read_text())
        assert comments[:2] == others
        assert [comment["body"] for comment in comments[2:]] == [f"{MARKER}\n{text}\n"]
