"""A teacher at the page in real Chromium: what is chosen, pressed and read there."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, FilePayload, Locator, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = {360: 740, 820: 1180, 1440: 900}  # of a phone, a tablet and a desktop, with their heights
_BEYOND = """
() => [...document.body.querySelectorAll("*")].filter(e => !e.closest(".unseen, .skip, .lanes, .pane")
  && e.getBoundingClientRect().width && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .slice(0, 3).map(e => e.outerHTML.slice(0, 120))
"""


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


class Teacher:
    """Somebody at the page.

    Attributes:
        page: of Playwright.
        asked: the addresses that the page asked, all of them.
        statuses: of the answers of the API.
        bugs: errors that a script of the page did not catch.
    """

    def __init__(self, browser: Browser, url: str, *, language: str = "en", **context: Any) -> None:
        locale = {"en": "en-US", "ko": "ko-KR"}[language]
        context = {"viewport": {"width": 1440, "height": 900}, **context}
        self._context = browser.new_context(locale=locale, reduced_motion="reduce", **context)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.asked: list[str] = []
        self.statuses: list[int] = []
        self.bugs: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("response", lambda answer: self.statuses.append(answer.status))
        self.page.on("pageerror", lambda error: self.bugs.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#choose")

    def __enter__(self) -> "Teacher":
        """Return the teacher."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the page."""
        self._context.close()

    def add(self, *files: FilePayload) -> None:
        """Choose files, and wait until the server has said something of each."""
        self.page.set_input_files("#choose", list(files))
        self.wait_until_done()

    def wait_until_done(self) -> None:
        """Wait until nothing is under way."""
        self.page.locator("progress[hidden]").wait_for(state="attached")

    def wait_until_drawn(self) -> None:
        """Wait until what was done is seen."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def saved(self) -> list[dict[str, str]]:
        """Save the CSV file, and return its rows."""
        with self.page.expect_download() as download:
            self.by_key("save").click()
        return list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))

    def printed(self, act: Callable[[], None]) -> Locator:
        """Do something that prints, and return the sheet, as paper shows it."""
        self.page.evaluate("window.print = () => document.body.classList.add('printed')")
        act()
        self.page.locator("body.printed").wait_for(state="attached")
        self.page.emulate_media(media="print")
        return self.page.locator("#sheet")

    @property
    def said(self) -> str:
        """What a screen reader was told last."""
        return self.page.locator("#live").inner_text()

    def names(self, within: str) -> list[str]:
        """Return the names of the works in a part of the page, in their order, when it is drawn."""
        self.wait_until_drawn()
        return self.page.locator(f"{within} .name").all_inner_texts()

    def by_key(self, key: str) -> Locator:
        """Return the control with a key, such as "view:mine"."""
        return self.page.locator(f'[data-key="{key}"]')

    def of(self, name: str, key: str) -> Locator:
        """Return a control of a work by its file's name, such as "up"."""
        work = self.page.locator("[data-work]").filter(has=self.page.get_by_text(name, exact=True))
        return work.locator(f'[data-key^="{key}:"]')

    def beyond(self) -> list[str]:
        """Return what lies beyond the right edge of the page."""
        found: list[str] = self.page.evaluate(_BEYOND)
        return found

    def focused(self) -> str:
        """Return the key of what has the focus, without the number of its work, when it is drawn."""
        self.wait_until_drawn()
        key = self.page.evaluate("document.activeElement?.dataset?.key ?? ''")
        return re.sub(r":\d+$", "", key)

    def tab_to(self, key: str, most: int = 200) -> None:
        """Press the tab key until a control has the focus."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement?.dataset?.key ?? ''") == key:
                return
        raise AssertionError(f"the tab key does not reach {key}")


def file(name: str, data: bytes, kind: str = "image/jpeg") -> FilePayload:
    """Return a file to choose."""
    return {"name": name, "mimeType": kind, "buffer": data}


def files(photos: Sequence[bytes]) -> list[FilePayload]:
    """Return files to choose, named work-1.jpg and so on."""
    return [file(f"work-{number}.jpg", data) for number, data in enumerate(photos, start=1)]
