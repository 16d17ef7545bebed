"""The teacher's own order, by drag, buttons and keys; removal and undo; a server that is away, busy or locked."""

import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from serve.conftest import wait_until_ready
from teacher import CHROMIUM, Teacher, file, files

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def five(running, photo) -> list[bytes]:
    """The best, the worst, and three between."""
    many = [photo(seed, size=(90, 60)) for seed in range(20)]
    order = [entry["index"] for entry in running.post("rank", *many).json()["order"]]
    return [many[order[row]] for row in (10, 0, 15, 5, 19)]


@pytest.fixture
def teacher(running, chromium, five) -> Iterator[Teacher]:
    """A teacher with five works, before an order of their own."""
    with Teacher(chromium, running.url) as at_page:
        at_page.add(*files(five))
        at_page.by_key("view:mine").click()
        yield at_page
        assert at_page.bugs == []


def drag(teacher: Teacher, name: str, to: str) -> None:
    handle = teacher.page.locator(".mine .row").filter(has_text=name).locator(".handle").bounding_box()
    target = teacher.page.locator(".mine .row").filter(has_text=to).bounding_box()
    mouse = teacher.page.mouse
    mouse.move(handle["x"] + 5, handle["y"] + 10)
    mouse.down()
    middle = target["y"] + target["height"] / 2
    for step in range(1, 11):
        mouse.move(handle["x"] + 5, handle["y"] + 10 + (middle - handle["y"] - 10) * step / 10)
        teacher.page.wait_for_timeout(20)
    mouse.up()


def test_what_a_drag_does_buttons_do_too(teacher) -> None:
    """WCAG 2.2, 2.5.7: nothing needs a movement of the pointer."""
    first, second, third, fourth, fifth = teacher.names(".mine")
    wanted = [fourth, first, second, third, fifth]
    drag(teacher, fourth, first)
    expect(teacher.page.locator(".mine .name").first).to_have_text(fourth)
    assert teacher.names(".mine") == wanted

    teacher.by_key("reset").click()
    assert teacher.names(".mine") == [first, second, third, fourth, fifth]
    for _ in range(3):
        teacher.of(fourth, "up").click()
    assert teacher.names(".mine") == wanted

    for each in teacher.page.locator(".mine .row").all():  # whatever can be dragged
        assert each.locator(".handle").count() == each.locator('[data-key^="up:"]').count() == 1
        assert each.locator('[data-key^="down:"]').count() == 1


def test_works_may_share_a_place(teacher) -> None:
    names = teacher.names(".mine")
    teacher.of(names[1], "tie").click()
    teacher.of(names[2], "tie").click()
    expect(teacher.page.locator(".mine .at")).to_have_text(["1st", "1st", "1st", "4th", "5th"])
    assert "shares 1st" in teacher.said
    teacher.of(names[1], "down").click()  # out of those that share it
    assert teacher.names(".mine") == [names[0], names[2], names[1], *names[3:]]
    expect(teacher.page.locator(".mine .at")).to_have_text(["1st", "1st", "3rd", "4th", "5th"])
    teacher.page.keyboard.press("Control+z")
    teacher.page.keyboard.press("Control+z")
    expect(teacher.page.locator(".mine .at")).to_have_text(["1st", "1st", "3rd", "4th", "5th"])
    assert teacher.names(".mine") == names


def test_disagreements_come_the_largest_first(serving, chromium, five) -> None:
    with serving(min_confidence=0.505) as running:
        wait_until_ready(running)
        with Teacher(chromium, running.url) as teacher:
            teacher.add(*files(five))
            teacher.by_key("view:mine").click()
            disagree_with_all(running, teacher, five)


def disagree_with_all(running, teacher, five) -> None:
    """Put the model's last work first, and hold what the page says of it against what the API says."""
    answer = running.post("rank", *five).json()
    chances = {(pair["a"], pair["b"]): pair["p_a_is_better"] for pair in answer["pairs"]}
    names = teacher.names(".mine")
    assert "or more, you agree" in teacher.page.locator(".disagreements").inner_text()
    for _ in range(4):
        teacher.of(names[4], "up").click()  # the last becomes the first

    def against(name: str) -> float:
        last, other = (int(each[5:-4]) - 1 for each in (names[4], name))
        return 1 - chances.get((last, other), 1 - chances.get((other, last), 1))

    sure = sorted((chance for name in names[:4] if (chance := against(name)) >= answer["min_confidence"]), reverse=True)
    teacher.wait_until_drawn()
    said = teacher.page.locator(".disagreements li p").all_inner_texts()
    assert len(said) == len(sure) > 0
    for text, chance in zip(said, sure, strict=True):
        assert f"{round(100 * min(0.99, chance))}%." in text
    teacher.page.locator(".disagreements li button").first.click()
    assert teacher.page.locator(".pair .pane").count() == 2
    teacher.by_key("back").click()
    expect(teacher.page.locator(".mine .name").first).to_have_text(names[4])


