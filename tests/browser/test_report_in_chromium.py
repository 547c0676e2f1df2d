"""The report in a real browser: nothing fetched, nothing complained about, nothing cut or empty."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from report_fixture import ATTACK, CELL_TYPES, make_config, write_results

from latentree.report import write_report

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = write_results(tmp_path_factory.mktemp("results"))
    run = {"commit": "abc", "command": ATTACK}
    write_report(
        folder, "pbmc", make_config((0, 1, 2), True), folder / "report.html", {"python": "3.11"}, run
    )
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    """The report, freshly opened in a wide window, with the logs of earlier pages read away."""
    show_at(browser, 1200)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    return browser


def show_at(browser, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )


def test_no_request_and_no_complaint(page, address):
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert address in asked
    assert [url for url in asked if url != address and not url.startswith("data:")] == []
    assert page.get_log("browser") == []


def test_every_picture_is_drawn(page):
    widths = page.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == 6
    assert min(widths) > 100
    # an image may load and still be blank: count the colours that it paints
    colours = page.execute_async_script("""
        const done = arguments[0];
        Promise.all([...document.images].map(async image => {
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = 300; canvas.height = 300;
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0, 300, 300);
            return new Set(new Uint32Array(context.getImageData(0, 0, 300, 300).data.buffer)).size;
        })).then(done);
    """)
    assert min(colours) > 10


@pytest.mark.parametrize("width", [400, 768, 1200])
def test_page_does_not_scroll_sideways(page, width):
    show_at(page, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = page.execute_script("""
        const limit = document.documentElement.clientWidth + 1;
        return [...document.body.querySelectorAll("*")]
            .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > limit)
            .map(e => e.tagName + " " + e.textContent.slice(0, 40));
    """)
    assert outside == []


def test_names_are_text_and_nothing_ran(page):
    text = page.execute_script("return document.body.textContent")
    assert all(name in text for name in CELL_TYPES)
    assert (
        page.execute_script("return document.querySelectorAll('script, td i, td b, img[src=x]').length") == 0
    )


def test_sections_are_reached_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("textContent") == "Skip to the report"
    links = page.execute_script("return [...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert len(links) >= 8
    for link in links:
        assert page.execute_script("return document.querySelector(arguments[0]) !== null", link)
    closed = page.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.tabIndex < 0).length"
    )
    assert closed == 0


def test_print_shows_the_settings_that_are_folded_on_screen(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        height = page.execute_script(
            "return document.querySelector('details pre').getBoundingClientRect().height"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert height > 50
