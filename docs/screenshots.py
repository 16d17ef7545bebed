"""Make docs/images/report.png: the first screen of metrics/report.html, for README.

    dvc repro report && python docs/screenshots.py

It needs Chromium (`apt-get install chromium`, or any Chrome) and no network. The artworks of the sample are procedural
drawings, so the screenshot shows no person's artwork. Do not commit a screenshot of your own data.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from mirip.workspace import Workspace

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OUTPUT = Path(__file__).parent / "images" / "report.png"
WIDTH_PX, HEIGHT_PX = 1280, 900


def screenshot(page: Path, output: Path) -> None:
    """Write what a browser shows of a page at first, as a PNG of 1280 x 900 pixels.

    Raises:
        SystemExit: there is no browser, or no page.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("error: no Chromium is found: install it, as with `apt-get install chromium`")
    if not page.is_file():
        raise SystemExit(f"error: {page} is not found: run `dvc repro report`")
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "page.png"
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--blink-settings=preferredColorScheme=1",  # light, whatever the desktop has
                f"--user-data-dir={Path(name) / 'profile'}",
                f"--window-size={WIDTH_PX},{HEIGHT_PX}",
                f"--screenshot={raw}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with Image.open(raw) as shown:
            # Some versions add the height of the window's frame.
            first = shown.convert("RGB").crop((0, 0, WIDTH_PX, HEIGHT_PX))
    output.parent.mkdir(parents=True, exist_ok=True)
    first.save(output, optimize=True)


def main() -> None:
    """Take the screenshot."""
    parser = argparse.ArgumentParser(description="Take the screenshot of the report that README shows.")
    parser.add_argument("--page", type=Path, default=Workspace().report, help="default metrics/report.html")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default docs/images/report.png")
    options = parser.parse_args()
    screenshot(options.page, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
