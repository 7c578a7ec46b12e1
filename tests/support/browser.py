"""A real Chromium, for tests of HTML: `from browser import browser`.

Where there is none, those tests are skipped; with REQUIRE_CHROMIUM set, they fail.
"""

import os
import shutil
import subprocess

import pytest
from playwright import sync_api


def chromium():
    """The path of an installed Chromium, None for the one that Playwright installed, or the test ends here."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        # Ubuntu's chromium-browser only tells to install a snap.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    with sync_api.sync_playwright() as playwright:
        if os.path.exists(playwright.chromium.executable_path):
            return None
    reason = "no Chromium was found: install it (apt-get install chromium, or .venv/bin/playwright install chromium)"
    if os.environ.get("REQUIRE_CHROMIUM"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")  # Playwright allows one at a time
def browser():
    """Headless; `browser.new_page()` opens a page."""
    path = chromium()
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()
