"""The page in a real browser: at every width everything is inside it, whatever the result is like."""

import html
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from result_folder import write_result_folder
from teacher import CHROMIUM

from mirip.params import load_params
from mirip.report.inputs import Inputs, read_inputs
from mirip.report.page import render
from mirip.workspace import Workspace

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

# Frames of each width hold the page; what is beyond the right edge of one, and has no scroll bar, is listed.
MEASURE = """
addEventListener("load", () => {
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, width = frame.clientWidth;
    const beyond = [...page.body.querySelectorAll("*")].filter(
      e => !e.closest(".scroll") && !e.closest("details:not([open])") && e.getBoundingClientRect().right > width + 1);
    return [width, page.documentElement.scrollWidth, beyond.slice(0, 3).map(e => e.outerHTML.slice(0, 120))];
  }));
});
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(write_result_folder(tmp_path_factory.mktemp("result")))
        return read_inputs(Workspace(), load_params())


def as_it_is(inputs: Inputs) -> Inputs:
    return inputs


def of_nothing_but_nulls(inputs: Inputs) -> Inputs:
    return replace(inputs, metrics={stage: dict.fromkeys(scalars) for stage, scalars in inputs.metrics.items()})


def of_long_names(inputs: Inputs) -> Inputs:
    name = "a_column_with_a_name_that_nobody_would_type_twice_" * 3
    findings = pd.concat([inputs.findings.assign(name=f"tier told by: {name}", advice=name)] * 300, ignore_index=True)
    splits = inputs.splits.assign(tier=inputs.splits["tier"].astype(str))
    shortcuts = pd.concat([inputs.shortcuts.assign(shortcut=name)] * 9, ignore_index=True)
    audit = inputs.metrics["audit"] | {"best_shortcut": name, "columns_left_out": ", ".join([name] * 4)}
    metrics = {**inputs.metrics, "audit": audit}
    return replace(inputs, findings=findings, splits=splits, shortcuts=shortcuts, metrics=metrics)


@pytest.mark.parametrize("state", [as_it_is, of_nothing_but_nulls, of_long_names])
def test_everything_is_inside_the_page(inputs: Inputs, state, tmp_path: Path) -> None:
    page = html.escape(render(state(inputs)))
    frames = "".join(f'<iframe style="border:0;width:{w}px" srcdoc="{page}"></iframe>' for w in (320, 390, 768, 1280))
    outer = tmp_path / "frames.html"
    outer.write_text(f"<!doctype html><title></title><script>{MEASURE}</script>{frames}")
    for width, scroll_width, beyond in json.loads(title_in_browser(outer, tmp_path / "profile")):
        assert (scroll_width, beyond) == (width, []), f"at {width} px"


def title_in_browser(path: Path, profile: Path) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    assert found is not None
    return html.unescape(found[1])
