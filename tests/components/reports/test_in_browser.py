"""The reports in a real browser, as people read them: on a screen, on a phone, by keyboard, on paper."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.components.reports.pages import HOSTILE, LONG, REPORTS

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE, DESKTOP = 360, 1280

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = {name: folder / f"{name}.html" for name in REPORTS}
    for name, write in REPORTS.items():
        write(paths[name])
    return paths


@pytest.fixture
def opened(browser: Browser, written: dict[str, Path]) -> Iterator[Open]:
    """Open a report; whatever the test does with it, it must neither complain nor ask for another file."""
    context = browser.new_context(reduced_motion="reduce")
    heard: list[str] = []
    context.on("console", lambda message: heard.append(message.text))
    context.on("weberror", lambda error: heard.append(str(error.error)))
    context.on("request", lambda request: request.url.startswith("data:") or heard.append(request.url))

    def open_(name: str, *, scheme: str = "light", width: int = DESKTOP) -> Page:
        page = context.new_page()
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(written[name].as_uri())
        assert heard.pop(0) == written[name].as_uri()
        return page

    yield open_
    context.close()
    assert heard == []


def violations(page: Page, axe: str, only: object) -> dict[str, list[str]]:
    """Return the elements that violate a rule, by rule; folded parts are checked too."""
    page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
    page.evaluate(axe)
    checked, found = page.evaluate(
        """async only => {
            const result = await axe.run({runOnly: only, resultTypes: ['violations']});
            const found = result.violations.map(rule => [rule.id, rule.nodes.map(node => node.html)]);
            return [result.passes.length, Object.fromEntries(found)];
        }""",
        only,
    )
    assert checked
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", REPORTS)
def test_axe_finds_nothing(opened: Open, axe: str, name: str, scheme: str) -> None:
    assert violations(opened(name, scheme=scheme), axe, WCAG) == {}


@pytest.mark.parametrize("name", REPORTS)
def test_a_phone_scrolls_in_one_direction_only(opened: Open, axe: str, name: str) -> None:
    page = opened(name, width=PHONE)
    rules = ["target-size", "th-has-data-cells", "td-headers-attr", "aria-required-children"]
    assert violations(page, axe, {"type": "rule", "values": rules}) == {}
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE
    # Each row of a table is a block, for which some browsers would forget what it is.
    assert page.locator("table[role=table]").count()
    parts = ("table", "thead", "tbody", "tr", "th", "td")
    assert page.locator(", ".join(f"{part}:not([role])" for part in parts)).count() == 0


def brightness(page: Page) -> int:
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_is_dark_where_the_reader_wants_it_but_never_on_paper(opened: Open, name: str) -> None:
    page = opened(name, scheme="dark")
    assert brightness(page) < 50
    page.emulate_media(media="print", color_scheme="dark")
    assert brightness(page) == 255
    page.emulate_media(media="screen", color_scheme="light")
    assert brightness(page) == 255


def test_paper_shows_what_the_screen_folds_away(opened: Open) -> None:
    page = opened("evaluation")
    parameter = page.get_by_role("cell", name="cholesky").or_(page.get_by_text("latent_factors", exact=True))
    shown = "element => element.checkVisibility({contentVisibilityAuto: true})"
    assert not parameter.first.evaluate(shown)
    page.emulate_media(media="print")
    assert parameter.first.evaluate(shown)
    assert not page.get_by_role("navigation").is_visible()


def test_the_keyboard_reaches_and_opens_folded_parts(opened: Open) -> None:
    page = opened("evaluation")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.get_by_text("Skip to the content").bounding_box()["x"] >= 0
    parameter = page.locator("bdi").get_by_text("latent_factors", exact=True)
    assert not parameter.is_visible()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        place = page.evaluate("document.activeElement.textContent.trim()")
        reached.add(place)
        if place == "Parameters":
            page.keyboard.press("Enter")
            break
    assert {"Decision", "Model card", "All metrics", "Iterations", "Parameters"} <= reached
    assert parameter.is_visible()


def test_links_lead_to_the_sections(opened: Open) -> None:
    page = opened("evaluation")
    for link in page.get_by_role("navigation").get_by_role("link").all():
        title = link.text_content()
        link.click()
        heading = page.get_by_role("heading", name=title, exact=True)
        assert page.evaluate("location.hash") == f"#{heading.locator('..').get_attribute('id')}"


def test_titles_and_ids_are_only_text(opened: Open) -> None:
    page = opened("evaluation", width=PHONE)
    shown = page.locator("article").first.text_content()
    for title in HOSTILE:
        assert title[:40] in shown
    assert LONG not in shown
    assert page.locator("script, img, iframe, object").count() == 0
    # A title that is written from right to left, or that turns the direction, does so only by itself.
    directions = page.locator("article bdi").evaluate_all(
        "all => all.map(e => getComputedStyle(e).unicodeBidi)"
    )
    assert set(directions) == {"isolate"}
    heights = page.locator("article li").evaluate_all("all => all.map(item => item.offsetHeight)")
    assert max(heights) < 400
