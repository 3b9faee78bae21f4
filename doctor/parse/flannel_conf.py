"""flannel's net-conf.json."""

import msgspec

__all__ = ["NetConf", "net_conf_problem", "parse_net_conf"]

_LINUX_PORT = 8472


class _Backend(msgspec.Struct, rename="pascal"):
    """The backend, as it is written."""

    type: str = "vxlan"
    port: int = 0


class _Conf(msgspec.Struct, rename="pascal"):
    """The file, as it is written."""

    network: str = ""
    backend: _Backend = msgspec.field(default_factory=_Backend)


class NetConf(msgspec.Struct, frozen=True):
    """The pod network and its backend; ``port`` is 0 where the backend is not VXLAN."""

    network: str
    backend: str
    port: int


def parse_net_conf(text: str) -> NetConf | None:
    """Read net-conf.json; None where it is malformed."""
    return _read(text)[0]


def net_conf_problem(text: str) -> str:
    """Say why flannel cannot use a net-conf.json; empty where it can."""
    conf, problem = _read(text)
    if problem:
        return problem
    return "" if conf and (conf.network or _ipv6(text)) else "it names no Network"


def _ipv6(text: str) -> bool:
    """Say whether the file is about IPv6 alone."""
    return '"IPv6Network"' in text


def _read(text: str) -> tuple[NetConf | None, str]:
    """Read the file, or say why it is malformed."""
    try:
        conf = msgspec.json.decode(text, type=_Conf)
    except (msgspec.DecodeError, RecursionError) as error:
        return None, " ".join(str(error).split())[:200] or "it is malformed"
    kind = conf.backend.type.lower()
    port = (conf.backend.port or _LINUX_PORT) if kind == "vxlan" else 0
    return NetConf(network=conf.network, backend=kind, port=port), ""
