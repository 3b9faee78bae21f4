"""flannel's net-conf.json."""

import msgspec

__all__ = ["NetConf", "parse_net_conf"]

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
    try:
        conf = msgspec.json.decode(text, type=_Conf)
    except (msgspec.DecodeError, RecursionError):
        return None
    kind = conf.backend.type.lower()
    port = (conf.backend.port or _LINUX_PORT) if kind == "vxlan" else 0
    return NetConf(network=conf.network, backend=kind, port=port)
