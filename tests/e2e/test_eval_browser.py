"""Report and blind page in a real browser: headless Chromium, driven by Selenium."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluation import scored_run
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from prlm_edge.evaluate.ab import Votes, make_server, pairs
from prlm_edge.evaluate.compare import side
from prlm_edge.evaluate.report import write_report

pytestmark = pytest.mark.slow
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1100,1400",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        if os.environ.get("NEEDS_CHROMIUM"):
            pytest.fail("Chromium and its driver were installed for this run, but are not there")
        pytest.skip("no chromium and chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


def test_the_report_opens_without_a_complaint_or_a_request(browser: webdriver.Chrome, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", extra="<script>document.title = 'taken over'</script>")
    write_report([run], tmp_path / "report.html", title="Six users")
    browser.get_log("performance")
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.title == "Six users"
    assert complaints(browser) == []
    requests = [
        entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert len(requests) == 1  # the file itself
    plots = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert len(plots) == 6
    assert all(plot.size["width"] > 200 and plot.size["height"] > 100 for plot in plots)
    width = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0  # wide tables scroll in themselves
    details = browser.find_elements(By.TAG_NAME, "details")
    details[1].find_element(By.TAG_NAME, "summary").click()
    assert "user wrote" in details[1].text


def test_pairs_are_judged_with_the_keyboard_alone(browser: webdriver.Chrome, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    a, b = side(f"{run.path}:zero-shot"), side(f"{run.path}:k=4")

    def votes() -> Votes:
        return Votes(tmp_path / "votes.jsonl", a.name, b.name, pairs(a, b))

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def wait_for(count: str) -> None:
        WebDriverWait(browser, 20).until(lambda _: browser.find_element(By.ID, "count").text == count)

    def text(id: str) -> str:
        return browser.find_element(By.ID, id).text

    def prefer_b() -> None:
        """Press the key of the side that shows what k=4 wrote, by its words: the page doesn't say."""
        press("1" if text("left-text") == expected[text("query")] else "2")

    expected = {pair.query: pair.b for pair in votes().pairs}
    with make_server(votes()) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        browser.get(server.url)
        wait_for("0 of 6")
        assert "zero-shot" not in browser.page_source
        assert "k=4" not in browser.page_source
        prefer_b()
        wait_for("1 of 6")
        press("r", "clearer 1 2", Keys.ENTER)  # keys in a reason are no votes
        prefer_b()
        wait_for("2 of 6")
        press("u")
        wait_for("1 of 6")
        press("0")
        wait_for("2 of 6")
        server.shutdown()
    with make_server(votes()) as server:  # another sitting
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        browser.get(server.url)
        wait_for("2 of 6")
        press("s")
        wait_for("3 of 6")
        for done in ("4 of 6", "5 of 6"):
            prefer_b()
            wait_for(done)
        browser.find_element(By.ID, "left").click()  # a mouse does too
        wait_for("6 of 6")
        assert "zero-shot" in text("result")
        assert complaints(browser) == []
        server.shutdown()
    result = votes().result()
    assert (result.n, result.ties) == (5, 1)
    assert result.wins_b >= 3
    assert '"clearer 1 2"' in (tmp_path / "votes.jsonl").read_text()


def test_a_vote_that_could_not_be_kept_is_said(browser: webdriver.Chrome, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    a, b = side(f"{run.path}:zero-shot"), side(f"{run.path}:k=4")
    votes = Votes(tmp_path / "votes.jsonl", a.name, b.name, pairs(a, b))
    votes.path = tmp_path  # a folder can't be written to
    with make_server(votes) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        browser.get(server.url)
        WebDriverWait(browser, 20).until(lambda _: browser.find_element(By.ID, "judge").is_displayed())
        ActionChains(browser).send_keys("1").perform()
        WebDriverWait(browser, 20).until(lambda _: "Not kept" in browser.find_element(By.ID, "error").text)
        assert browser.find_element(By.ID, "count").text == "0 of 6"
        server.shutdown()
