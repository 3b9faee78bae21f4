"""Evidence of the Services that kube-proxy has to bring to their endpoints."""

from doctor.model.evidence import Backend, Evidence

__all__ = ["ProxiedServices"]


class ProxiedServices(Evidence, frozen=True, kw_only=True):
    """The Services with an IPv4 address of their own that targets, pods or the API server need.

    Args:
        items: One for each of their ports, with all endpoints that are listed, ready or not.
        dns: ``namespace/name`` of the cluster's DNS Service; empty where there is none.
        webhooks: ``namespace/name`` of the Services that the API server calls.
        ranges: The networks that Services' addresses are taken from, as the API server is told;
            empty where its arguments were not read.
        taken: The IPv4 addresses of all Services.
    """

    items: tuple[Backend, ...] = ()
    dns: str = ""
    webhooks: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
