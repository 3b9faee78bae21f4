"""A small API server on loopback: namespaces, pods and what a kubelet would make of them."""

import contextlib
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, connect
from tests.unit.loopback import http_server, kubeconfig

Object = dict[str, Any]
Answer = tuple[int, Object | str]
Status = Object | None

RUNNING: Object = {
    "phase": "Running",
    "hostIP": "192.0.2.10",
    "podIP": "10.244.0.9",
    "startTime": "2026-01-01T00:00:00Z",
    "conditions": [{"type": "Ready", "status": "True"}],
}
TAKEN_UP: Object = {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}
IGNORED: Object = {"phase": "Pending"}


def waiting(reason: str, message: str = "") -> Object:
    """Describe a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {**TAKEN_UP, "containerStatuses": [{"name": "probe", "state": state}]}


def ended(reason: str, message: str = "", code: int = 128) -> Object:
    """Describe a pod whose container ended at once."""
    state = {"terminated": {"reason": reason, "message": message, "exitCode": code}}
    return {**TAKEN_UP, "containerStatuses": [{"name": "probe", "state": state}]}


NO_SHELL = ended("StartError", 'exec: "sh": executable file not found in $PATH: unknown')


class FakeCluster:
    """What the server holds, and how it behaves.

    Attributes:
        namespaces: By name.
        pods: By namespace and name.
        events: By namespace.
        nodes: By name; what is not there is answered with 404.
        policies: NetworkPolicies by namespace.
        logs: What a container said, by namespace, pod and container, and whether it is of the run
            before the present one.
        lives: By image, the statuses that a pod shows one look after the other, the last for ever;
            None is a pod that somebody removes.
        sticky: Whether pods go only by force.
        lingering: Whether namespaces stay in Terminating.
        admit: Called with a pod that is to be created and whether it is only rehearsed; what it
            returns is the answer, None lets it be created.
        refuse: Called with each request's method and path; what it returns is the answer.
        seen: Called with the number of each request, before it is carried out.
        log: Each request's method and path.
    """

    def __init__(self, *namespaces: str) -> None:
        """Begin with some namespaces."""
        self.namespaces: dict[str, Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}
        self.events: dict[str, list[Object]] = defaultdict(list)
        self.nodes: dict[str, Object] = {}
        self.policies: dict[str, list[Object]] = {}
        self.logs: dict[tuple[str, str, str, bool], str] = {}
        self.lives: dict[str, list[Status]] = {}
        self.sticky = False
        self.lingering = True
        self.admit: Callable[[Object, bool], Answer | None] = lambda _pod, _rehearsal: None
        self.refuse: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self.seen: Callable[[int], None] = lambda _number: None
        self.log: list[tuple[str, str]] = []
        self._lock = threading.RLock()
        self._looks: dict[tuple[str, str], int] = defaultdict(int)
        for name in ("default", *namespaces):
            self.add_namespace(name)

    def add_namespace(self, name: str, **meta: object) -> Object:
        """Add a namespace."""
        found = {"metadata": {"name": name, "uid": str(uuid.uuid4()), **meta}, "status": {}}
        self.namespaces[name] = found
        return found

    def add_pod(self, namespace: str, name: str, **meta: object) -> Object:
        """Add a pod that runs."""
        own = {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()), **meta}
        found: Object = {"metadata": own, "spec": {"nodeName": "n0"}, "status": RUNNING}
        self.pods[namespace, name] = found
        return found

    @property
    def left(self) -> list[str]:
        """What there is beside the namespaces and pods of others."""
        names = [n for n, o in self.namespaces.items() if "deletionTimestamp" not in o["metadata"]]
        pods = [name for _, name in self.pods]
        return [n for n in (*names, *pods) if n.startswith("wwwm-doctor-")]

    def asked(self, method: str, part: str = "") -> list[str]:
        """Select the paths of some requests."""
        return [path for m, path in self.log if m == method and part in path]

    def answer(self, method: str, path: str, body: Object) -> Answer:
        """Carry out one request."""
        with self._lock:
            self.log.append((method, path))
            number = len(self.log)
        self.seen(number)
        refusal = self.refuse(method, path)
        if refusal:
            return refusal
        split = urlsplit(path)
        query = {k: v[0] for k, v in parse_qs(split.query, keep_blank_values=True).items()}
        with self._lock:
            return self._route(method, split.path.strip("/").split("/"), query, body)

    def _route(self, method: str, parts: list[str], query: dict[str, str], body: Object) -> Answer:
        match (method, parts):
            case (_, ["api", "v1", "namespaces", name, *rest]) if rest or method == "DELETE":
                return self._route_in(name, method, rest, query, body)
            case ("POST", ["api", "v1", "namespaces"]):
                return self._make_namespace(body)
            case ("GET", ["api", "v1", "nodes", name]) if name in self.nodes:
                return 200, self.nodes[name]
            case ("GET", ["apis", "networking.k8s.io", "v1", "namespaces", name, _]):
                return _list(self.policies.get(name, []))
            case ("GET", [*_, kind]) if kind in self._collections:
                return _list(_selected(self._collections[kind].values(), query))
            case _:
                known = parts == ["version"]
                return (200, {"gitVersion": "v1.34.0"}) if known else _absent("/".join(parts))

    @property
    def _collections(self) -> dict[str, dict[Any, Object]]:
        """What can be listed in the whole cluster, by the last part of its path."""
        return {
            "namespaces": self.namespaces,
            "pods": self.pods,
            "nodes": self.nodes,
            "daemonsets": {},
        }

    def _route_in(
        self, namespace: str, method: str, rest: list[str], query: dict[str, str], body: Object
    ) -> Answer:
        if not rest:
            return self._end_namespace(namespace, body)
        if rest == ["events"]:
            return _list(self.events[namespace])
        if rest[2:] == ["log"]:
            return self._log(namespace, rest[1], query)
        return self._on_pods(method, namespace, rest[1:], query, body)

    def _log(self, namespace: str, pod: str, query: dict[str, str]) -> Answer:
        """Answer as a kubelet does, whose words come through as they are."""
        before = query.get("previous") == "true"
        said = self.logs.get((namespace, pod, query["container"], before))
        if said is None:
            return 400, {"message": f'container "{query["container"]}" is waiting to start'}
        lines = said.splitlines(keepends=True)[-int(query["tailLines"]) :]
        return 200, "".join(lines)[: int(query["limitBytes"])]

    def _make_namespace(self, body: Object) -> Answer:
        name = body["metadata"]["name"]
        return 201, self.add_namespace(
            name, labels=body["metadata"]["labels"], annotations=body["metadata"]["annotations"]
        )

    def _end_namespace(self, name: str, body: Object) -> Answer:
        if name not in self.namespaces:
            return _absent(name)
        meta = self.namespaces[name]["metadata"]
        if body.get("preconditions", {}).get("uid") not in (None, meta["uid"]):
            return 409, {"message": "it is another one"}
        if "deletionTimestamp" in meta:
            return 409, {"message": "it is being terminated"}
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if not self.lingering:
            del self.namespaces[name]
        return 200, {"metadata": meta}

    def _on_pods(
        self, method: str, namespace: str, rest: list[str], query: dict[str, str], body: Object
    ) -> Answer:
        if namespace not in self.namespaces and not self._in(namespace):
            return 404, {"message": f'namespaces "{namespace}" not found'}
        if method == "POST":
            return self._make_pod(namespace, body, rehearsal=query.get("dryRun") == "All")
        if method == "GET":
            return _list(p for p in _selected(self._in(namespace), query) if self._look(p))
        chosen = _selected(self._in(namespace), query)
        uid = body.get("preconditions", {}).get("uid")
        chosen = [
            p
            for p in chosen
            if (not rest or p["metadata"]["name"] == rest[0])
            and uid in (None, p["metadata"]["uid"])
        ]
        if rest and not chosen:
            return _absent(rest[0])
        told: list[Object] = json.loads(json.dumps(chosen))
        for pod in chosen:
            self._end_pod(pod, by_force=body.get("gracePeriodSeconds") == 0)
        return (200, told[0]) if rest else _list(told)

    def _in(self, namespace: str) -> list[Object]:
        return [p for (n, _), p in self.pods.items() if n == namespace]

    def _make_pod(self, namespace: str, body: Object, *, rehearsal: bool) -> Answer:
        refusal = self.admit(body, rehearsal)
        if refusal:
            return refusal
        if "deletionTimestamp" in self.namespaces.get(namespace, {"metadata": {}})["metadata"]:
            return 403, {"message": f"namespace {namespace} is being terminated"}
        name = body["metadata"]["name"]
        if (namespace, name) in self.pods:
            return 409, {"message": f'pods "{name}" already exists'}
        body["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4())}
        body["status"] = dict(IGNORED)
        if not rehearsal:
            self.pods[namespace, name] = body
        return 201, body

    def _look(self, pod: Object) -> bool:
        """Let a pod's life go on by one look; say whether it is still there."""
        if "deletionTimestamp" in pod["metadata"]:
            return True
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if "containers" not in pod["spec"]:
            return True
        life = self.lives.get(pod["spec"]["containers"][0]["image"], [RUNNING])
        status = life[min(self._looks[key], len(life) - 1)]
        self._looks[key] += 1
        if status is None:
            del self.pods[key]
            return False
        pod["status"] = {k: v for k, v in status.items() if k != "deletionTimestamp"}
        return True

    def _end_pod(self, pod: Object, *, by_force: bool) -> None:
        """Delete a pod: at once if nothing holds it."""
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if by_force or not self.sticky:
            self.pods.pop(key, None)
        else:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def _absent(name: str) -> Answer:
    return 404, {"message": f"{name} not found"}


def _list(items: Any) -> Answer:
    return 200, {"items": list(items), "metadata": {}}


def _selected(items: Any, query: dict[str, str]) -> list[Object]:
    """Select by labels, and by the only field that is asked for: no address."""
    wanted = [term.partition("=") for term in query.get("labelSelector", "").split(",") if term]
    bare = query.get("fieldSelector") == "status.podIP="
    return [
        i
        for i in items
        if all(i["metadata"].get("labels", {}).get(k) == v for k, _, v in wanted)
        and not (bare and i["status"].get("podIP"))
    ]


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        status, body = self.cluster.answer(self.command, self.path, json.loads(text or b"{}"))
        said = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_DELETE = _do  # noqa: N815 - http.server calls them so

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(cluster: FakeCluster) -> contextlib.AbstractContextManager[str]:
    """Serve it on loopback; yield the URL."""
    return http_server(_Handler, cluster=cluster)


@contextlib.contextmanager
def connected(cluster: FakeCluster, folder: Path, deadline: float = 60) -> Iterator[Api]:
    """Serve a cluster and connect to it."""
    with serve(cluster) as url:
        yield connect(kubeconfig(folder, url), None, 5, Deadline(deadline))
