"""The browser of the demo's tests serves here as well."""

from tests.demo.conftest import chromium, page, told_to_stop

__all__ = ["chromium", "page", "told_to_stop"]
