"""Which API server is meant, and with what credentials: the client, from what kubectl would read."""

import base64
import binascii
import logging
import os
import re
import ssl
from pathlib import Path
from typing import Any, Self

import urllib3

from doctor.collect.api_proxy import route, without_userinfo
from doctor.errors import ClusterError

__all__ = ["client_of", "one_line"]

_RAN = re.compile(r"exec: process returned (-?\d+)(?:\. (.*))?", re.DOTALL)
_ERRNO = re.compile(r"\[Errno \d+\] ([^:]+)")


def client_of(kubeconfig: str | None, context: str | None) -> tuple[Any, str]:
    """Build the client from a kubeconfig, or from the pod's service account.

    Args:
        kubeconfig: A file, or None for ``$KUBECONFIG``, ``~/.kube/config`` or the pod's own.
        context: A context's name, or None for the current one.

    Returns:
        A ``kubernetes.client.ApiClient``, and the proxy that its requests go by: its URL without
        userinfo and where that is set; empty where there is none.

    Raises:
        ClusterError: There is no kubeconfig, or something in it or in a proxy variable is broken.
    """
    from kubernetes import client

    configuration = client.Configuration()
    files = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    # as for kubectl, only the variable is a list
    named = [kubeconfig] if kubeconfig else files.split(os.pathsep)
    present = [f for f in named if f and Path(f).is_file()]
    if present:
        source = _load(configuration, present, files, context)
    elif "KUBERNETES_SERVICE_HOST" in os.environ and not kubeconfig:
        source = _load_in_cluster(configuration)
    else:
        what = "is a directory" if Path(files).is_dir() else "does not exist"
        raise ClusterError(f"no kubeconfig: {files} {what}; give --kubeconfig FILE")
    proxy = route(configuration, source)
    configuration.retries = False
    return client.ApiClient(configuration), proxy


def one_line(text: str) -> str:
    """Fold text to one line of bounded length."""
    return " ".join(text.split())[:300]


def _load_in_cluster(configuration: Any) -> str:
    """Fill a configuration from the pod's service account; no field of that sets a proxy."""
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    except ConfigException as error:
        raise ClusterError(f"the pod's service account: {one_line(str(error))}") from error
    _see_server(str(configuration.host), "the pod's environment is broken:")
    if not _holds_certificates(configuration.ssl_ca_cert):
        what = f"{configuration.ssl_ca_cert} holds no certificate"
        raise ClusterError(f"the pod's service account is broken: {what}")
    return ""


def _load(configuration: Any, present: list[str], files: str, context: str | None) -> str:
    """Fill a configuration from kubeconfigs; return which field sets its proxy, if one does."""
    from kubernetes.config.config_exception import ConfigException

    for file in present:
        _see_text(file)
    broken = f"the kubeconfig {files} is broken:"
    try:
        cluster, user = _fill(configuration, present, context, files)
    except ClusterError:
        raise
    except ConfigException as error:
        if context and context in str(error):
            raise ClusterError(f"the kubeconfig {files} has no context {context!r}") from error
        raise ClusterError(f"{broken} {one_line(str(error))}") from error
    except TypeError as error:
        raise ClusterError(f"{broken} it is no YAML mapping") from error
    except Exception as error:  # the loader raises YAML, type and key errors as they come
        raise ClusterError(f"{broken} {one_line(str(error))}") from error
    _see_server(str(configuration.host), broken)
    _see_certificates(configuration, cluster, user, broken)
    return f"the kubeconfig {files}, proxy-url" if "proxy-url" in cluster else ""


