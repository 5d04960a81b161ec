"""The pages on Kubernetes and on the clouds say what the files say."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from sharedsession._core.settings import Settings, gather
from sharedsession.asgi import SessionMiddleware
from tests.kubernetes import manifests

DOCS = manifests.EXAMPLE.parents[1] / "docs"
GUIDE = DOCS / "kubernetes.md"
CLOUDS = DOCS / "cloud-balancers.md"
README = manifests.EXAMPLE / "README.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command that a page shows for a cluster."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line]
    return [shlex.split(part) for line in lines for part in re.split(r" (?:\||&&) ", line)]


def stripped(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def test_the_guide_shows_what_the_manifests_say() -> None:
    """Each piece of YAML on the page stands in one of the files, line by line."""
    shown = blocks(GUIDE, "yaml")
    files = [stripped(path.read_text()) for path in manifests.EXAMPLE.rglob("*.yaml")]

    assert len(shown) == 3
    assert [block for block in shown if not any(stripped(block) in each for each in files)] == []


def test_the_commands_of_the_guide_name_what_is_there() -> None:
    """Files that are applied exist, and what is patched or restarted has the manifests' names."""
    cluster = manifests.cluster()
    found = {"file": 0, "deployment": 0, "secret": 0}
    for program, *words in commands(GUIDE):
        for flag in ("-f", "--patch-file"):
            if program == "kubectl" and flag in words:
                name = words[words.index(flag) + 1]
                assert name == "-" or (manifests.EXAMPLE / name).exists(), words
                found["file"] += 1
        for kind in ("Deployment", "Secret"):
            if kind.lower() in words and "create" not in words:
                name = words[words.index(kind.lower()) + 1]
                assert cluster.get(kind, name), words
                found[kind.lower()] += 1
        if words[:3] == ["create", "secret", "tls"]:
            assert words[3] in manifests.MADE_BY_HAND

    assert found == {"file": 4, "deployment": 8, "secret": 3}


def test_the_command_that_makes_the_secret_is_the_same_everywhere() -> None:
    """The page and the file show one command, which is run by the tests of the manifests."""
    (there,) = manifests.shell_lines((manifests.EXAMPLE / "secret.yaml").read_text(), "sed ")

    assert manifests.shell_lines(GUIDE.read_text(), "sed ") == [there]


def test_the_steps_of_a_new_key_are_those_that_are_tested() -> None:
    """The three patches of the page are valid, and bring the key in as the test does it."""
    patches = [
        json.loads(words[-1]) for words in commands(GUIDE) if words[1:3] == ["patch", "secret"]
    ]
    keys = [
        gather(
            {"store": "memory://"},
            environ={"SHAREDSESSION_SECRET_KEY": each["stringData"]["secret-key"]},
        ).secret_keys
        for each in patches
    ]

    assert keys == [(b"OLD", b"NEW"), (b"NEW", b"OLD"), (b"NEW",)]


def test_the_figures_of_the_guide() -> None:
    """Versions, seconds and sizes on the page are those of the files and of the tests."""
    text = " ".join(GUIDE.read_text().split())
    deployment = manifests.cluster()["Deployment", "notepad"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends = int(manifests.option("--timeout-graceful-shutdown"))
    first, *rest = manifests.VERSIONS

    assert f"Kubernetes {first} and {rest[0]} to {rest[-1]}" in text
    assert rest == [f"1.{number}" for number in range(32, 38)]
    assert f"| {waits} | SIGTERM" in text
    assert (
        f"| up to {waits + ends} | the last of them (`--timeout-graceful-shutdown {ends}`)" in text
    )
    assert f"| {pod['terminationGracePeriodSeconds']} | what is left is killed" in text
    assert f"`--timeout-keep-alive {manifests.option('--timeout-keep-alive')}`" in text
    assert f"`replicas: {deployment['replicas']}`" in text
    settings = gather({}, environ=manifests.environment(manifests.cluster()))
    assert f"`SHAREDSESSION_MAX_AGE` is {settings.max_age} seconds" in text
    assert settings.near_cache is not None
    assert f"may take {settings.near_cache.max_bytes // 2**20} MiB" in text


def test_the_readme_lists_every_file() -> None:
    """The table of the example names each of its files."""
    files = {
        str(path.relative_to(manifests.EXAMPLE))
        for path in manifests.EXAMPLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert files - set(re.findall(r"`([\w./-]+)`", README.read_text())) == {"README.md"}


@pytest.mark.parametrize("page", [GUIDE, CLOUDS], ids=lambda page: page.stem)
def test_the_stores_that_a_page_shows_are_taken(page: Path) -> None:
    """Every URL of a store on the page is one that the middleware accepts."""
    urls = re.findall(r"`((?:redis|valkey)s?(?:\+\w+)?://[\w.]+[^`]*)`", page.read_text())

    assert urls
    for url in urls:
        SessionMiddleware(None, secret_key="a key", store=url)


@pytest.mark.parametrize("page", [GUIDE, CLOUDS], ids=lambda page: page.stem)
def test_the_variables_that_a_page_names_are_read(page: Path) -> None:
    """Every SHAREDSESSION_… variable on the page is one of the settings."""
    names = ("secret_key", *(each.name for each in fields(Settings)))
    known = {f"SHAREDSESSION_{name.upper()}" for name in names}

    assert set(re.findall(r"\bSHAREDSESSION_[A-Z_]+\b", page.read_text())) <= known