def test_a_removed_work_comes_back_with_its_place(teacher) -> None:
    names = teacher.names(".mine")
    teacher.of(names[2], "up").click()
    order = teacher.names(".mine")
    teacher.by_key("view:gallery").click()
    cards = teacher.names(".cards")
    teacher.of(names[2], "remove").focus()
    teacher.page.keyboard.press("Enter")
    expect(teacher.page.locator(".card")).to_have_count(4)
    assert teacher.focused() == "remove"  # of the work that is there now
    assert f"Removed: {names[2]}" in teacher.said
    teacher.page.keyboard.press("u")
    expect(teacher.page.locator(".place-bar")).to_have_count(5)
    assert teacher.names(".cards") == cards
    teacher.by_key("view:mine").click()
    assert teacher.names(".mine") == order

    teacher.by_key("clear").click()
    expect(teacher.page.locator("main .notice")).to_be_visible()
    assert teacher.focused() == "choose-first"
    teacher.page.locator("#toast button").click()
    expect(teacher.page.locator(".mine .row")).to_have_count(5)
    assert teacher.names(".mine") == order


def test_the_whole_way_by_keys_alone(running, chromium, five) -> None:
    with Teacher(chromium, running.url) as teacher:
        keyboard = teacher.page.keyboard
        with teacher.page.expect_file_chooser() as chooser:  # from now on, or the key could be faster
            teacher.tab_to("choose-first")
            keyboard.press("Enter")
        chooser.value.set_files(files(five))
        teacher.wait_until_done()
        names = teacher.names(".cards")

        teacher.tab_to("view:mine")
        keyboard.press("Enter")
        second = teacher.page.locator(".mine .row").nth(1).get_attribute("data-work")
        teacher.tab_to(f"up:{second}")
        keyboard.press("Enter")
        assert teacher.names(".mine") == [names[1], names[0], *names[2:]]
        assert teacher.focused() == "up"  # on the same work still
        keyboard.press("Enter")  # it is the first already
        assert teacher.names(".mine")[0] == names[1]
        teacher.tab_to(f"tier:{second}")
        keyboard.press("s")
        keyboard.press("Control+z")  # undoes nothing while a choice is being made
        teacher.tab_to("view:gallery")
        keyboard.press("Enter")

        for row in (0, 1):
            work = teacher.page.locator(".card").nth(row).get_attribute("data-work")
            teacher.tab_to(f"pair:{work}")
            keyboard.press("Enter")
        expect(teacher.page.locator(".pair .pane")).to_have_count(2)
        teacher.tab_to("pane:0")
        keyboard.press("+")
        teacher.tab_to("back")
        keyboard.press("Enter")
        expect(teacher.page.locator(".place-bar")).to_have_count(5)
        assert teacher.focused() == "pair"

        teacher.tab_to("save")
        with teacher.page.expect_download():
            keyboard.press("Enter")
        teacher.tab_to("print")
        keyboard.press("Enter")
        keyboard.type("Class")
        sheet = teacher.printed(lambda: keyboard.press("Enter"))
        assert sheet.locator("h1").inner_text() == "Class"
        assert teacher.bugs == []


def test_each_file_says_what_is_wrong_with_it(running, chromium, five) -> None:
    with Teacher(chromium, running.url) as teacher:
        teacher.add(
            *files(five[:3]),
            file("broken.jpg", five[0][:300]),
            file("drawing.svg", b"<svg xmlns='x'/>", "image/svg+xml"),
        )
        problems = teacher.page.locator(".problem").all_inner_texts()
        assert "damaged or incomplete" in problems[0]
        assert "cannot be read" in problems[1]
        assert "3 in order, 2 left out" in teacher.said
        teacher.of("broken.jpg", "again").click()
        teacher.wait_until_done()
        expect(teacher.page.locator(".problem")).to_have_count(2)
        for name in ("broken.jpg", "drawing.svg"):
            teacher.of(name, "remove").click()
        expect(teacher.page.locator(".left-out")).to_have_count(0)


