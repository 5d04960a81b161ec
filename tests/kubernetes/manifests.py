"""The manifests of the Kubernetes example, and what has to be true of them beyond the schemas.

A `Cluster` is what stands in a cluster after a person has applied the files. Each check looks at
one and yields a sentence for each thing that is wrong.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import yaml

from sharedsession._core.settings import NearCache, Settings, gather
from sharedsession.exceptions import ConfigurationError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kubernetes"
BASE = sorted((EXAMPLE / "base").glob("*.yaml"))
PATCH = EXAMPLE / "readiness-with-store.yaml"
ENTRIES = {  # ways into the cluster, of which a person applies one
    "ingress": ["ingress"],
    "ingress-sticky": ["ingress-sticky"],
    "ingress-hashed": ["ingress-hashed", "ingress-nginx-map"],
    "gateway": ["gateway"],
    "gateway-sticky": ["gateway", "gateway-sticky"],
}
VERSIONS = ("1.30", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
MADE_BY_HAND = {"notepad-tls"}  # a certificate is no part of an example

Document = dict[str, Any]


class Cluster:
    """Documents by kind and name; a later one replaces an earlier one, as it does by `apply`."""

    def __init__(self, *documents: Document) -> None:
        self._documents = {(each["kind"], each["metadata"]["name"]): each for each in documents}

    def all(self, *kinds: str) -> list[Document]:
        return [each for (kind, _), each in self._documents.items() if kind in kinds or not kinds]

    def get(self, kind: str, name: str) -> Document | None:
        return self._documents.get((kind, name))

    def __getitem__(self, name: tuple[str, str]) -> Document:
        return self._documents[name]

    def pods(self) -> list[tuple[str, Document]]:
        """Return the templates of pods, each with the name of what makes them."""
        makers = self.all("Deployment", "StatefulSet")
        return [(each["metadata"]["name"], each["spec"]["template"]) for each in makers]

    def chosen(self, labels: Mapping[str, str]) -> list[Document]:
        """Return the templates whose pods carry all of these labels."""
        return [
            pod for _, pod in self.pods() if labels.items() <= pod["metadata"]["labels"].items()
        ]


def read(path: Path) -> list[Document]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def files() -> list[Path]:
    """Return all manifests; a patch is none."""
    return [path for path in sorted(EXAMPLE.rglob("*.yaml")) if path != PATCH]


def cluster(entry: str = "ingress") -> Cluster:
    paths = [*BASE, EXAMPLE / "secret.yaml", EXAMPLE / "autoscaler.yaml"]
    paths += [EXAMPLE / "entry" / f"{name}.yaml" for name in ENTRIES[entry]]
    return Cluster(*(document for path in paths for document in read(path)))


def merged(document: Any, patch: Any) -> Any:
    """Return a document with a patch laid over it; what is in lists is known by its name."""
    if isinstance(document, dict) and isinstance(patch, dict):
        return {**document, **{name: merged(document.get(name), patch[name]) for name in patch}}
    if isinstance(patch, list) and all(isinstance(each, dict) and "name" in each for each in patch):
        new = {each["name"]: each for each in patch}
        return [merged(each, new.get(each["name"], {})) for each in document]
    return patch


# --- the image ------------------------------------------------------------------------------------


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with what follows it."""
    text = (EXAMPLE / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def instruction(name: str) -> str:
    """Return what the last instruction of that name says."""
    return [rest for each, rest in dockerfile() if each == name][-1]


def command() -> list[str]:
    words: list[str] = json.loads(instruction("CMD"))
    return words


def option(name: str) -> str:
    """Return the value of an option of the image's command."""
    return command()[command().index(name) + 1]


def paths_of_the_application() -> set[str]:
    """Return the paths that the application answers to a GET, as its source says."""
    tree = ast.parse((EXAMPLE / "app.py").read_text())
    return {
        decorator.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Attribute)
        and decorator.func.attr == "get"
        and isinstance(decorator.args[0], ast.Constant)
    }


def environment(of: Cluster, name: str = "notepad") -> dict[str, str]:
    """Return the environment of the only container of that name's pods, secrets filled in.

    What comes from a secret that is not there is left out: `references` complains about it.
    """
    (container,) = dict(of.pods())[name]["spec"]["containers"]
    values = {}
    for variable in container["env"]:
        if "value" in variable:
            values[variable["name"]] = variable["value"]
        else:
            place = variable["valueFrom"]["secretKeyRef"]
            secret = (of.get("Secret", place["name"]) or {}).get("stringData", {})
            if place["key"] in secret:
                values[variable["name"]] = secret[place["key"]]
    return values


# --- the schemas ----------------------------------------------------------------------------------


