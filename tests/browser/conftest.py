"""A real Chromium, without network: pages are opened from files, and a request that leaves the machine is a failure."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium.

    It ends with its file of tests: a process that later tests fork would hold its pipes, and stopping would never end.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a fresh page; the test fails when it asks the network for something or logs an error."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def guard(route: Route) -> None:
        if route.request.url.startswith(LOCAL):
            route.continue_()
        else:
            wrong.append(f"request: {route.request.url}")
            route.abort()

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"console: {message.text}")

    context.route("**/*", guard)
    opened = context.new_page()
    opened.on("console", heard)
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    yield opened
    context.close()
    assert wrong == []
