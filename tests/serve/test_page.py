"""The page in real Chromium, in both languages at the widths of a phone, a tablet and a desktop."""

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from teacher import CHROMIUM, WIDTHS, Teacher, file, files

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
NOTICE = {"en": "An AI system ranks here", "ko": "AI가 매깁니다"}
TOO_SMALL = {"en": "Photo too small", "ko": "사진이 너무 작습니다"}


@pytest.fixture(scope="module")
def twelve(photo) -> list[bytes]:
    return [photo(seed, size=(90, 60)) for seed in range(12)]


def look(teacher: Teacher, state: str, *, axe_at: int) -> None:
    """Hold a state of the page against what must hold of every state, at every width; axe looks at one of them."""
    for width, height in WIDTHS.items():
        teacher.page.set_viewport_size({"width": width, "height": height})
        assert teacher.page.evaluate("document.documentElement.scrollWidth") <= width, (state, width)
        assert teacher.beyond() == [], (state, width)
        if width != axe_at:
            continue
        found = Axe().run(teacher.page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"][:120]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], (state, width)
    assert teacher.bugs == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_whole_way(running, chromium, twelve, language) -> None:
    with Teacher(chromium, running.url, language=language) as teacher:
        page, axe_at = teacher.page, {"en": 1440, "ko": 360}[language]
        assert page.evaluate("document.documentElement.lang") == language
        assert NOTICE[language] in page.locator("main .notice").inner_text()
        look(teacher, "empty", axe_at=axe_at)

        teacher.add(*files(twelve[:1]))
        assert page.locator(".one .result .bar").count() == 5  # a percentile and four tiers
        assert page.locator(".one .whisker").count() == 1
        look(teacher, "one", axe_at=axe_at)

        teacher.add(*files(twelve)[1:2])
        assert page.locator(".pair .pane").count() == 2
        look(teacher, "two", axe_at=axe_at)

        damaged = [file("broken.jpg", twelve[0][:300]), file("notes.txt", b"no image", "text/plain")]
        teacher.add(*files(twelve)[2:], *damaged)
        assert page.locator(".place-bar").count() == 12
        assert teacher.names(".left-out") == ["broken.jpg", "notes.txt"]
        assert "12" in teacher.said
        look(teacher, "twelve, and two that cannot be read", axe_at=axe_at)

        teacher.of("work-3.jpg", "freeze").click()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.locator(".frozen").bounding_box()["y"] >= 0  # it is in view still
        look(teacher, "one kept in view", axe_at=axe_at)

        teacher.by_key("view:mine").click()
        for _ in range(11):
            page.locator(".mine .row").last.locator('[data-key^="up:"]').click()
            page.locator(".mine .row").nth(5).locator('[data-key^="up:"]').click()
        page.locator(".mine .row").nth(4).locator('[data-key^="tie:"]').click()
        look(teacher, "the teacher's order", axe_at=axe_at)

        page.locator(".mine .look").first.click()
        page.wait_for_selector("dialog[open] .pane")
        look(teacher, "one seen large", axe_at=axe_at)
        page.keyboard.press("Escape")

        teacher.by_key("print").click()
        page.locator("#printing input").fill("3-A")
        look(teacher, "before printing", axe_at=axe_at)
        sheet = teacher.printed(page.locator("#printing [type=submit]").click)
        assert sheet.locator("h1").inner_text() == "3-A"
        assert sheet.locator("tbody tr").count() == 12
        assert NOTICE[language] in sheet.inner_text()
        assert not page.locator("main").is_visible()
        assert len(page.pdf(prefer_css_page_size=True)) > 5000

        assert all(address.startswith((running.url, "blob:", "data:")) for address in teacher.asked)


def test_dark_colours_are_readable(running, chromium, twelve) -> None:
    with Teacher(chromium, running.url, color_scheme="dark") as teacher:
        look(teacher, "empty, dark", axe_at=820)
        teacher.add(*files(twelve[:4]), file("notes.txt", b"no image", "text/plain"))
        look(teacher, "four, dark", axe_at=820)
        teacher.by_key("view:mine").click()
        look(teacher, "the teacher's order, dark", axe_at=820)


def test_the_language_is_the_browsers_until_another_is_chosen(running, chromium) -> None:
    with Teacher(chromium, running.url, language="ko") as teacher:
        page = teacher.page
        assert page.get_by_role("heading", level=1).inner_text().startswith("작품")
        page.get_by_role("button", name="English").click()
        assert page.get_by_role("heading", level=1).inner_text().startswith("See the works")
        page.reload()
        assert page.evaluate("document.documentElement.lang") == "en"


def test_scores_and_places_are_those_of_the_api(running, chromium, twelve) -> None:
    answer = running.post("rank", *twelve).json()
    by_place = {f"work-{entry['index'] + 1}.jpg": entry for entry in answer["order"]}
    with Teacher(chromium, running.url) as teacher:
        teacher.add(*files(twelve))
        rows = teacher.saved()
        assert teacher.names(".cards") == [row["filename"] for row in rows]
        assert [row["filename"] for row in rows] == list(by_place)
        for row in rows:
            entry = by_place[row["filename"]]
            result = answer["images"][entry["index"]]["result"]
            assert float(row["model_score"]) == pytest.approx(result["score"], abs=1e-4)
            for tier, share in result["tier_probabilities"].items():
                assert float(row[f"model_p_{tier}"]) == pytest.approx(share, abs=1e-4)
            said = [int(row[f"model_{name}"]) for name in ("place", "place_first", "place_last")]
            assert said == [entry["place"], entry["first"], entry["last"]]
            assert row["model_version"] == answer["model"]["version"]


def test_two_works_are_compared_as_the_api_does(running, chromium, twelve) -> None:
    (pair,) = running.post("compare", *twelve[:2]).json()["pairs"]
    with Teacher(chromium, running.url) as teacher:
        teacher.add(*files(twelve[:2]))
        said = teacher.page.locator(".verdict").inner_text()
        share = round(100 * min(0.99, max(0.01, pair["p_a_is_better"])))
        assert f"A {share}%" in said
        assert ("Too close to call" in said) == (pair["better"] is None)


def test_what_the_teacher_says_can_be_trained_on(running, chromium, twelve, tmp_path) -> None:
    from mirip.data.metadata import read_metadata

    with Teacher(chromium, running.url) as teacher:
        teacher.add(*files(twelve))
        teacher.by_key("view:mine").click()
        for name, tier in (("work-1.jpg", "S"), ("work-2.jpg", "C")):
            teacher.of(name, "tier").select_option(tier)
        teacher.page.locator(".mine .row").last.locator('[data-key^="up:"]').click()
        with teacher.page.expect_download() as download:
            teacher.by_key("save").click()
        download.value.save_as(tmp_path / "mirip.csv")
    table = read_metadata(tmp_path / "mirip.csv")
    judged = {row["image_path"]: row["tier"] for row in table.to_dict("records") if row["tier"]}
    assert judged == {"work-1.jpg": "S", "work-2.jpg": "C"}
    assert sorted(int(place) for place in table["teacher_place"]) == list(range(1, 13))


def test_photos_are_shown_upright(running, chromium, photo) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    with Teacher(chromium, running.url) as teacher:
        teacher.add(file("sideways.jpg", photo(1, size=(90, 60), exif=exif)))
        assert "Sideways photo turned upright" in teacher.page.locator(".flags").inner_text()
        shape = "image => [image.naturalWidth, image.naturalHeight]"
        assert teacher.page.locator(".pane img").evaluate(shape) == [60, 90]


def test_what_the_browser_cannot_show_the_server_makes_visible(running, chromium, photo) -> None:
    tiff = photo(2, "TIFF", size=(90, 60))
    with Teacher(chromium, running.url) as teacher:
        teacher.add(file("scan.tif", tiff, "image/tiff"), *files([photo(3), photo(4)]))
        picture = teacher.page.locator(".card").filter(has_text="scan.tif").locator("img")
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 90


def test_files_may_be_dropped_and_pasted(running, chromium, twelve) -> None:
    give = """
    ([kind, name, bytes]) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
      const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
        : new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true });
      document.body.dispatchEvent(event);
    }
    """
    with Teacher(chromium, running.url) as teacher:
        for kind, name, data in (("drop", "a.jpg", twelve[0]), ("paste", "b.jpg", twelve[1])):
            teacher.page.evaluate(give, [kind, name, list(data)])
            teacher.page.get_by_text(name).first.wait_for()
        teacher.wait_until_done()
        assert teacher.page.locator(".pair .pane").count() == 2


def test_a_hundred_works_and_no_more(running, chromium, photo) -> None:
    many = [photo(seed, size=(30, 20)) for seed in range(101)]
    with Teacher(chromium, running.url) as teacher:
        teacher.page.set_input_files("#choose", files(many))
        assert "1 was not added" in teacher.page.locator("#toast").inner_text()
        teacher.wait_until_done()
        assert teacher.page.locator(".place-bar").count() == 100
        places = [float(row["model_score"]) for row in teacher.saved()]
        assert all(better >= worse for better, worse in pairwise(places))


def test_photos_move_together_with_an_offset_that_is_kept(running, chromium, twelve) -> None:
    with Teacher(chromium, running.url) as teacher:
        page = teacher.page
        teacher.add(*files(twelve[:2]))

        def views() -> list[list[float]]:
            texts = page.locator(".pane").evaluate_all("panes => panes.map(pane => pane.dataset.view ?? '1 0 0')")
            return [[float(number) for number in text.split()] for text in texts]

        teacher.by_key("lock").click()  # apart
        teacher.by_key("pane:1").focus()
        page.keyboard.press("ArrowLeft")
        assert views() == [[1, 0, 0], [1, 40, 0]]
        teacher.by_key("lock").click()  # together again
        teacher.by_key("pane:0").focus()
        page.keyboard.press("ArrowUp")
        assert views() == [[1, 0, 40], [1, 40, 40]]
        page.keyboard.press("+")
        (scale, x, y), (other_scale, other_x, other_y) = views()
        assert scale == other_scale == 1.25
        assert other_x - x == pytest.approx(40 * 1.25)  # the same points of the two lie over each other still
        assert other_y == y
        teacher.by_key("single").click()
        assert page.locator("figure:visible").count() == 1
        teacher.by_key("flip").click()
        assert views()[1] == [other_scale, other_x, other_y]
        page.keyboard.press("Tab")
        box = page.locator(".pane:visible").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 130, box["y"] + 120)
        page.mouse.up()
        assert views()[0] == [scale, x + 30, y + 20]


def test_the_page_lets_no_script_from_elsewhere_run(running) -> None:
    answer = running.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
