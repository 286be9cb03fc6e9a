"""Chromium, for tests that look at pages."""

import os
import shutil

import pytest

# Nothing of its own is loaded or asked for, so that what is logged is the page's.
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-quic",
]  # fmt: skip


def program(*names):
    """Return the path of Chromium, or of the first program of these names, or skip the test."""
    names = names or (os.environ.get("FASTATTN_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((found for name in names if name and (found := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(filter(None, names))}: install one, or set FASTATTN_CHROMIUM to Chromium")
    return found