def _see_text(file: str) -> None:
    """See that a file can be read, and is text.

    Raises:
        ClusterError: It cannot, or it is not.
    """
    try:
        text = Path(file).read_bytes().decode()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ClusterError(f"the kubeconfig {file} cannot be read: {why}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ClusterError(f"the kubeconfig {file} is broken: it is no text in UTF-8")


def _fill(
    configuration: Any, present: list[str], context: str | None, files: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let the client's loader fill a configuration; return the cluster's and the user's fields."""
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    merged = KubeConfigMerger(os.pathsep.join(present))  # type: ignore[no-untyped-call]
    loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
        config_dict=merged.config,
        active_context=context,
        config_base_path=None,
        config_persister=merged.save_changes,
    )
    chosen = loader.current_context["context"]
    cluster = _fields(merged.config, "cluster", chosen["cluster"])
    user = _fields(merged.config, "user", chosen.get("user"))
    for field in ("certificate-authority-data", "client-certificate-data", "client-key-data"):
        _see_base64(field, (cluster | user).get(field), files)
    with _RootLog() as log:
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    if log.said:
        raise ClusterError(f"the kubeconfig {files}: {_plugin(user['exec'], log.said[0])}")
    return cluster, user


def _fields(merged: Any, kind: str, name: str | None) -> dict[str, Any]:
    """Return the fields of a cluster or a user; none where it is not there."""
    found = merged[f"{kind}s"].get_with_name(name, safe=True) if name else None
    fields = found.value.get(kind) if found else None
    return fields if isinstance(fields, dict) else {}


def _see_base64(field: str, value: object, files: str) -> None:
    """See that a field, if there is one, is base64.

    Raises:
        ClusterError: It is not.
    """
    try:
        if value is not None:
            base64.standard_b64decode(value if isinstance(value, str) else "a")
    except (binascii.Error, ValueError) as error:
        raise ClusterError(f"the kubeconfig {files} is broken: its {field} is no base64") from error


class _RootLog(logging.Handler):
    """What the client logs instead of raising it, heard as long as it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the loader says; it has no logger of its own."""
        if record.name == "root":
            self.said.append(record.getMessage())

    def __enter__(self) -> Self:
        """Listen."""
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        logging.getLogger().removeHandler(self)


def _plugin(entry: object, said: str) -> str:
    """Say in one line why an exec plugin gave no credentials."""
    command = entry.get("command") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not command or not isinstance(command, str):
        return "its user's exec names no command"
    if "apiVersion" not in entry:
        return f"its exec plugin {command!r} has no apiVersion"
    return f"its exec plugin {command!r} gives no credentials: {_plugin_reason(said)}"


def _plugin_reason(said: str) -> str:
    """Put into plain words what the client logs of an exec plugin."""
    if ran := _RAN.match(said):
        complaint = one_line(ran[2] or "")
        return f"it ended with exit code {ran[1]}" + (f": {complaint}" if complaint else "")
    if failed := _ERRNO.match(said):
        return failed[1].lower()
    if "plugin api version" in said:
        return f"it printed no ExecCredential of the version asked for: {one_line(said)}"
    return "it printed no ExecCredential with a token or a certificate and its key"


def _see_server(server: str, broken: str) -> None:
    """See that requests can be sent to a server.

    Raises:
        ClusterError: It is no URL, or one without a valid host and port.
    """
    try:
        found = urllib3.util.parse_url(server + "/version")
        valid = found.scheme in ("http", "https") and bool(found.host) and found.port != 0
    except urllib3.exceptions.LocationParseError:
        valid = False
    if not valid:
        shown = without_userinfo(server)
        what = "is no http:// or https:// URL with a valid host and port"
        raise ClusterError(f"{broken} its server {shown!r} {what}")


def _see_certificates(
    configuration: Any, cluster: dict[str, Any], user: dict[str, Any], broken: str
) -> None:
    """See that certificates and keys are some: later, it would be the request that fails.

    Raises:
        ClusterError: One is none.
    """
    authority, pair = configuration.ssl_ca_cert, (configuration.cert_file, configuration.key_file)
    if authority and not _holds_certificates(authority):
        field = _given(cluster, "certificate-authority")
        raise ClusterError(f"{broken} its {field} holds no certificate")
    if all(pair) and not _is_pair(*pair):
        fields = "exec plugin's clientCertificateData and clientKeyData"
        if _given(user, "client-certificate") in user:
            fields = f"{_given(user, 'client-certificate')} and {_given(user, 'client-key')}"
        raise ClusterError(f"{broken} its {fields} are no certificate with its unencrypted key")


def _given(fields: dict[str, Any], name: str) -> str:
    """Return which of two fields is the one used: the one with data, or with a file's name."""
    return f"{name}-data" if f"{name}-data" in fields else name


def _holds_certificates(file: str) -> bool:
    """Say whether a file holds certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ValueError):
        return False
    return True


def _is_pair(certificate: str, key: str) -> bool:
    """Say whether two files hold a certificate and its key; a password is never asked for."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return False
    return True