def test_too_large_a_file_is_not_sent(serving, chromium, five) -> None:
    with serving(image_bytes=3000) as running, Teacher(chromium, running.url) as teacher:
        teacher.add(*files(five[:1]), file("large.jpg", five[1] + bytes(3000)))
        assert "too large" in teacher.page.locator(".problem").inner_text()
        assert sum("/score" in address for address in teacher.asked) == 1


def test_a_key_is_asked_for(serving, chromium, five) -> None:
    with serving(api_keys=("right",)) as running, Teacher(chromium, running.url) as teacher:
        page = teacher.page
        page.get_by_text("asks for a key").wait_for()
        page.set_input_files("#choose", files(five[:2]))
        for key, said in (("wrong", "not accepted"), ("right", "")):
            page.locator("input[name=key]").fill(key)
            page.locator("#trouble [type=submit]").click()
            if said:
                page.get_by_text(said).wait_for()
        page.locator(".pair .pane").first.wait_for()
        assert page.locator("#trouble").inner_text() == ""


def test_a_busy_server_is_asked_again(serving, chromium, five) -> None:
    with serving(queue_images=1) as running, Teacher(chromium, running.url) as teacher:
        wait_until_ready(running)
        teacher.page.clock.install()
        service = running.server.state.service
        service._take(1)  # an image of somebody else's fills the queue
        teacher.page.set_input_files("#choose", files(five))
        teacher.page.get_by_text("busy").wait_for()
        service._leave()
        for _ in range(600):
            teacher.page.clock.fast_forward(2000)  # as long as the server has it wait, again and again
            if teacher.page.locator(".place-bar").count() == 5:
                break
        expect(teacher.page.locator(".place-bar")).to_have_count(5)
        assert 429 in teacher.statuses
        assert teacher.page.locator("#trouble").inner_text() == ""


def test_works_outlast_a_server_that_goes_away(serving, chromium, five) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(port=port) as running:
        at_page = Teacher(chromium, running.url)
        at_page.add(*files(five[:3]))
    with at_page as teacher:
        teacher.page.set_input_files("#choose", files(five)[3:])
        teacher.page.get_by_text("does not answer").wait_for()
        assert "Analysing: 3 of 5" in teacher.said
        with serving(port=port) as again:
            wait_until_ready(again)  # or it would have the page wait for five seconds
            teacher.page.locator("#trouble button").click()
            expect(teacher.page.locator(".place-bar")).to_have_count(5, timeout=60_000)
            assert teacher.page.locator("#trouble").inner_text() == ""
        assert teacher.bugs == []


def test_going_back_leaves_a_view_and_not_the_page(teacher) -> None:
    page = teacher.page
    first, second, *_ = teacher.names(".mine")
    teacher.by_key("view:gallery").click()
    teacher.of(first, "pair").click()
    assert f"{first}: chosen" in teacher.said
    teacher.of(second, "pair").click()
    expect(page.locator(".pair .pane")).to_have_count(2)
    page.go_back()
    expect(page.locator(".place-bar")).to_have_count(5)
    assert teacher.focused() == "pair"

    teacher.of(first, "look").click()
    page.locator("dialog[open] .pane").wait_for()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-name")).to_contain_text(second)
    page.go_back()
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator(".place-bar")).to_have_count(5)


def test_the_next_class_begins_without_the_last_ones_order(teacher, photo) -> None:
    last = teacher.names(".mine")[-1]
    teacher.of(last, "up").click()
    teacher.by_key("clear").click()
    expect(teacher.page.locator("main .notice")).to_be_visible()
    teacher.add(*(file(f"next-{seed}.jpg", photo(seed, size=(90, 60))) for seed in range(30, 33)))
    expect(teacher.page.locator(".place-bar")).to_have_count(3)
    rows = teacher.saved()
    assert {row["teacher_place"] for row in rows} == {""}
    for _ in range(2):  # the new class goes, the old one comes back
        teacher.page.keyboard.press("Control+z")
    teacher.wait_until_done()
    teacher.by_key("view:mine").click()
    expect(teacher.page.locator(".mine .row")).to_have_count(5)
    assert teacher.names(".mine")[-2] == last
    teacher.page.keyboard.press("Control+y")
    teacher.page.keyboard.press("Control+y")
    expect(teacher.page.locator(".row.mine, .mine .row, .card")).to_have_count(3)


