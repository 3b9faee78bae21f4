"""The reverse proxy in front of the cluster."""

from typing import Final

from tests.lab.faults.model import Fault, all_but
from tests.lab.faults.traffic import site_status, vip_status
from tests.lab.lab import Lab

HEADER_LOST: Final = "host-header-lost"


def _point(lab: Lab, *, keep_host: bool) -> None:
    lab.proxy_config(upstream=f"http://{lab.shape.first_vip}", keep_host=keep_host)


def _inject(lab: Lab) -> None:
    _point(lab, keep_host=False)


def _settled(lab: Lab) -> bool:
    return site_status(lab) == "404" and vip_status(lab, lab.shape.host) == "200"


def _heal(lab: Lab) -> None:
    _point(lab, keep_host=True)


FAULTS: Final = (
    Fault(
        name=HEADER_LOST,
        link="host-proxy",
        story=(
            "nginx on the proxy host asks the ingress controller for its upstream's address in"
            " place of the site's Host, and gets a 404."
        ),
        expected=frozenset({"PROXY_HOST_HEADER_LOST"}),
        names=lambda _: ("Host",),
        forbidden=all_but("PROXY_"),
        lookalikes=("ingress-host-mismatch", "ingress-class-missing", "selector-matches-nothing"),
        inject=_inject,
        settled=_settled,
        heal=_heal,
        without_url=False,
    ),
)
