"""An API server on loopback that authorizes each request by RBAC, and remembers what it was asked."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec

from doctor.collect.deadline import Deadline
from doctor.collect.kube import Api, connect
from doctor.collect.resources import RESOURCES
from doctor.model.rights import Rule
from tests.unit.loopback import http_server, kubeconfig
from tests.unit.rbac import allowed

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_VERBS = {"POST": "create", "DELETE": "delete"}

Answer = tuple[int, object]


class Guarded:
    """What the server holds and grants.

    Args:
        rules: Rules by namespace; those of the empty one hold everywhere.
        objects: Items by the path of their LIST; other paths are not served.
        reviews: What reviews are answered with instead of the rules.
        incomplete: Whether reviews say that they are.
        forbids: Whether all else is forbidden, in spite of the rules.
    """

    def __init__(
        self,
        rules: Mapping[str, tuple[Rule, ...]],
        objects: Mapping[str, list[object]] | None = None,
        *,
        reviews: Answer | None = None,
        incomplete: bool = False,
        forbids: bool = False,
    ) -> None:
        """Keep them."""
        self.rules = dict(rules)
        self.objects = dict(objects or {})
        self.reviews = reviews
        self.incomplete = incomplete
        self.forbids = forbids
        self.asked: list[tuple[str, str]] = []
        self.reviewed: list[str] = []

    def respond(self, method: str, target: str, body: bytes) -> Answer:
        """Answer one request."""
        path = target.partition("?")[0]
        if path == "/version":
            return 200, {"gitVersion": "v1.34.0"}
        if path == REVIEWS:
            return self._review(json.loads(body)["spec"]["namespace"])
        self.asked.append((method, path))
        if self.forbids or not self._may(method, path):
            return 403, {"message": f'User "u" cannot {method} {path}'}
        if path not in self.objects:
            return 404, {"message": "the server could not find the requested resource"}
        found = self.objects[path]
        return 200, found[0] if "/configmaps/" in path else {"items": found}

    def _review(self, namespace: str) -> Answer:
        self.reviewed.append(namespace)
        if self.reviews is not None:
            return self.reviews
        rules = [*self.rules.get("", ()), *self.rules.get(namespace, ())]
        listed = [
            {
                "verbs": r.verbs,
                "apiGroups": r.groups,
                "resources": r.resources,
                **({"resourceNames": r.names} if r.names else {}),
            }
            for r in rules
        ]
        status = {"resourceRules": listed, "nonResourceRules": [{"verbs": ["*"]}]}
        return 201, {"status": {**status, "incomplete": self.incomplete}}

    def _may(self, method: str, path: str) -> bool:
        parts = path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
        namespace = rest.pop(1) if rest[0] == "namespaces" and len(rest) > 2 else ""
        rest = rest[1:] if namespace else rest
        name = rest[1] if len(rest) > 1 else ""
        verb = _VERBS.get(method, "get" if name else "list")
        rules = [*self.rules.get("", ()), *(self.rules.get(namespace, ()) if namespace else ())]
        resource = "/".join((rest[0], *rest[2:]))
        universe = ((verb,), (group,), (resource,), (name,))
        return (verb, group, resource, name) in allowed(rules, universe)


class _Handler(BaseHTTPRequestHandler):
    guarded: Guarded

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, document = self.guarded.respond(self.command, self.path, body)
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def connection(guarded: Guarded, folder: Path) -> Iterator[Api]:
    """Serve, and connect."""
    with http_server(_Handler, guarded=guarded) as url:
        yield connect(kubeconfig(folder, url), None, 5, Deadline(60))


def lists(**items: list[object]) -> dict[str, list[object]]:
    """Write objects by the path of their LIST; every known kind is there, most of them empty."""
    paths = {r.name: r.path.partition("?")[0] for r in RESOURCES.values()}
    return {path: msgspec.to_builtins(items.get(name, [])) for name, path in paths.items()}
