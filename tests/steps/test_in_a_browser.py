"""The pages in docs/steps/ in Chromium: every step and question, on a desk and on a phone."""

import importlib.util
import re
import shutil
import statistics

import pytest
from harness.stages import ROOT
from steps.test_steps import STAGES, page_of

PLAYWRIGHT = importlib.util.find_spec("playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.may_be_skipped,
    pytest.mark.skipif(not (PLAYWRIGHT and CHROMIUM), reason="there is no playwright, or no chromium"),
]
DESK = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
SMALLEST = 11  # pixels
FRAME = 16  # milliseconds
TEXT_SIZES = """() => [...document.querySelectorAll("body *")]
    .filter((one) => one.offsetParent && one.innerText && one.innerText.trim())
    .map((one) => parseFloat(getComputedStyle(one).fontSize))"""
SWIPE = """(distance) => {
    const touch = (x) => new Touch({ identifier: 1, target: document.body, clientX: x, clientY: 300 });
    document.dispatchEvent(new TouchEvent("touchstart", { touches: [touch(200)] }));
    document.dispatchEvent(new TouchEvent("touchend", { changedTouches: [touch(200 + distance)] }));
}"""
# The best time of five for each step: others want the processor, too.
TIMES = """() => frames.map((_, i) => Math.min(...[1, 2, 3, 4, 5].map(() => {
    const start = performance.now();
    show(i);
    document.body.offsetHeight;
    return performance.now() - start;
})))"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        # Everybody may run the tests, root as well, who has no sandbox.
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """visit(stage, device, query and hash) opens a page, which must load nothing and log nothing."""
    said, contexts = [], []

    def visit(stage, device, where=""):
        contexts.append(browser.new_context(**device, reduced_motion="reduce", locale="en-US"))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.route(re.compile("^(?!file:|data:)"), lambda route: said.append(route.request.url))
        page.goto(f"{(ROOT / 'docs' / 'steps' / stage).as_uri()}.html{where}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


def shown(page):
    return page.locator("#position").inner_text(), page.locator("#picture, #code").all_inner_texts()


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_step_and_question_by_keys(stage, device, visit):
    frames = page_of(stage)["frames"]
    page = visit(stage, device)
    seen = []
    for number, frame in enumerate(frames):
        seen.append(shown(page))
        assert seen[-1][0] == f"{number} / {len(frames) - 1}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert min(page.evaluate(TEXT_SIZES)) >= SMALLEST
        for right, _, why in sorted(frame.get("answers", []), key=lambda answer: answer[0]):
            if page.locator(".why").count() == 0:
                page.keyboard.press("ArrowRight")
                assert shown(page) == seen[-1]  # only a choice goes on
            page.keyboard.press(str([one[2] for one in frame["answers"]].index(why) + 1))
            assert page.locator(".why").inner_text() == why[0].replace("`", "")
            assert page.locator(".choices .right").count() == right
        if number < len(frames) - 1:
            page.keyboard.press("ArrowRight")
    for before in reversed(seen[:-1]):
        page.keyboard.press("ArrowLeft")
        assert shown(page) == before
    page.keyboard.press("End")
    assert shown(page) == seen[-1]
    page.keyboard.press("Home")
    assert shown(page) == seen[0]


@pytest.mark.parametrize("stage", STAGES)
def test_step_is_drawn_within_a_frame_and_the_page_within_a_second(stage, visit):
    page = visit(stage, DESK)
    loaded = []
    for _ in range(3):
        page.reload()
        loaded.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert min(loaded) < 1000
    assert statistics.quantiles(page.evaluate(TIMES))[0] < FRAME


def test_link_to_a_step_the_other_language_and_no_way_around_a_question(visit):
    page = visit("3d", DESK, "?lang=zh#3d-17")
    assert page.locator("#position").inner_text().startswith("17 / ")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.locator(".say").inner_text() == page_of("3d")["frames"][17]["say"][1]
    page.locator("#language").click()
    assert page.locator(".say").inner_text() == page_of("3d")["frames"][17]["say"][0]
    page.keyboard.press("Home")
    page.keyboard.press("End")
    first = next(i for i, frame in enumerate(page_of("3d")["frames"]) if "ask" in frame)
    assert page.locator("#position").inner_text().startswith(f"{first} / ")


def test_swipes_and_taps(visit):
    page = visit("3c", PHONE)
    page.evaluate(SWIPE, -80)
    page.locator("#next").tap()
    assert page.locator("#position").inner_text().startswith("2 / ")
    page.evaluate(SWIPE, 80)
    assert page.locator("#position").inner_text().startswith("1 / ")


def test_space_plays_and_stops_at_a_question(visit):
    page = visit("3d", DESK)
    first = next(i for i, frame in enumerate(page_of("3d")["frames"]) if "ask" in frame)
    page.clock.install()
    page.keyboard.press("Space")
    page.clock.run_for(60_000)
    assert page.locator("#position").inner_text().startswith(f"{first} / ")


def test_lines_are_drawn_from_each_descriptor(visit):
    page = visit("3c", DESK, "#3c-4")
    processes = page_of("3c")["frames"][4]["processes"]
    drawn = [to for one in processes for _, to in one["descriptors"] if to != "terminal"]
    assert page.locator("#picture path:not(.wire)").count() == len(drawn) == 4
