"""The API server: raw LISTs, and exec. How it is found is ``kubeconfig``'s."""

import contextlib
import json
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from doctor.collect.deadline import Deadline
from doctor.collect.exec_channel import ExecAnswer, drain
from doctor.collect.kubeconfig import client_of, one_line
from doctor.errors import ClusterError

__all__ = ["Api", "ApiAnswer", "ExecAnswer", "connect"]

_PAGE = 500
_SILENT = logging.NullHandler()
_MOST_AT_ONCE = 12
"""Requests and open exec channels: more would be a load on the API server, not speed."""


class ApiAnswer(msgspec.Struct, frozen=True):
    """An answer of the API server: a body, or why there is none."""

    status: int
    body: bytes = b""
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class _ListMeta(msgspec.Struct, rename="camel"):
    """What a LIST says of itself."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    """One page of a LIST, its items undecoded."""

    items: list[msgspec.Raw] | None = None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Version(msgspec.Struct, rename="camel"):
    """What /version says."""

    git_version: str = ""


class _Status(msgspec.Struct):
    """What the API server says of a refusal."""

    message: str = ""


class Api:
    """A connection to one API server; its methods may be called from several threads."""

    def __init__(self, client: Any, seconds: float, deadline: Deadline) -> None:
        """Wrap a configured client.

        Args:
            client: A ``kubernetes.client.ApiClient``.
            seconds: How long a request may take.
            deadline: When the run has to be over; only what is said to be late is sent after it.
        """
        self._client = client
        self._seconds = seconds
        self.deadline = deadline
        self._lock = threading.Lock()
        self._gate = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self.requests = 0

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._client.configuration.host)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        late: bool = False,
        seconds: float = math.inf,
    ) -> ApiAnswer:
        """Send one request; a refusal is an answer, not an exception.

        Args:
            method: GET, POST or DELETE.
            path: Path with query.
            body: What is sent as JSON.
            late: Whether it is sent after the run's deadline, too: clean-up is.
            seconds: How long it may take, if that is less than what holds for all.
        """
        with self._gate:
            if self.deadline.passed and not late:
                return ApiAnswer(status=0, reason=self.deadline.reason)
            return self._send(method, path, body, min(seconds, self._bound(late=late)))

    def _send(self, method: str, path: str, body: object, seconds: float) -> ApiAnswer:
        """Send one request and read its answer."""
        import urllib3

        with self._lock:
            self.requests += 1
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers |= self._authorization()
        try:
            answer = self._client.rest_client.pool_manager.request(
                method,
                self.server + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                preload_content=True,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return ApiAnswer(status=0, reason=_plain(error))
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return ApiAnswer(status=answer.status, body=answer.data)
        return ApiAnswer(status=answer.status, reason=_message(answer.status, answer.data))

    def _authorization(self) -> dict[str, str]:
        """Return the headers that say who asks; a token may be renewed meanwhile."""
        return {
            setting["key"]: setting["value"]
            for setting in self._client.configuration.auth_settings().values()
            if setting["in"] == "header" and setting["value"]
        }

    def pages(self, path: str) -> tuple[ApiAnswer, list[msgspec.Raw]]:
        """LIST a kind, page by page; the items are left undecoded.

        Args:
            path: The resource's path, with any selector as query.
        """
        items: list[msgspec.Raw] = []
        joint = "&" if "?" in path else "?"
        following = ""
        while True:
            answer = self.call("GET", f"{path}{joint}limit={_PAGE}{following}")
            if not answer.ok:
                return answer, items
            try:
                page = msgspec.json.decode(answer.body, type=_Page)
            except msgspec.DecodeError as error:
                return ApiAnswer(status=0, reason=f"not a list: {error}"), items
            items.extend(page.items or [])
            if not page.metadata.continue_:
                return answer, items
            following = f"&continue={page.metadata.continue_}"

    def exec(
        self, namespace: str, pod: str, container: str, command: list[str], seconds: float
    ) -> ExecAnswer:
        """Run a program in a container and return what it printed.

        Args:
            namespace: The pod's namespace.
            pod: The pod's name.
            container: The container's name.
            command: The program and its arguments.
            seconds: How long it may take.
        """
        with self._gate:
            if self.deadline.passed:
                return ExecAnswer(reason=self.deadline.reason)
            return self._enter(namespace, pod, container, command, seconds)

    def _enter(
        self, namespace: str, pod: str, container: str, command: list[str], seconds: float
    ) -> ExecAnswer:
        """Open an exec channel and read it to its end."""
        # not by way of its API classes: to import those takes longer than all that is run here
        from kubernetes.stream.ws_client import WSClient, get_websocket_url
        from websocket import WebSocketException, setdefaulttimeout

        with self._lock:
            self.requests += 1
        # Without it, a handshake waits for as long as the API server waits for the kubelet.
        setdefaulttimeout(self._bound())
        query = [
            *(("command", word) for word in command),
            *(("container", container), ("stdout", "true"), ("stderr", "true")),
        ]
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/exec"
        url = get_websocket_url(self.server + path, query)  # type: ignore[no-untyped-call]
        try:
            channel = WSClient(  # type: ignore[no-untyped-call]
                self._client.configuration, url, self._authorization(), capture_all=False
            )
        except (WebSocketException, OSError, ValueError) as error:
            return ExecAnswer(reason=_exec_reason(error))
        try:
            return drain(channel, self.deadline, seconds)
        except (WebSocketException, OSError, ValueError) as error:
            return ExecAnswer(reason=_plain(error))

    def _bound(self, *, late: bool = False) -> float:
        """Return how long one request may take by now."""
        return self._seconds if late else self.deadline.bound(self._seconds)


def _exec_reason(error: Exception) -> str:
    """Say in one line why exec was refused."""
    status = getattr(error, "status", 0)
    text = str(getattr(error, "reason", "") or error)
    if "Handshake status" in text:
        text = text.partition("-+-+-")[0].strip()
    return (
        f"exec refused ({status}): {one_line(text)}" if status else f"exec failed: {one_line(text)}"
    )


def _message(status: int, body: bytes) -> str:
    """Read the message of a Status object."""
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except msgspec.DecodeError:
        message = body[:200].decode("utf-8", "replace")
    return one_line(message) or f"HTTP {status}"


def _plain(error: BaseException) -> str:
    """Say in one line what went wrong below HTTP."""
    text = str(error)
    for mark in ("[Errno", "Caused by"):
        if mark in text:
            text = text[text.index(mark) :]
    words = (
        ("timed out", "no answer in time"),
        ("Connection refused", "connection refused"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "network is unreachable"),
        ("certificate verify failed", "its certificate is not signed by the kubeconfig's CA"),
        ("Name or service not known", "its name does not resolve"),
        ("Temporary failure in name resolution", "its name does not resolve"),
    )
    return next((plain for mark, plain in words if mark in text), one_line(text))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's warnings and logs off the user's screen, its logs for good.

    It logs later, too: when credentials run out, their plugin is run again.
    """
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(_SILENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def connect(kubeconfig: str | None, context: str | None, seconds: float, deadline: Deadline) -> Api:
    """Connect to the cluster that kubectl would talk to, and see that it answers.

    Args:
        kubeconfig: A file, or None for ``$KUBECONFIG``, ``~/.kube/config`` or the pod's own.
        context: A context's name, or None for the current one.
        seconds: How long a request may take.
        deadline: When the run has to be over.

    Raises:
        ClusterError: There is no kubeconfig, it is broken, or the API server does not answer.
    """
    with _quiet():
        client, proxy = client_of(kubeconfig, context)
        api = Api(client, seconds, deadline)
    answer = api.call("GET", "/version")
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise ClusterError(f"the API server {api.server} does not accept these credentials")
    if answer.status == 0:
        by = f"{_by(proxy)}: " if proxy else ""
        raise ClusterError(f"the API server {api.server} cannot be reached: {by}{answer.reason}")
    if answer.ok and not _is_kubernetes(answer.body):
        raise ClusterError(f"{api.server} answers, but not as a Kubernetes API server does")
    return api


def _by(proxy: str) -> str:
    """Say that it need not be the server itself that cannot be reached."""
    return f"requests go by the proxy {proxy}, and it or the server behind it cannot be reached"


def _is_kubernetes(body: bytes) -> bool:
    """Say whether an answer to /version is an API server's, and no login page's."""
    try:
        return bool(msgspec.json.decode(body, type=_Version).git_version)
    except msgspec.DecodeError:
        return False
