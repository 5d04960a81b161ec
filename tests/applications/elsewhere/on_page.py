"""An example of docs/frameworks.md as it stands there: that with the title WHOSE."""

from __future__ import annotations

import os

os.environ["NICEGUI_STORAGE_PATH"] = f"{os.environ['FOLDER']}/nicegui-{os.getpid()}"

from tests.applications.elsewhere import shop
from tests.applications.elsewhere.page import example

if __name__ == "__main__":
    shop.serve_asgi(example(shop.WHOSE).application)