def test_undo_undoes_what_it_names_or_is_gone(teacher) -> None:
    first, second, *_ = teacher.names(".mine")
    teacher.by_key("view:gallery").click()
    teacher.of(first, "remove").click()
    expect(teacher.page.locator("#toast button")).to_be_visible()
    expect(teacher.page.locator(".place-bar")).to_have_count(4)
    teacher.by_key("view:mine").click()
    teacher.of(second, "tier").select_option("S")
    expect(teacher.page.locator("#toast")).to_be_hidden()
    teacher.page.keyboard.press("Control+z")  # the focus is on the tier
    expect(teacher.of(second, "tier")).to_have_value("")
    teacher.page.keyboard.press("Control+z")
    expect(teacher.page.locator(".mine .row")).to_have_count(5)


def test_a_removal_keeps_the_others_in_their_order(teacher) -> None:
    teacher.by_key("view:gallery").click()
    names = teacher.names(".cards")
    seen: list[list[str]] = teacher.page.evaluate(
        """async () => {
          const seen = [], cards = document.querySelector(".cards");
          const look = () => seen.push([...cards.querySelectorAll(".name")].map(name => name.textContent));
          new MutationObserver(look).observe(cards, { childList: true, subtree: true });
          cards.querySelectorAll(".remove")[1].click();
          await new Promise(done => setTimeout(done, 1000));
          return seen;
        }"""
    )
    assert all(each == [names[0], *names[2:]] for each in seen), seen


def test_the_sheet_has_what_is_asked_for_and_the_teachers_order_first(teacher) -> None:
    page = teacher.page
    names = teacher.names(".mine")
    for _ in range(4):
        teacher.of(names[4], "up").click()
    teacher.by_key("print").click()
    assert "all works" in page.locator("#printing").inner_text()
    sheet = teacher.printed(page.locator("#printing [type=submit]").click)
    titles = sheet.locator("th").all_inner_texts()
    assert titles[:2] == ["Teacher's rank", "AI rank"]
    works = [text.removesuffix(".jpg") for text in teacher.names(".mine")]
    assert sheet.locator(".work span").all_inner_texts() == works
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")

    page.locator(".mine .look").first.click()
    page.locator("dialog[open] .pane").wait_for()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # of the browser's own command
    assert sheet.locator("tbody tr").count() == 1
    page.keyboard.press("Escape")
    teacher.by_key("clear").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert sheet.locator("tr").count() == 0


def test_each_frame_is_zoomed_alone_when_unlocked(running, chromium, five) -> None:
    with Teacher(chromium, running.url) as teacher:
        page = teacher.page
        teacher.add(*files(five[:2]))
        teacher.by_key("lock").click()
        page.locator(".pane").nth(1).click()
        teacher.by_key("zoom:add").click()
        views = page.locator(".pane").evaluate_all("panes => panes.map(pane => pane.dataset.view)")
        assert [view.split()[0] for view in views] == ["1.00", "1.25"]
        teacher.by_key("pane:1").focus()
        for _ in range(100):
            page.keyboard.press("ArrowLeft")
        width = page.locator(".pane").nth(1).bounding_box()["width"]
        x = float(page.locator(".pane").nth(1).get_attribute("data-view").split()[1])
        assert x == pytest.approx(1.25 * width / 2, abs=1)  # a part of it is in its frame still


def test_two_files_of_one_name_are_told_apart(running, chromium, five) -> None:
    with Teacher(chromium, running.url) as teacher:
        teacher.add(file("a.jpg", five[0]), file("a.jpg", five[1]), file("=cmd.jpg", five[2]))
        names = [row["filename"] for row in teacher.saved()]
        assert sorted(names) == ["./=cmd.jpg", "a.jpg", "a.jpg (2)"]


def test_another_context_changes_the_percentile_alone(serving, chromium, five) -> None:
    with serving() as running:
        wait_until_ready(running)
        checkpoint = running.server.state.ranker.checkpoint
        worse = [score - 5 for score in checkpoint.score_percentiles]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(checkpoint.context_percentiles, "oil", worse)
            with Teacher(chromium, running.url) as teacher:
                teacher.add(*files(five[:1]))
                before = teacher.page.locator(".result .big").inner_text()
                sent = sum("/score" in address for address in teacher.asked)
                teacher.by_key("context").select_option("oil")
                expect(teacher.page.locator(".result .big")).to_have_text("Top 1%")
                assert before != "Top 1%"
                (row,) = teacher.saved()
                assert row["model_percentile_among"] == "oil"
                assert float(row["model_percentile"]) == 100
                assert sum("/score" in address for address in teacher.asked) == sent
