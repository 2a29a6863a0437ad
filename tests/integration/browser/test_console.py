"""The console in a real browser, on a real service: talking to a model, and draining a machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright
from tests.support.running_up import Up, running_up
from tests.support.waiting import DEADLINE_S

expect.set_options(timeout=DEADLINE_S * 1000)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("console"), "--ranks=2") as service:
        yield service


@pytest.fixture
def page(up: Up) -> Iterator[Page]:
    """A new tab; whatever the browser complains of is a failure."""
    complaints: list[str] = []

    def heed(message: ConsoleMessage) -> None:
        # The browser reports by itself that a key was refused (401, 403), and that nothing can be
        # served.
        expected = any(status in message.text for status in ("401", "403", "503"))
        if message.type == "error" and not expected:
            complaints.append(message.text)

    executable = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_default_timeout(DEADLINE_S * 1000)
        tab.on("console", heed)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        yield tab
        browser.close()
    assert complaints == []


def console(up: Up) -> str:
    return up.base_url.replace("/v1", "/console/")


def signed_in(page: Page, up: Up, where: str = "", key: str | None = None) -> None:
    page.goto(f"{console(up)}#key={key or up.api_key}")
    expect(page.locator("#chat")).to_be_visible()
    assert "#key" not in page.url, "the key must not stay in the address"
    if where:
        page.get_by_role("link", name=where).click()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Message").fill(question)
    page.keyboard.press("Enter")


def test_a_key_is_asked_for_and_a_wrong_one_refused(page: Page, up: Up) -> None:
    page.goto(up.base_url.replace("/v1", "/"))
    page.get_by_label("Key").fill("sk-tandem-wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert").first).to_contain_text("API key")
    page.get_by_label("Key").fill(up.api_key)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_label("Model")).to_have_value(up.model)
    expect(page.get_by_role("status")).to_have_text("ready")
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("Key")).to_be_visible()


def test_a_conversation_is_streamed(page: Page, up: Up) -> None:
    """C12: the chat page."""
    signed_in(page, up)
    page.get_by_label("Temperature").fill("0")
    ask(page, "What is 3 + 4?")
    answer = page.locator("li.assistant").last
    expect(answer).to_contain_text("3 + 4 = 7.")
    expect(answer).to_contain_text("a second")
    ask(page, "Repeat after me: <b>bold</b>")
    expect(page.locator("li.user").last).to_have_text("Repeat after me: <b>bold</b>")
    expect(page.locator("li.assistant").last).to_contain_text("a second")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator("#messages li")).to_have_count(0)


def test_an_answer_can_be_stopped(page: Page, up: Up) -> None:
    signed_in(page, up)
    page.get_by_label("Temperature").fill("0")
    ask(page, "Count to 100.")
    expect(page.locator("li.assistant")).to_contain_text("1, 2")
    stop = page.get_by_role("button", name="Stop")
    if stop.is_visible():  # a hundred numbers may be quicker than the browser
        stop.click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("li.assistant small")).to_have_count(1)


def test_the_operator_sees_the_cluster_and_drains_it(page: Page, up: Up) -> None:
    """C12: the dashboard."""
    signed_in(page, up, "Machines", up.operator_key)
    first = page.get_by_role("row").filter(has_text="rank-0")
    expect(first).to_contain_text("ready, rank 0 of 2")
    expect(first).to_contain_text("self signed")
    expect(first).to_contain_text("cpu, 1 threads")
    expect(page.get_by_role("row").filter(has_text="rank-1")).to_contain_text("rank 1")
    expect(page.locator("#models tbody tr")).to_have_count(1)
    first.get_by_role("button", name="Drain").click()
    expect(first).to_contain_text("drained")
    expect(page.get_by_role("status")).to_have_text("not able to serve now")
    first.get_by_role("button", name="Resume").click()
    expect(first).to_contain_text("ready")
    expect(page.get_by_role("status")).to_have_text("ready")


def test_a_users_key_sees_models_and_no_machines(page: Page, up: Up) -> None:
    signed_in(page, up, "Machines")
    expect(page.locator("#models tbody tr")).to_have_count(1)
    expect(page.locator("#providers")).to_be_hidden()
    expect(page.locator("#machines-problem")).to_have_text("")


def test_nothing_but_the_console_is_served(tmp_path: Path, up: Up) -> None:
    import httpx2

    with httpx2.Client(base_url=console(up)) as http:
        assert http.get("").headers["content-security-policy"].startswith("default-src 'none'")
        for name in ("none.js", "../tandem-demo/config.json", "%2e%2e/tandem-demo/config.json"):
            assert http.get(name).status_code == 404
