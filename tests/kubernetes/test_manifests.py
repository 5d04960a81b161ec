"""The manifests are those that Kubernetes takes, fit each other, and fit the application."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharedsession._core.settings import gather
from tests.kubernetes import manifests
from tests.kubernetes.manifests import Cluster, Document, cluster, problems, read, schema_problem

EACH_ENTRY = pytest.mark.parametrize("entry", manifests.ENTRIES)


def name_of(path: Path) -> str:
    return str(path.relative_to(manifests.EXAMPLE))


@pytest.mark.parametrize("version", manifests.VERSIONS)
@pytest.mark.parametrize("path", manifests.files(), ids=name_of)
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    """Every document has the fields that this version of Kubernetes knows, and no others."""
    assert read(path)
    assert {
        document["kind"]: schema_problem(document, version) for document in read(path)
    } == dict.fromkeys(document["kind"] for document in read(path))


@EACH_ENTRY
def test_manifests_fit_each_other(entry: str) -> None:
    """Selectors, ports, references, settings, probes and times agree, whichever way in is taken."""
    assert problems(cluster(entry)) == []


def test_every_manifest_is_looked_at() -> None:
    """No file is left out of what is checked together."""
    seen = {
        *manifests.BASE,
        manifests.EXAMPLE / "secret.yaml",
        manifests.EXAMPLE / "autoscaler.yaml",
    }
    for names in manifests.ENTRIES.values():
        seen |= {manifests.EXAMPLE / "entry" / f"{name}.yaml" for name in names}

    assert seen == set(manifests.files())


def test_the_other_readiness_is_valid_and_changes_nothing_else() -> None:
    """With the patch, readiness asks the store; all else in the Deployment is as before."""
    before = cluster()
    deployment = before["Deployment", "notepad"]
    (patch,) = read(manifests.PATCH)
    patched = manifests.merged(deployment, patch)

    (container,) = patched["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz/store"
    assert problems(Cluster(*before.all(), patched)) == []
    assert not any(schema_problem(patched, version) for version in manifests.VERSIONS)
    (old,) = deployment["spec"]["template"]["spec"]["containers"]
    container["readinessProbe"] = old["readinessProbe"]
    assert patched == deployment


# --- broken ones are noticed ----------------------------------------------------------------------

Break = Callable[[Document], Any]


def first_container(document: Document) -> Document:
    container: Document = document["spec"]["template"]["spec"]["containers"][0]
    return container


def pod_of(document: Document) -> Document:
    pod: Document = document["spec"]["template"]["spec"]
    return pod


def variable(document: Document, name: str) -> Document:
    (found,) = (each for each in first_container(document)["env"] if each["name"] == name)
    return found


def argument(document: Document, old: str, new: str) -> None:
    arguments = first_container(document)["args"]
    arguments[arguments.index(old)] = new


BY_THE_SCHEMA: dict[str, tuple[str, Break]] = {
    "an unknown field": ("Deployment", lambda it: it["spec"].update(replica=3)),
    "a field of the wrong type": ("Deployment", lambda it: it["spec"].update(replicas="three")),
    "a missing field": ("Deployment", lambda it: it["spec"].pop("selector")),
    "a number as a value": (
        "Deployment",
        lambda it: variable(it, "SHAREDSESSION_MAX_AGE").update(value=28800),
    ),
    "an unknown kind of probe": (
        "StatefulSet",
        lambda it: first_container(it)["livenessProbe"].update(httpPost={}),
    ),
    "an unknown direction": (
        "NetworkPolicy",
        lambda it: it["spec"].update(policyType=["Ingress"]),
    ),
    "an unknown path type": (
        "Ingress",
        lambda it: it["spec"]["rules"][0]["http"]["paths"][0].pop("pathType"),
    ),
}


@pytest.mark.parametrize("version", [manifests.VERSIONS[0], manifests.VERSIONS[-1]])
@pytest.mark.parametrize("what", BY_THE_SCHEMA)
def test_a_schema_notices(what: str, version: str) -> None:
    """A manifest that the cluster would refuse is found out."""
    kind, spoil = BY_THE_SCHEMA[what]
    document = deepcopy(cluster().all(kind)[0])
    assert schema_problem(document, version) is None

    spoil(document)

    assert schema_problem(document, version)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "Cookies"},
        {"sessionName": "notepad", "type": "Cookie"},
        {"cookie": {"name": "notepad"}, "type": "Cookie"},
    ],
)
def test_a_route_with_names_of_one_version_only_is_noticed(wrong: dict[str, Any]) -> None:
    """Fields of session persistence that were renamed are not used."""
    route = deepcopy(cluster("gateway-sticky")["HTTPRoute", "notepad"])
    assert schema_problem(route, "1.34") is None

    route["spec"]["rules"][0]["sessionPersistence"] = wrong

    assert schema_problem(route, "1.34")


BROKEN: dict[str, tuple[str, tuple[str, str], Break, str]] = {
    "labels of pods that the selector does not choose": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: it["spec"]["template"]["metadata"].update(labels={"app": "notepad"}),
        "does not choose its own pods",
    ),
    "a spread over other pods": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: pod_of(it)["topologySpreadConstraints"][1]["labelSelector"].update(
            matchLabels={"app": "other"}
        ),
        "does not choose its own pods",
    ),
    "a Service for other pods": (
        "ingress",
        ("Service", "notepad"),
        lambda it: it["spec"].update(selector={"app.kubernetes.io/name": "notes"}),
        "no pod is chosen by",
    ),
    "a budget for other pods": (
        "ingress",
        ("PodDisruptionBudget", "notepad"),
        lambda it: it["spec"]["selector"].update(matchLabels={"app": "notes"}),
        "no pod is chosen by",
    ),
    "a policy that lets somebody else in": (
        "ingress",
        ("NetworkPolicy", "notepad-redis"),
        lambda it: it["spec"]["ingress"][0]["from"][0]["podSelector"].update(
            matchLabels={"app.kubernetes.io/name": "notepads"}
        ),
        "no pod is chosen by",
    ),
    "a Service that leads to another port": (
        "ingress",
        ("Service", "notepad"),
        lambda it: it["spec"]["ports"][0].update(targetPort=8080),
        "leads to no port",
    ),
    "a policy for another port": (
        "ingress",
        ("NetworkPolicy", "notepad-redis"),
        lambda it: it["spec"]["ingress"][0]["ports"][0].update(port=6380),
        "a port that is none",
    ),
    "a probe at another port": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["livenessProbe"]["httpGet"].update(port="web"),
        "asks a port that is none",
    ),
    "an Ingress to another Service": (
        "ingress",
        ("Ingress", "notepad"),
        lambda it: it["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(
            name="notes"
        ),
        "there is no Service notes",
    ),
    "a route to another port": (
        "gateway-sticky",
        ("HTTPRoute", "notepad"),
        lambda it: it["spec"]["rules"][0]["backendRefs"][0].update(port=8000),
        "has no port 8000",
    ),
    "a route of another Gateway": (
        "gateway",
        ("HTTPRoute", "notepad"),
        lambda it: it["spec"]["parentRefs"][0].update(name="notes"),
        "there is no Gateway notes",
    ),
    "another certificate": (
        "ingress",
        ("Ingress", "notepad"),
        lambda it: it["spec"]["tls"][0].update(secretName="tls"),
        "there are no certificates",
    ),
    "a key that the secret does not have": (
        "ingress",
        ("Secret", "notepad"),
        lambda it: it["stringData"].pop("redis-password"),
        "a secret that is not there",
    ),
    "a variable that is not set": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: first_container(it).update(env=first_container(it)["env"][1:]),
        "variables that are not there",
    ),
    "another volume": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: first_container(it)["volumeMounts"][0].update(name="disk"),
        "there is no volume",
    ),
    "a scaler of something else": (
        "ingress",
        ("HorizontalPodAutoscaler", "notepad"),
        lambda it: it["spec"]["scaleTargetRef"].update(name="notes"),
        "nothing to scale",
    ),
    "a setting with a typing error": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: variable(it, "SHAREDSESSION_MAX_AGE").update(name="SHAREDSESSION_MAXAGE"),
        "nobody reads SHAREDSESSION_MAXAGE",
    ),
    "a setting that is not understood": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: variable(it, "SHAREDSESSION_NEAR_CACHE").update(value="yes please"),
        "the settings are refused",
    ),
    "a network that is none": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: variable(it, "FORWARDED_ALLOW_IPS").update(value="10.0.0.1/8"),
        "nobody's headers are believed",
    ),
    "one key, to which no second can be added": (
        "ingress",
        ("Secret", "notepad"),
        lambda it: it["stringData"].update({"secret-key": "NEW-KEY"}),
        "one text, no list",
    ),
    "copies that the pod has no room for": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: variable(it, "SHAREDSESSION_NEAR_CACHE").update(
            value='{"max_bytes": 200000000}'
        ),
        "more than half",
    ),
    "a probe of a path that is not there": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["readinessProbe"]["httpGet"].update(path="/ready"),
        "which the application has not",
    ),
    "liveness tied to the store": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["livenessProbe"]["httpGet"].update(path="/readyz/store"),
        "livenessProbe is tied to the store",
    ),
    "a grace period that is too short": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: pod_of(it).update(terminationGracePeriodSeconds=30),
        "the grace period is shorter",
    ),
    "a pod that goes at once": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["lifecycle"]["preStop"]["sleep"].update(seconds=1),
        "before those who ask",
    ),
    "an update that takes pods away first": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: it["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "before new ones are ready",
    ),
    "a budget that lets everything go": (
        "ingress",
        ("PodDisruptionBudget", "notepad"),
        lambda it: it["spec"].update(maxUnavailable=3),
        "lets nothing or everything go",
    ),
    "another port than the image's": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["ports"][0].update(containerPort=8080),
        "does not listen at 8080",
    ),
    "another user than the image's": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: pod_of(it)["securityContext"].update(runAsUser=1000),
        "the image's user is another one",
    ),
    "a container that may be root": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: pod_of(it)["securityContext"].pop("runAsNonRoot"),
        "may be root",
    ),
    "an image that can be written": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["securityContext"].pop("readOnlyRootFilesystem"),
        "may write into its image",
    ),
    "no requests": (
        "ingress",
        ("Deployment", "notepad"),
        lambda it: first_container(it)["resources"].pop("requests"),
        "requests no resources",
    ),
    "another store": (
        "ingress",
        ("Secret", "notepad"),
        lambda it: it["stringData"].update(store="redis://:NEW-PASSWORD@redis:6379/0"),
        "there is no store at redis:6379",
    ),
    "another password": (
        "ingress",
        ("Secret", "notepad"),
        lambda it: it["stringData"].update({"redis-password": "other"}),
        "password is another one",
    ),
    "a Redis that forgets": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: argument(it, "yes", "no"),
        "forgets at a restart",
    ),
    "a Redis that evicts": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: argument(it, "noeviction", "allkeys-lru"),
        "signs people out",
    ),
    "a Redis that is larger than its pod": (
        "ingress",
        ("StatefulSet", "notepad-redis"),
        lambda it: argument(it, "400mb", "900mb"),
        "killed for its memory",
    ),
    "an annotation with a typing error": (
        "ingress-sticky",
        ("Ingress", "notepad"),
        lambda it: it["metadata"]["annotations"].update(
            {"nginx.ingress.kubernetes.io/session-cookie": "x"}
        ),
        "does not understand",
    ),
    "the session's own cookie taken by the balancer": (
        "ingress-sticky",
        ("Ingress", "notepad"),
        lambda it: it["metadata"]["annotations"].update(
            {"nginx.ingress.kubernetes.io/session-cookie-name": "session"}
        ),
        "would replace the session's",
    ),
    "an expression where variables are allowed": (
        "ingress-hashed",
        ("Ingress", "notepad"),
        lambda it: it["metadata"]["annotations"].update(
            {"nginx.ingress.kubernetes.io/upstream-hash-by": "$cookie_session[0:43]"}
        ),
        "does not understand",
    ),
    "a variable that no map makes": (
        "ingress-hashed",
        ("Ingress", "notepad"),
        lambda it: it["metadata"]["annotations"].update(
            {"nginx.ingress.kubernetes.io/upstream-hash-by": "$session_id"}
        ),
        "no map makes $session_id",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_noticed(what: str) -> None:
    """A manifest that is valid, and wrong, is found out by the check that is made for it."""
    entry, place, spoil, complaint = BROKEN[what]
    documents = deepcopy(cluster(entry).all())

    spoil(Cluster(*documents)[place])

    assert [each for each in problems(Cluster(*documents)) if complaint in each]


def test_every_check_has_been_seen_to_fail() -> None:
    """Each check complains about at least one of the broken clusters."""
    silent = set(manifests.CHECKS)
    for entry, place, spoil, _ in BROKEN.values():
        documents = deepcopy(cluster(entry).all())
        spoil(Cluster(*documents)[place])
        silent -= {check for check in silent if list(check(Cluster(*documents)))}

    assert silent == set()


# --- the image and the secret ---------------------------------------------------------------------


def test_what_the_image_installs_can_be_had() -> None:
    """The requirements of the image are met by what these tests run with, extras included."""
    line = manifests.instruction("RUN")
    pip, *words = line.split()
    assert (pip, words[0]) == ("pip", "install")

    done = subprocess.run(
        [sys.executable, "-m", pip, *words, "--dry-run", "--no-index"],
        cwd=manifests.EXAMPLE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout


def test_the_secret_is_made_by_its_command() -> None:
    """The command in secret.yaml replaces every placeholder by random values that fit together."""
    assert shutil.which("openssl"), "The command in secret.yaml needs openssl: please install it."
    source = manifests.EXAMPLE / "secret.yaml"
    (line,) = manifests.shell_lines(source.read_text(), "sed ")
    made, apply = line.split(" | ")
    assert apply == "kubectl apply -f -"

    secrets = [
        yaml.safe_load(
            subprocess.run(
                ["bash", "-ec", made],
                cwd=source.parent,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
        )
        for _ in range(2)
    ]

    for secret in secrets:
        assert "NEW" not in json.dumps(secret)
        assert len(json.loads(secret["stringData"]["secret-key"])[0]) == 64
        assert problems(Cluster(*cluster().all(), secret)) == []
    assert secrets[0]["stringData"].keys() == secrets[1]["stringData"].keys()
    assert not set(secrets[0]["stringData"].values()) & set(secrets[1]["stringData"].values())


def test_the_settings_of_a_pod() -> None:
    """What the application reads in a pod is what the page promises."""
    settings = gather({}, environ=manifests.environment(cluster()))

    assert settings.https_only is True
    assert settings.near_cache is not None
    assert settings.max_age == 8 * 60 * 60
