"""A project as ``django-admin startproject`` makes it, with admin, messages, Channels and Ninja.

WHOSE is "ours" or "theirs"; STORE is our store; FOLDER has the database.
"""

from __future__ import annotations

import json
import os

WHOSE = os.environ.get("WHOSE", "ours")
SECRET_KEY = os.environ.get("SECRET_KEY", "a secret key that all servers of the site know")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.django.site.urls"
USE_TZ = True
LOGGING_CONFIG = None

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "sharedsession.django",
    "tests.django.site.notes",
]
if WHOSE == "theirs":
    INSTALLED_APPS.remove("sharedsession.django")
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "sharedsession.django.SessionMiddleware"
    if WHOSE == "ours"
    else "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ["FOLDER"], "site.db")  # noqa: PTH118 - as projects have it
        if "FOLDER" in os.environ
        else ":memory:",
        "OPTIONS": {"timeout": 20},
    }
}
if "DATABASE" in os.environ:  # a server's
    DATABASES = {"default": json.loads(os.environ["DATABASE"])}
    if DATABASES["default"]["ENGINE"].endswith("mysql"):
        import pymysql

        pymysql.install_as_MySQLdb()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick, for tests
STATIC_URL = "static/"
CHANNEL_LAYERS: dict[str, object] = {}

SESSION_COOKIE_NAME = os.environ.get("COOKIE", "sessionid")
if WHOSE == "ours":
    SESSION_ENGINE = "sharedsession.django"
    SHAREDSESSION = {"STORE": os.environ.get("STORE", "memory://")}
else:
    SESSION_ENGINE = "django.contrib.sessions.backends.db"
