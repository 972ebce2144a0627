"""The editor page in headless Chromium, against a whole platform."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("playwright", reason="needs the developers' packages")

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)"),
]
PATIENCE = 120_000
"""Milliseconds."""
CONFIG = """
listen = ["127.0.0.1:0"]
data = "data"
[admin]
listen = "127.0.0.1:0"
"""
WAT = "Hello in WebAssembly text"


@dataclass
class Terrarium:
    url: str
    admin: str
    token: str


@pytest.fixture(scope="module")
def terrarium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terrarium]:
    folder = tmp_path_factory.mktemp("terrarium")
    (folder / "lucet.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "lucet", "serve", "--config", str(folder / "lucet.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            admin = process.stdout.readline().split()[3]
            yield Terrarium(url, admin, (folder / "data" / "admin.token").read_text().strip())
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.fixture
def page(terrarium: Terrarium) -> Iterator[Page]:
    """Of a new browser. At the end: no error of its scripts, and nothing asked of other hosts."""
    errors: list[str] = []
    asked: list[str] = []
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        opened = browser.new_page(viewport={"width": 1400, "height": 850})
        opened.set_default_timeout(PATIENCE)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        yield opened
        if shots := os.environ.get("LUCET_SCREENSHOTS"):
            name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
            opened.screenshot(path=str(Path(shots, f"{name}.png")))
        browser.close()
    assert not errors
    port = terrarium.url.rpartition(":")[2]
    assert [url for url in asked if not url.startswith(terrarium.admin) and f".localhost:{port}" not in url] == []


def sign_in(page: Page, terrarium: Terrarium) -> None:
    page.goto(terrarium.admin)
    page.fill("#token", terrarium.token)
    page.click("#sign-in button")
    page.wait_for_selector("#sign-in", state="hidden")
    page.select_option("#template", label=WAT)


def deploy(page: Page) -> str:
    page.click("#deploy")
    page.wait_for_selector("#deploy:not([disabled])")
    return page.inner_text("#status")


def shown(page: Page) -> Any:
    return page.frame_locator("#preview").locator("body")


def edit(page: Page, old: str, new: str) -> None:
    area = page.locator("#editor textarea")
    area.fill(area.input_value().replace(old, new))


def test_only_the_token_opens_it(page: Page, terrarium: Terrarium) -> None:
    page.goto(terrarium.admin)
    page.fill("#token", "wrong")
    page.click("#sign-in button")
    page.get_by_text("not the server's token").wait_for()
    page.fill("#token", terrarium.token)
    page.click("#sign-in button")
    page.wait_for_selector("#sign-in", state="hidden")
    page.locator("#template option", has_text=WAT).wait_for(state="attached")


def test_from_a_template_to_a_live_url_and_back(page: Page, terrarium: Terrarium) -> None:
    sign_in(page, terrarium)
    assert "Live after" in deploy(page)
    shown(page).get_by_text("Hello from WebAssembly text!").wait_for()
    edit(page, "Hello from WebAssembly text!", "Hello once again, everybody!")
    assert "version 2" in deploy(page)
    shown(page).get_by_text("Hello once again, everybody!").wait_for()
    page.click("#back")
    shown(page).get_by_text("Hello from WebAssembly text!").wait_for()
    assert "version 1 answers again" in page.inner_text("#status")
    assert page.locator("#applications button").all_inner_texts() == ["hello-wat"]


def test_what_is_wrong_is_shown_where_it_is(page: Page, terrarium: Terrarium) -> None:
    sign_in(page, terrarium)
    edit(page, "(memory 1)", "(memory one)")
    status = deploy(page)
    assert "Live" not in status and page.locator("#status.bad").count() == 1
    assert "main.wat:4:11: " in page.inner_text("#build")
    assert page.locator("#editor .gutter .bad").inner_text() == "4"
    page.fill("#name", "Not A Name")
    page.click("#deploy")
    assert "lower-case" in page.inner_text("#status")


def test_logs_and_traffic_are_drawn(page: Page, terrarium: Terrarium) -> None:
    sign_in(page, terrarium)
    deploy(page)
    page.click("button[data-tab=traffic]")
    page.click("#send")
    page.get_by_text("200 sent").wait_for()
    page.locator("#rates path.line").wait_for(state="attached")
    page.locator("#latencies path.line").first.wait_for(state="attached")
    page.click("button[data-tab=log]")
    lines = page.locator("#log div")
    lines.nth(100).wait_for(state="attached")
    assert "GET /" in lines.first.inner_text()


def test_what_was_edited_survives_a_reload(page: Page, terrarium: Terrarium) -> None:
    sign_in(page, terrarium)
    edit(page, "The smallest of all", "What I have written")
    page.reload()
    page.wait_for_selector("#template option", state="attached")
    assert "What I have written" in page.locator("#editor textarea").input_value()
