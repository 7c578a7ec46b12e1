"""What the tests of pages share."""

import pytest
from browser import browser  # noqa: F401  a fixture


@pytest.fixture
def visit(browser):  # noqa: F811
    """Opens a site; at the end the browser must have had nothing to say and nothing to fetch."""
    contexts, told, fetched = [], [], []

    def open_page(site, at="", **options):
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(60_000)  # against hanging; a busy machine takes its time
        tab = context.new_page()
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda request: fetched.append(request.url))
        tab.goto(site.url + at)
        return tab

    yield open_page
    addresses = {tab.url.split("#")[0] for context in contexts for tab in context.pages}
    for context in contexts:
        context.close()
    assert told == []
    assert {url.split("#")[0] for url in fetched if not url.startswith("data:")} == addresses
