"""Django, set up in this process: once, for all tests that want it."""

from __future__ import annotations

import os

import django
from django.conf import settings

if not settings.configured:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.site.settings"
    django.setup()
    del os.environ["DJANGO_SETTINGS_MODULE"]  # other tests start sites of their own
