"""A report as people use it: in a browser, by pointer, by keyboard, by a screen reader."""

import os
import shutil
import time

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

from xplique_sal import report  # noqa: E402
from xplique_sal.metrics import SampleValues  # noqa: E402

pytestmark = pytest.mark.processes

EVIL = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    said = []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.set_default_timeout(10_000)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url),
    )
    yield opened
    context.close()
    # The tests read canvases, which the page does not.
    assert [text for text in said if "Multiple readback" not in text] == []


def images(count, side, rng):
    """Return images with a bright square, and maps that know where it is."""
    x = rng.integers(60, 130, (count, side, side, 3), dtype=np.uint8)
    maps = rng.random((count, side, side, 1)).astype("float32") * 0.3
    for number in range(count):
        y = number % (side // 2)
        x[number, y : y + side // 3, y : y + side // 3] = [240, 160, 60]
        maps[number, y : y + side // 3, y : y + side // 3] += 0.7
    return x, maps


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("report") / "page.html"
    x, maps = images(60, 32, rng)
    curves = rng.random((60, 5))
    deletion = SampleValues(np.arange(60) / 60, curves, np.linspace(0, 1, 5))
    report.write(
        path,
        x,
        {"Saliency": maps, "LRP": maps - 0.5},
        names=[EVIL, *(f"picture {n}" for n in range(1, 60))],
        classes=np.arange(60) % 3,
        scores=np.arange(60)[::-1] / 10,
        predictions=np.arange(60) % 3,
        labels=np.where(np.arange(60) % 4 == 0, 2, np.arange(60) % 3),
        class_names=["cat", "dog", EVIL],
        metrics={"Deletion": {"Saliency": deletion, "LRP": deletion}},
        better={"Deletion": "lower"},
        settings={"method": "Saliency", "inputs": EVIL},
        warnings=["The output of a softmax is explained."],
        unreadable=[("broken.png", "no picture")],
    )
    return path


def opened(page, path):
    page.goto(f"file://{path}")
    page.wait_for_selector("html[data-ready]")
    page.wait_for_function("[...document.querySelectorAll('.card')].length > 0")


def names(page):
    return page.locator(".card b").all_inner_texts()


def pixels(page, tile):
    """Return the pixels of a tile of the first card."""
    page.wait_for_timeout(150)
    return (
        page.locator(".card")
        .first.locator("canvas")
        .nth(tile)
        .evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    )


def test_text_of_users_is_shown_as_text(page, small):
    opened(page, small)
    assert names(page)[0] == EVIL and page.title() == "Saliency maps"
    page.locator(".card button").first.click()
    assert page.locator("#sample-name").inner_text() == EVIL
    assert page.locator("#sample td").filter(has_text="onerror").inner_text() == EVIL  # its class
    assert page.locator(".run td").filter(has_text="onerror").inner_text() == EVIL  # a setting


def test_sliders_change_the_pictures(page, small):
    opened(page, small)
    before, image = pixels(page, 1), pixels(page, 0)
    assert before != image
    page.locator("#opacity").fill("0")
    assert page.locator("#opacity-said").inner_text() == "0 %" and pixels(page, 1) == image
    page.locator("#opacity").fill("100")
    page.locator("#share").fill("10")
    few = np.reshape(pixels(page, 1), (-1, 4)) != np.reshape(image, (-1, 4))
    assert 0.05 < few.any(1).mean() <= 0.12  # the most important tenth, and no more
    page.locator("#share").fill("100")
    page.get_by_text("Map alone").click()
    alone = np.reshape(pixels(page, 1), (-1, 4))
    assert (alone[:, 3] == 255).all() and (alone != np.reshape(image, (-1, 4))).any(1).mean() > 0.9


def test_filters_and_sorting(page, small):
    opened(page, small)
    page.locator("#class").select_option(label="dog")
    assert page.locator("#count").inner_text() == "20 of 60 samples"
    page.locator("#answer").select_option("wrong")
    assert page.locator("#count").inner_text() == "5 of 60 samples"
    assert set(names(page)) == {f"picture {n}" for n in range(60) if n % 3 == 1 and n % 4 == 0}
    page.locator("#reset").click()
    assert page.locator("#count").inner_text() == "60 samples"
    page.locator("#sort").select_option(label="score")
    assert names(page)[0] == "picture 59"
    page.locator("#direction").click()
    assert names(page)[0] == EVIL
    page.locator("#sort").select_option(label="Deletion, LRP")
    assert names(page)[:2] == ["picture 59", "picture 58"]
    page.locator("#number").select_option(label="Deletion, Saliency")
    page.locator("#least").fill("0.5")
    page.locator("#most").fill("0.6")
    assert page.locator("#count").inner_text() == "7 of 60 samples"
    page.locator("#name").fill("no such picture")
    assert page.locator("#nothing").is_visible()
    page.locator("#reset-too").click()
    page.locator("#methods").get_by_text("LRP").click()
    assert page.locator(".card").first.locator("canvas").count() == 2


def test_by_keyboard(page, small):
    opened(page, small)
    page.locator(".card button").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    columns = round(1232 / page.locator(".card").first.bounding_box()["width"])
    assert page.locator("#sample-name").inner_text() == f"picture {columns}"
    assert page.locator("#sample .curve svg[role=img]").count() == 1
    assert page.locator("#sample th", has_text="Deletion ↓").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.locator("#sample-name").inner_text() == f"picture {columns + 1}"
    page.keyboard.press("Escape")
    assert page.locator("#sample[open]").count() == 0
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith(f"picture {columns + 1}, explained:")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "picture 59"
    )
    page.keyboard.press("Home")
    tabs = 0
    while page.evaluate("document.activeElement.closest('.tools') === null") and tabs < 5:
        page.keyboard.press("Shift+Tab")
        tabs += 1
    assert tabs <= 2  # one stop for all samples


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_roles(page, small, scheme):
    page.emulate_media(color_scheme=scheme)
    opened(page, small)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator(".card button").first.click()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_theme_is_chosen(page, small):
    opened(page, small)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for _ in range(2):
        page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: dark" and page.evaluate(ground) != light


def test_on_paper(page, small):
    opened(page, small)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".card").count() == 60
    assert not page.locator("#opacity").is_visible()
    assert page.locator(".card").nth(40).evaluate("c => getComputedStyle(c).position") == "static"


def test_a_notebook_frame(page, tmp_path, rng):
    x, maps = images(2, 32, rng)
    (tmp_path / "frame.html").write_text(f"<!doctype html>{report.show(x, maps)._repr_html_()}")
    page.goto(f"file://{tmp_path}/frame.html")
    page.frame_locator("iframe").locator(".card").nth(1).wait_for()


@pytest.mark.parametrize("kind", ["text", "table", "series"])
def test_other_samples_in_their_own_form(page, tmp_path, rng, kind):
    count = 30
    told = {"names": [f"sample {n}" for n in range(count)], "scores": rng.random(count)}
    if kind == "text":
        words = [[EVIL, "good", "film", "<b>"]] * count
        report.write(tmp_path / "p.html", None, rng.normal(size=(count, 4)), tokens=words, **told)
    elif kind == "table":
        features = [EVIL, *(f"feature {n}" for n in range(7))]
        x, maps = rng.random((count, 8)), rng.normal(size=(count, 8))
        report.write(tmp_path / "p.html", x, {"A": maps}, feature_names=features, **told)
    else:
        x, maps = rng.random((count, 40, 2)), rng.normal(size=(count, 40, 2))
        report.write(tmp_path / "p.html", x, {"A": maps, "B": maps}, **told)
    opened(page, tmp_path / "p.html")
    form = {"text": ".words mark", "table": ".bars tr", "series": "svg polyline"}[kind]
    assert (
        page.locator(".card").first.locator(form).count()
        == {"text": 4, "table": 5, "series": 4}[kind]
    )
    if kind == "text":
        assert page.locator(".card").first.locator("mark").first.inner_text() == EVIL
    page.locator("#share").fill("25")
    page.wait_for_timeout(100)
    few = page.locator(".card").first.locator({"series": "svg rect"}.get(kind, form))
    assert few.count() == {"text": 4, "table": 2, "series": 40}[kind]
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator(".card button").nth(1).click()
    assert page.locator("#sample-name").inner_text() == "sample 1"


@pytest.mark.parametrize(("count", "seconds"), [(200, 2), (2000, 5)])
def test_many_samples_open_and_scroll(page, tmp_path, rng, count, seconds):
    x, maps = images(count, 96, rng)
    report.write(tmp_path / "p.html", x, {"A": maps}, scores=rng.random(count))
    start = time.perf_counter()
    opened(page, tmp_path / "p.html")
    took = time.perf_counter() - start
    print(f"{count} samples, {(tmp_path / 'p.html').stat().st_size / 1e6:.1f} MB: {took:.2f} s")
    assert took < seconds
    # No turn of the page's own loop is long while it is scrolled from end to end.
    longest = page.evaluate(
        """async () => {
          let longest = 0, last = performance.now();
          const height = document.documentElement.scrollHeight, steps = 120;
          for (let step = 0; step <= steps; step++) {
            scrollTo(0, height * step / steps);
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            longest = Math.max(longest, now - last); last = now;
          }
          return longest;
        }"""
    )
    print(f"the longest turn while scrolling: {longest:.0f} ms")
    assert longest < 1000
    assert page.locator(".card").count() < 80
    page.locator(".card button").first.focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        f"sample {count - 1}"
    )
