"""The report in a real browser: nothing fetched, nothing complained about, nothing cut or empty."""

import csv
import json
import time

import pandas as pd
import pytest
from report_fixture import ATTACK, CELL_TYPES, CONSENSUS, GENES, K, make_config, write_results

from latentree.files import read_table
from latentree.report import write_report
from latentree.report.factor_sections import fit_section
from latentree.report.inputs import read_inputs
from latentree.report.shown import LongTable

FACTOR = f"sparse_vae-k{K}-f1"
CONFIG = make_config((0, 1, 2), tbr=True, condition="condition")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("results"))
    run = {"commit": "abc", "command": ATTACK}
    write_report(folder, "pbmc", CONFIG, folder / "report.html", {"python": "3.11"}, run)
    return folder


@pytest.fixture(scope="module")
def address(results) -> str:
    return (results / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    """The report, freshly opened in a wide window, with the logs of earlier pages read away."""
    show_at(browser, 1200)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    return browser


def show_at(browser, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )


def open_all(page) -> None:
    """Every part unfolded, its tables with their controls."""
    page.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    deadline = time.monotonic() + 20
    bare = (
        "return [...document.querySelectorAll('table')].filter(t => !t.querySelector('button.sort')).length"
    )
    while page.execute_script(bare):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def cells_of(page, name: str, place: int) -> list[str]:
    """A column of a table as it is shown."""
    return page.execute_script(
        "return [...document.querySelector(`table[data-name='${arguments[0]}']`).tBodies[0].rows]"
        ".map(row => row.cells[arguments[1]].textContent.trim())",
        name,
        place,
    )


def tools_of(page, name: str):
    """The controls above a table."""
    return page.execute_script(
        "return document.querySelector(`table[data-name='${arguments[0]}']`)"
        ".parentElement.previousElementSibling",
        name,
    )


def press(page, element, key: str) -> None:
    """A key on an element that the keyboard can reach."""
    page.execute_script("arguments[0].focus()", element)
    assert page.switch_to.active_element == element
    element.send_keys(key)


def test_no_request_and_no_complaint(page, address):
    open_all(page)
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


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_page_does_not_scroll_sideways(page, width):
    show_at(page, width)
    open_all(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = page.execute_script("""
        const limit = document.documentElement.clientWidth + 1;
        return [...document.body.querySelectorAll("*")]
            .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > limit)
            .map(e => e.tagName + " " + e.textContent.slice(0, 40));
    """)
    assert outside == []


def test_names_are_text_and_nothing_ran(page):
    open_all(page)
    for tools in page.find_elements("css selector", ".tools button[aria-pressed]"):
        tools.click()
    text = page.execute_script("return document.body.innerText")
    assert all(name in text for name in (*CELL_TYPES, *GENES[-2:]))
    assert page.execute_script("return document.querySelectorAll('td i, td b, th b, img[src=x]').length") == 0
    assert page.execute_script("return document.querySelectorAll('script:not([type])').length") == 1


def test_no_other_script_may_run(page):
    page.execute_script("""
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
    """)
    assert page.execute_script("return window.ran") is None


def test_a_click_or_a_key_on_a_header_sorts_by_number(page):
    from selenium.webdriver.common.keys import Keys

    headers = page.find_elements("css selector", "table[data-name=scores] thead th")
    accuracy = [header.text.split()[0] for header in headers].index("accuracy")
    given = cells_of(page, "scores", accuracy)
    numbers = sorted(float(text.split()[0]) for text in given if text != "–")
    for key, order, state in (
        (Keys.ENTER, numbers[::-1], "descending"),
        (Keys.SPACE, numbers, "ascending"),
    ):
        press(page, headers[accuracy].find_element("tag name", "button"), key)
        assert headers[accuracy].get_attribute("aria-sort") == state
        assert [float(text.split()[0]) for text in cells_of(page, "scores", accuracy)] == order
    press(page, headers[accuracy].find_element("tag name", "button"), Keys.ENTER)
    assert cells_of(page, "scores", accuracy) == given
    # a dash comes last in either direction
    ari = [header.text.split()[0] for header in headers].index("ARI")
    for _ in range(2):
        headers[ari].find_element("tag name", "button").click()
        assert cells_of(page, "scores", ari)[-2:] == ["–", "–"]
    assert headers[accuracy].get_attribute("aria-sort") is None
    # f10 after f2
    factor = page.find_element("css selector", "table[data-name=programs] thead button")
    factor.click()
    assert cells_of(page, "programs", 0) == ["f1", "f2", "f3"]


def test_all_rows_can_be_shown_and_searched(page, results):
    genes = read_table(results / "tables/genes.tsv")
    mine = genes[(genes["model"] == "sparse_vae") & (genes["factor"] == "f1") & (genes["seed"] == CONSENSUS)]
    page.get(page.current_url + f"#{FACTOR}")
    page.refresh()
    open_all(page)
    name = f"{FACTOR}-genes"
    assert len(cells_of(page, name, 0)) == 15 < len(mine)
    tools = tools_of(page, name)
    assert tools.find_element("class name", "status").text == f"15 of {len(mine)} rows"
    # the rarest gene is beyond the first rows
    last = mine.loc[mine["loading"].abs().idxmin(), "gene"]
    assert last not in cells_of(page, name, 0)
    field = tools.find_element("tag name", "input")
    press(page, field, last.lower())
    assert cells_of(page, name, 0) == [last]
    field.clear()
    field.send_keys("no such gene")
    assert cells_of(page, name, 0) == []
    field.clear()
    field.send_keys(" ")
    button = tools.find_element("css selector", "[aria-pressed]")
    button.click()
    assert set(cells_of(page, name, 0)) == set(mine["gene"])
    assert button.get_attribute("aria-pressed") == "true"


def test_the_script_writes_rows_as_the_page_does(page, results):
    """Rows beyond the first are made by report.js: the same text as shown.py's, and the same bars."""
    section = fit_section(read_inputs(results, "pbmc", CONFIG), "sparse_vae", K, 0)
    open_all(page)
    for table in (table for factor in section.factors for table in factor.tables):
        whole = LongTable(table.anchor, "", table.columns, table.rows, len(table.rows))
        if len(table.rows) > table.n_first:
            tools_of(page, table.anchor).find_element("css selector", "[aria-pressed]").click()
        for place in range(len(table.columns)):
            assert cells_of(page, table.anchor, place) == [row[place].strip() for row in whole.first]
    widths = page.execute_script(
        "return [...document.querySelectorAll(`table[data-name='${arguments[0]}'] .bar`)]"
        ".map(bar => [parseFloat(bar.style.getPropertyValue('--w')), bar.classList.contains('minus')])",
        f"{FACTOR}-genes",
    )
    genes = section.factors[0].tables[0]
    expected = LongTable("", "", genes.columns, genes.rows, len(genes.rows)).first
    assert [w for w, _ in widths] == pytest.approx([abs(row[1].width) for row in expected], abs=0.1)
    assert [minus for _, minus in widths] == [row[1].width < 0 for row in expected]


def test_every_table_is_downloaded_whole(page, tmp_path, results):
    open_all(page)
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    names = page.execute_script("return [...document.querySelectorAll('table')].map(t => t.dataset.name)")
    buttons = page.find_elements("css selector", ".tools button[aria-label^=Download]")
    assert len(buttons) == len(names) == len(set(names))
    for button in buttons:
        page.execute_script("arguments[0].click()", button)
        time.sleep(0.12)  # Chromium saves ten files in a second, and drops what goes beyond
    wanted = {f"pbmc_{name}.tsv" for name in names}
    deadline = time.monotonic() + 30
    while {path.name for path in tmp_path.iterdir()} != wanted:
        assert time.monotonic() < deadline, wanted ^ {path.name for path in tmp_path.iterdir()}
        time.sleep(0.1)
    # every row at full precision, and names as they are
    genes = read_table(results / "tables/genes.tsv")
    mine = genes[(genes["model"] == "sparse_vae") & (genes["factor"] == "f1") & (genes["seed"] == CONSENSUS)]
    saved = read_tsv(tmp_path / f"pbmc_{FACTOR}-genes.tsv")
    assert dict(zip(saved["gene"], saved["loading"].astype(float), strict=True)) == dict(
        zip(mine["gene"], mine["loading"], strict=True)
    )
    usage = read_tsv(tmp_path / f"pbmc_{FACTOR}-usage.tsv")
    assert set(usage["cell type"]) == set(CELL_TYPES)
    # a mean has its deviation beside it, and more digits than are shown
    scores = read_tsv(tmp_path / "pbmc_scores.tsv").set_index("model")
    metrics = read_table(results / "tables/metrics.tsv")
    values = metrics[(metrics["model"] == "sparse_vae") & (metrics["metric"] == "accuracy")]["value"]
    assert float(scores.loc["sparse_vae", "accuracy"]) == pytest.approx(values.mean(), rel=1e-12)
    assert float(scores.loc["sparse_vae", "accuracy (sd)"]) == pytest.approx(values.std(), rel=1e-12)
    assert scores.loc["majority (reference)", "ARI"] == ""


def read_tsv(path) -> pd.DataFrame:
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    return pd.DataFrame(rows, columns=header)


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


def test_a_factor_is_unfolded_by_key_and_by_link(page, address):
    from selenium.webdriver.common.keys import Keys

    def is_open():
        return page.execute_script("return document.getElementById(arguments[0]).open", FACTOR)

    assert not is_open()
    summary = page.find_element("css selector", f"#{FACTOR} > summary")
    press(page, summary, Keys.ENTER)
    assert is_open()
    press(page, summary, Keys.ENTER)
    assert not is_open()
    link = page.find_element("css selector", "table[data-name=programs] tbody a")
    for _ in range(2):  # the second time the page is there already
        press(page, link, Keys.ENTER)
        time.sleep(0.2)
        assert is_open()
        assert page.switch_to.active_element == summary
        press(page, summary, Keys.ENTER)
    page.get("about:blank")
    page.get(f"{address}#{FACTOR}")
    assert is_open()
    top = page.execute_script(
        "return document.getElementById(arguments[0]).getBoundingClientRect().top", FACTOR
    )
    assert 0 <= top < 300


def test_print_shows_what_is_folded_on_screen(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        heights = page.execute_script(
            "return [...document.querySelectorAll('details pre, details table')]"
            ".map(e => e.getBoundingClientRect().height)"
        )
        shown = page.execute_script(
            "return [...document.querySelectorAll('nav, .tools button')].filter(e => e.offsetHeight).length"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert min(heights) > 20
    assert shown == 0
    # for browsers whose style sheets cannot unfold
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    folded = "return document.querySelectorAll('details:not([open])').length"
    assert page.execute_script(folded) == 0
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert page.execute_script(folded) > 0


def test_without_its_script_the_page_has_the_same_tables_and_no_dead_controls(browser, address):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        text = browser.execute_cdp_cmd("Runtime.evaluate", {"expression": "document.body.textContent"})
        buttons = browser.execute_cdp_cmd(
            "Runtime.evaluate", {"expression": "document.querySelectorAll('button, input').length"}
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert buttons["result"]["value"] == 0
    assert all(name in text["result"]["value"] for name in CELL_TYPES)
    assert "The first 15 of" in text["result"]["value"]
