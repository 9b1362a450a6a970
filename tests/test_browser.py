"""The page in a browser, driven by keyboard and by mouse: what a reader does is done, and the console stays empty."""

import shutil
from urllib.parse import parse_qs

import pytest
from report_cases import card
from test_page import NASTY, SENTENCES, pairs, stored

from harness.reports.report import ReportOptions, report
from harness.results.items import text_id

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1280,900"),
)
NAMES = ("minilm", "bert[pooling=avg]", "hf:o/<script>alert(1)", "hf:o/$x$", "hf:o/=cmd")
NASTY_ONES = {text_id(f"{NASTY} {i}"): f"{NASTY} {i}" for i in range(40)}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a report of five encoders, some of whose names would act if they could."""
    root = tmp_path_factory.mktemp("page")
    for seed, name in enumerate(NAMES):
        encoder = card(name, parameters={})
        for task in ("STS12", "STSBenchmark"):
            left = NASTY if task == "STS12" else "a man runs"
            stored(encoder, task, pairs(40, seed=seed, left=left), root / "results")
    (root / "figures").mkdir()
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    (root / "figures" / "a-spectrum.svg").write_text(drawing)
    options = ReportOptions(formats=["html"], pairs=5, sentences=SENTENCES | NASTY_ONES, intervals=False)
    return report(root / "results", root, options).paths[0].as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    chromium.get("about:blank")  # a change of the part behind # alone would load nothing
    chromium.get(page)
    wait_for(chromium, lambda: chromium.find_elements(By.CSS_SELECTOR, "#list li"))
    yield chromium
    assert chromium.get_log("browser") == []


def wait_for(browser, condition):
    return WebDriverWait(browser, 20).until(lambda _: condition())


def one(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def labels(browser):
    rows = browser.find_elements(By.CSS_SELECTOR, "#sts-all tbody tr.measured .name")
    return [row.text for row in rows if row.is_displayed()]


def state(browser):
    return {key: value for key, (value,) in parse_qs(browser.current_url.partition("#")[2]).items()}


def test_names_are_shown_and_do_nothing(browser):
    assert "alert(1)" in " ".join(labels(browser)) and "$x$" in labels(browser) and "=cmd" in labels(browser)
    assert browser.execute_script("return document.querySelectorAll('main script').length") == 0


def test_columns_are_sorted_by_mouse_and_by_keyboard_and_the_link_sorts_again(browser):
    before = labels(browser)
    head = browser.find_elements(By.CSS_SELECTOR, "#sts-all .sort")[1]
    head.click()
    values = [float(one.text) for one in browser.find_elements(By.CSS_SELECTOR, "#sts-all tr.measured td:nth-child(2)")]
    assert values == sorted(values, reverse=True)
    head.send_keys(Keys.ENTER)
    assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    assert labels(browser) != before and state(browser)["sort"] == "sts-all:1:ascending"
    sorted_, link = labels(browser), browser.current_url
    browser.get("about:blank")
    browser.get(link)
    assert labels(browser) == sorted_


def test_rows_are_searched_and_columns_chosen_and_the_link_shows_the_same(browser):
    one(browser, "#filter").send_keys("POOLING=AVG")
    assert labels(browser) == ["bert [pooling=avg]"]
    summary = one(browser, "#columns summary")
    summary.send_keys(Keys.ENTER)
    box = one(browser, "#columns input")
    box.send_keys(Keys.SPACE)
    head = browser.find_elements(By.CSS_SELECTOR, "#sts-all thead th")[1]
    assert not head.is_displayed() and set(state(browser)) == {"filter", "without"}
    link = browser.current_url
    browser.get("about:blank")
    browser.get(link)
    assert labels(browser) == ["bert [pooling=avg]"]
    assert not browser.find_elements(By.CSS_SELECTOR, "#sts-all thead th")[1].is_displayed()


def test_a_number_opens_its_provenance_and_escape_closes_it(browser):
    one(browser, "#sts-all tr.measured button.number").send_keys(Keys.ENTER)
    dialog = one(browser, "#card")
    wait_for(browser, dialog.is_displayed)
    assert "STS12" in one(browser, "#card-title").text and "Protocol" in one(browser, "#card-body").text
    dialog.send_keys(Keys.ESCAPE)
    wait_for(browser, lambda: not dialog.is_displayed())


def test_a_verdict_shows_its_evidence(browser):
    number = one(browser, "#sts-all tr.published button[data-evidence]")
    number.click()
    wait_for(browser, one(browser, "#card").is_displayed)
    assert one(browser, "#card-body").text == number.get_attribute("data-evidence")


def test_pairs_are_compared_and_filtered_and_the_link_shows_them_again(browser):
    form = one(browser, "#explorer")
    Select(form.find_element(By.NAME, "view")).select_by_value("disagreement")
    second = form.find_element(By.NAME, "second")
    assert second.is_displayed()
    Select(form.find_element(By.NAME, "task")).select_by_visible_text("STSBenchmark")
    Select(second).select_by_visible_text("$x$")
    first = Select(form.find_element(By.NAME, "first")).first_selected_option.text
    shown = one(browser, "#list li").text
    assert first in shown and "$x$" in shown and "a man runs" in shown
    form.find_element(By.NAME, "text").send_keys("runs 1")
    found = [line.text for line in browser.find_elements(By.CSS_SELECTOR, "#list li")]
    assert found and all("runs 1" in text for text in found)
    form.find_element(By.NAME, "minOverlap").send_keys("101")
    assert not browser.find_elements(By.CSS_SELECTOR, "#list li")
    form.find_element(By.NAME, "minOverlap").send_keys(Keys.BACKSPACE * 3)
    link = browser.current_url
    browser.get("about:blank")
    browser.get(link)
    wait_for(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#list li"))
    assert [line.text for line in browser.find_elements(By.CSS_SELECTOR, "#list li")] == found


def test_the_first_sentences_are_text(browser):
    assert NASTY in one(browser, "#list li p").text


def test_figures_are_images_and_the_theme_turns(browser):
    image = one(browser, "#figures img")
    wait_for(browser, lambda: int(image.get_property("naturalWidth")) > 0)
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(paper)
    one(browser, "#theme").send_keys(Keys.ENTER)
    assert one(browser, "#theme").text == "Theme: dark" and browser.execute_script(paper) != light
    one(browser, "#theme").click()
    one(browser, "#theme").click()
    assert one(browser, "#theme").text == "Theme: auto"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