def strict(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


TEXT = {"type": "string"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}


def several(items: Any) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


# The fields of the Gateway API that are used here, as of its versions 1.2 to 1.6.
GATEWAY = strict(
    gatewayClassName=TEXT,
    listeners=several(
        strict(
            name=TEXT,
            protocol={"enum": ["HTTP", "HTTPS"]},
            port=PORT,
            hostname=TEXT,
            tls=strict(mode={"enum": ["Terminate"]}, certificateRefs=several(strict(name=TEXT))),
        )
    ),
)
HTTP_ROUTE = strict(
    parentRefs=several(strict(name=TEXT)),
    hostnames=several(TEXT),
    rules=several(
        strict(
            matches=several(
                strict(path=strict(type={"enum": ["Exact", "PathPrefix"]}, value=TEXT))
            ),
            sessionPersistence=strict(type={"enum": ["Cookie", "Header"]}),
            backendRefs=several(strict(name=TEXT, port=PORT)),
        )
    ),
)


def schema_problem(document: Document, version: str) -> str | None:
    """Return what the schema of that version of Kubernetes says against a document."""
    own = {"Gateway": GATEWAY, "HTTPRoute": HTTP_ROUTE}.get(document["kind"])
    try:
        if own is None:
            kubernetes_validate.validate(document, version, strict=True)
        else:
            assert document["apiVersion"] == "gateway.networking.k8s.io/v1"
            jsonschema.validate(document["spec"], own)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return None


# --- what no schema says --------------------------------------------------------------------------

Check = Callable[[Cluster], Iterator[str]]


def problems(of: Cluster) -> list[str]:
    """Return all that is wrong in a cluster, a sentence each."""
    return [sentence for check in CHECKS for sentence in check(of)]


def containers(of: Cluster) -> Iterator[tuple[str, Document]]:
    for name, pod in of.pods():
        for container in pod["spec"]["containers"]:
            yield name, container


def ports_of(pod: Document) -> set[str | int]:
    """Return the ports of a pod, by name and by number."""
    ports = [port for each in pod["spec"]["containers"] for port in each.get("ports", ())]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def selectors(of: Cluster) -> Iterator[str]:
    """Whatever chooses pods by labels chooses some, and its own where they are its own."""
    for maker in of.all("Deployment", "StatefulSet"):
        labels = maker["spec"]["template"]["metadata"]["labels"]
        own = [maker["spec"]["selector"]]
        spread = maker["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        for selector in own + [each["labelSelector"] for each in spread]:
            if not selector["matchLabels"].items() <= labels.items():
                yield f"{maker['metadata']['name']} does not choose its own pods: {selector}"
    chosen = [each["spec"]["selector"] for each in of.all("Service")]
    chosen += [each["spec"]["selector"]["matchLabels"] for each in of.all("PodDisruptionBudget")]
    for policy in of.all("NetworkPolicy"):
        chosen.append(policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"]["ingress"]:
            chosen += [each["podSelector"]["matchLabels"] for each in rule["from"]]
    for labels in chosen:
        if not of.chosen(labels):
            yield f"no pod is chosen by {labels}"


def ports(of: Cluster) -> Iterator[str]:
    """Every port that is named anywhere leads to a port of a container."""
    for service in of.all("Service"):
        for pod in of.chosen(service["spec"]["selector"]):
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports_of(pod):
                    yield f"Service {service['metadata']['name']} leads to no port: {port}"
    for policy in of.all("NetworkPolicy"):
        for pod in of.chosen(policy["spec"]["podSelector"]["matchLabels"]):
            for rule in policy["spec"]["ingress"]:
                for port in rule["ports"]:
                    if port["port"] not in ports_of(pod):
                        yield f"NetworkPolicy opens a port that is none: {port}"
    for name, container in containers(of):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            place = probe.get("httpGet") or probe.get("tcpSocket")
            if place and place["port"] not in {port["name"] for port in container["ports"]}:
                yield f"{kind} of {name} asks a port that is none: {place['port']}"


def ways_in(of: Cluster) -> Iterator[tuple[str, str | int]]:
    """Yield the Services that requests from outside are sent to, each with its port."""
    for ingress in of.all("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                yield service["name"], next(iter(service["port"].values()))
    for route in of.all("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield backend["name"], backend["port"]


def entries(of: Cluster) -> Iterator[str]:
    """Requests from outside are sent to a Service, at a port that it has."""
    for name, port in ways_in(of):
        service = of.get("Service", name)
        if service is None:
            yield f"there is no Service {name}"
        elif port not in {
            value for each in service["spec"]["ports"] for value in (each["name"], each["port"])
        }:
            yield f"Service {name} has no port {port}"
    for route in of.all("HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            if of.get("Gateway", parent["name"]) is None:
                yield f"there is no Gateway {parent['name']}"


def references(of: Cluster) -> Iterator[str]:
    """What is referred to by its name is there."""
    for _, container in containers(of):
        for variable in container["env"]:
            if place := variable.get("valueFrom", {}).get("secretKeyRef"):
                secret = of.get("Secret", place["name"])
                if secret is None or place["key"] not in secret["stringData"]:
                    yield f"{variable['name']} comes from a secret that is not there: {place}"
        names = {variable["name"] for variable in container["env"]}
        for word in container.get("args", []):
            if missing := set(re.findall(r"\$\((\w+)\)", word)) - names:
                yield f"an argument uses variables that are not there: {missing}"
        claims = {
            claim["metadata"]["name"]
            for each in of.all("StatefulSet")
            for claim in each["spec"]["volumeClaimTemplates"]
        }
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in claims:
                yield f"there is no volume {mount['name']}"
    for each in of.all("StatefulSet"):
        if of.get("Service", each["spec"]["serviceName"]) is None:
            yield f"there is no Service {each['spec']['serviceName']}"
    for scaler in of.all("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if of.get(target["kind"], target["name"]) is None:
            yield f"there is nothing to scale: {target}"
    certificates = {tls["secretName"] for each in of.all("Ingress") for tls in each["spec"]["tls"]}
    certificates |= {
        each["name"]
        for gateway in of.all("Gateway")
        for listener in gateway["spec"]["listeners"]
        for each in listener["tls"]["certificateRefs"]
    }
    if unknown := certificates - MADE_BY_HAND:
        yield f"there are no certificates {unknown}"


def settings(of: Cluster) -> Iterator[str]:
    """Every SHAREDSESSION_… variable is one that is read, with a value that is understood."""
    known = {"SHAREDSESSION_SECRET_KEY"}
    known |= {f"SHAREDSESSION_{each.name.upper()}" for each in fields(Settings)}
    values = environment(of)
    for name in values:
        if name.startswith("SHAREDSESSION_") and name not in known:
            yield f"nobody reads {name}"
    try:
        found = gather({}, environ=values)
    except ConfigurationError as error:
        yield f"the settings are refused: {error}"
        return
    for network in values["FORWARDED_ALLOW_IPS"].split(","):
        try:
            ip_network(network.strip())
        except ValueError:  # uvicorn would take it for the name of something, without a word
            yield f"nobody's headers are believed: {network} is no network"
    if values["SHAREDSESSION_SECRET_KEY"].encode() in found.secret_keys:
        yield "the secret keys are one text, no list: a second key could not be added"
    (container,) = of["Deployment", "notepad"]["spec"]["template"]["spec"]["containers"]
    memory = megabytes(container["resources"]["limits"]["memory"])
    if (found.near_cache or NearCache()).max_bytes * 2 > memory * 2**20:
        yield f"the near copies may take more than half of the pod's {memory} MiB"


def megabytes(amount: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi|mb)", amount).groups()  # type: ignore[union-attr]
    return float(number) * {"mb": 1, "Mi": 1, "Gi": 1024}[unit]


def probes(of: Cluster) -> Iterator[str]:
    """Probes ask paths that the application has, and no restart hangs on the store."""
    (container,) = of["Deployment", "notepad"]["spec"]["template"]["spec"]["containers"]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container[kind]["httpGet"]["path"]
        if path not in paths_of_the_application():
            yield f"{kind} asks for {path}, which the application has not"
        if kind != "readinessProbe" and "store" in path:
            yield f"{kind} is tied to the store"


def draining(of: Cluster) -> Iterator[str]:
    """A pod that goes has the time to end its requests, and others serve meanwhile."""
    deployment = of["Deployment", "notepad"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends = int(option("--timeout-graceful-shutdown"))
    if pod["terminationGracePeriodSeconds"] < waits + ends + 5:
        yield f"the grace period is shorter than {waits} + {ends} seconds, and 5 for the rest"
    if waits < container["readinessProbe"]["periodSeconds"]:
        yield "a pod goes before those who ask about it may have noticed"
    if deployment["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "a rolling update takes pods away before new ones are ready"
    if deployment["replicas"] < 3:
        yield "there are fewer than three replicas"
    budget = of["PodDisruptionBudget", "notepad"]["spec"]["maxUnavailable"]
    if not 0 < budget < deployment["replicas"]:
        yield f"the disruption budget lets nothing or everything go: {budget}"


def image(of: Cluster) -> Iterator[str]:
    """The image's command and its user are those that the manifests count on."""
    pod = of["Deployment", "notepad"]["spec"]["template"]["spec"]
    (port,) = pod["containers"][0]["ports"]
    if not str(port["containerPort"]) == option("--port") == instruction("EXPOSE"):
        yield f"the application does not listen at {port['containerPort']}"
    if str(pod["securityContext"]["runAsUser"]) != instruction("USER"):
        yield "the image's user is another one"


def rights(of: Cluster) -> Iterator[str]:
    """No container is root, writes where it need not, or takes what was not asked for."""
    for name, pod in of.pods():
        if not pod["spec"].get("securityContext", {}).get("runAsNonRoot"):
            yield f"{name} may be root"
        if pod["spec"].get("automountServiceAccountToken", True):
            yield f"{name} holds a token of the cluster"
    for name, container in containers(of):
        context = container.get("securityContext", {})
        if not context.get("readOnlyRootFilesystem"):
            yield f"{name} may write into its image"
        if context.get("allowPrivilegeEscalation", True) or "ALL" not in context.get(
            "capabilities", {}
        ).get("drop", []):
            yield f"{name} keeps rights that it does not need"
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
            yield f"{name} requests no resources"
        if "memory" not in resources.get("limits", {}):
            yield f"{name} has no limit of memory"


def store(of: Cluster) -> Iterator[str]:
    """The store's URL leads to the Redis of the cluster, which forgets nothing."""
    url = urlsplit(environment(of)["SHAREDSESSION_STORE"])
    service = of.get("Service", url.hostname or "")
    if service is None or url.port not in {port["port"] for port in service["spec"]["ports"]}:
        yield f"there is no store at {url.hostname}:{url.port}"
    if url.password != environment(of, "notepad-redis").get("REDIS_PASSWORD"):
        yield "the store's password is another one"
    options = redis_options(of)
    if options["appendonly"] != "yes":
        yield "Redis forgets at a restart"
    if options["maxmemory-policy"] != "noeviction":
        yield "Redis signs people out when it is full"
    (container,) = dict(of.pods())["notepad-redis"]["spec"]["containers"]
    limit = megabytes(container["resources"]["limits"]["memory"])
    if megabytes(options["maxmemory"]) * 2 > limit:
        yield "Redis is killed for its memory before it is full"
    if options["dir"] not in {mount["mountPath"] for mount in container["volumeMounts"]}:
        yield "Redis writes beside its volume"


def redis_options(of: Cluster) -> dict[str, str]:
    """Return what Redis is started with, variables filled in."""
    (container,) = dict(of.pods())["notepad-redis"]["spec"]["containers"]
    values = environment(of, "notepad-redis")
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), word)
        for word in container["args"][1:]
    ]
    return {
        name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }


# What ingress-nginx 1.15 reads, as far as affinity goes, and how it checks a variable to hash by.
ANNOTATIONS = {
    "affinity": "cookie",
    "affinity-mode": "balanced|persistent",
    "session-cookie-change-on-failure": "true|false",
    "session-cookie-name": r"[\w-]+",
    "session-cookie-path": r"/\S*",
    "session-cookie-samesite": "None|Lax|Strict",
    "session-cookie-secure": "true|false",
    "upstream-hash-by": r"[A-Za-z0-9\-_${}]+",
}


def annotations(of: Cluster) -> Iterator[str]:
    """Annotations of ingress-nginx are known to it, and do not touch the session's own cookie."""
    cookie = environment(of).get("SHAREDSESSION_SESSION_COOKIE", "session")
    for ingress in of.all("Ingress"):
        for full, value in ingress["metadata"].get("annotations", {}).items():
            name = full.removeprefix("nginx.ingress.kubernetes.io/")
            if name not in ANNOTATIONS or not re.fullmatch(ANNOTATIONS[name], value):
                yield f"ingress-nginx does not understand {full}: {value}"
            if name == "session-cookie-name" and value == cookie:
                yield "the balancer's cookie would replace the session's"
            if name == "upstream-hash-by":
                maps = [each["data"]["http-snippet"] for each in of.all("ConfigMap")]
                if not any(f"map $cookie_{cookie} {value} {{" in each for each in maps):
                    yield f"no map makes {value} from the cookie"


CHECKS: tuple[Check, ...] = (
    selectors,
    ports,
    entries,
    references,
    settings,
    probes,
    draining,
    image,
    rights,
    store,
    annotations,
)


def shell_lines(text: str, starting: str) -> list[str]:
    """Return the commands of a text that begin so, comment signs and prompts taken away."""
    lines = [re.sub(r"^(#\s+|\$ )", "", line.strip()) for line in text.splitlines()]
    return [line for line in lines if line.startswith(starting) and shlex.split(line)]
