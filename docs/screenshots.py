"""Make the screenshots of README, in docs/images/: the report, and four states of the page for teachers.

    dvc repro && python docs/screenshots.py

It needs Chromium (`apt-get install chromium`, or any Chrome) and no network. The artworks of the sample are procedural
drawings, so the screenshots show no person's artwork. Do not commit a screenshot of your own data.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from mirip.workspace import Workspace

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OUTPUT = Path(__file__).parent / "images"
WIDTH_PX, HEIGHT_PX = 1280, 900
N_WORKS = 12


def report(browser: Browser, output: Path) -> None:
    """Write the first screen of metrics/report.html; raises SystemExit where there is none."""
    path = Workspace().report
    if not path.is_file():
        raise SystemExit(f"error: {path} is not found: run `dvc repro report`")
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="light")
    page.goto(path.resolve().as_uri())
    _save(page, output / "report.png")


def page_for_teachers(browser: Browser, url: str, output: Path) -> None:
    """Write what a teacher sees of test images of the sample: one, two, twelve, and an order of their own."""
    images = _test_images()
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX}, color_scheme="light", locale="en-US")
    page.goto(url)
    for name, start, stop in (("one", 0, 1), ("two", 1, 2), ("twelve", 2, N_WORKS)):
        page.set_input_files("#choose", images[start:stop])
        page.locator("progress[hidden]").wait_for(state="attached")
        _save(page, output / f"page-{name}.png")
    page.locator('[data-key="view:mine"]').click()
    page.locator(".mine .row").nth(N_WORKS - 1).wait_for()
    works = [row.get_attribute("data-work") for row in page.locator(".mine .row").all()]
    for work, n_places in ((works[10], 8), (works[4], 2)):  # the teacher disagrees
        for _ in range(n_places):
            page.locator(f'[data-key="up:{work}"]').click()
    page.locator(f'[data-key="tie:{works[3]}"]').click()
    page.set_viewport_size({"width": 1480, "height": HEIGHT_PX})  # room for what the two disagree in
    page.evaluate("scrollTo(0, 0)")
    _save(page, output / "page-order.png")


def _test_images() -> list[Path]:
    """Return images of the test split, from which the model learned nothing, spread over the order of their scores."""
    workspace = Workspace()
    splits = pd.read_parquet(workspace.splits)
    test = splits[splits["split"] == "test"].set_index("public_id")
    best_last = pd.read_csv(workspace.scores).sort_values("score")["id"]
    rows = [round(row * (len(best_last) - 1) / (N_WORKS - 1)) for row in range(N_WORKS)]
    chosen = [Path("data/sample") / test.loc[best_last.iloc[row], "image_path"] for row in rows]
    return [chosen[-2], chosen[4], *chosen[:4], *chosen[5:-2], chosen[-1]]


def _save(page: Page, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)  # pictures are drawn
    page.screenshot(path=path)
    with Image.open(path) as shown:  # fewer colours: half the bytes, and no difference that one sees
        shown.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


@contextmanager
def served() -> Iterator[str]:
    """Serve the model of the pipeline, and give its address when it is ready."""
    command = [sys.executable, "-m", "mirip", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url, said = "", []
            for line in process.stderr:
                said.append(line)
                url = next((word.rstrip(",") for word in line.split() if word.startswith("http://")), url)
                if "ready: model" in line:
                    yield url
                    return
            raise SystemExit("".join(said))
        finally:
            process.terminate()


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description="Take the screenshots that README shows.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder; default docs/images")
    output = parser.parse_args().output
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise SystemExit("error: no Chromium is found: install it, as with `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        report(browser, output)
        with served() as url:
            page_for_teachers(browser, url, output)
        browser.close()


if __name__ == "__main__":
    main()
