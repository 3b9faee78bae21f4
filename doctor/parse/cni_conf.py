"""CNI's configuration files, reduced: some plugins keep credentials in theirs."""

import msgspec

from doctor.model.node_state import CniConf

__all__ = ["parse_cni_conf"]

_LONGEST = 100
_MOST = 16


class _Delegate(msgspec.Struct, rename="camel"):
    """What a bridge plugin is told, by itself or as flannel's delegate."""

    mtu: int = 0
    ip_masq: bool | None = None
    hairpin_mode: bool | None = None
    is_default_gateway: bool | None = None


class _Plugin(_Delegate):
    """One plugin."""

    type: str = ""
    delegate: _Delegate | None = None


class _Conf(_Plugin):
    """A file: a list of plugins, or a plugin by itself."""

    name: str = ""
    cni_version: str = ""
    plugins: tuple[_Plugin, ...] = ()


def parse_cni_conf(file: str, text: str) -> CniConf:
    """Reduce a ``.conflist`` or ``.conf``; a malformed one gives nothing but its file's name.

    Args:
        file: Its name.
        text: Its content.
    """
    try:
        conf = msgspec.json.decode(text, type=_Conf)
    except (msgspec.DecodeError, RecursionError):
        return CniConf(file=file[:_LONGEST])
    plugins = conf.plugins[:_MOST] or ((conf,) if conf.type else ())
    told = next((p.delegate or p for p in plugins if p.delegate or p.type == "bridge"), _Delegate())
    return CniConf(
        file=file[:_LONGEST],
        name=conf.name[:_LONGEST],
        version=conf.cni_version[:_LONGEST],
        plugins=tuple(p.type[:_LONGEST] for p in plugins),
        mtu=told.mtu,
        masquerade=told.ip_masq,
        hairpin=told.hairpin_mode,
        default_gateway=told.is_default_gateway,
    )
