"""Plan the flows of a run: which questions are asked, from where. Pure."""

from doctor.collect import flows_cluster, flows_egress, flows_resolving, flows_site
from doctor.collect.flow import Stage
from doctor.evidence.tables import Wave
from doctor.model.flow import Flow

__all__ = ["plan"]


def plan(stage: Stage) -> tuple[Flow, ...]:
    """Plan all flows that need nothing but states and node facts, each id once."""
    planners = (
        (Wave.MESH, flows_cluster.mesh),
        (Wave.MESH, flows_cluster.sizes),
        (Wave.DNS, flows_cluster.dns),
        (Wave.DNS, flows_resolving.upstreams),
        (Wave.DNS, flows_resolving.searched),
        (Wave.SERVICE_IP, flows_cluster.service_ip),
        (Wave.SERVICE_IP, flows_cluster.proxy_api),
        (Wave.WEBHOOK, flows_cluster.webhook),
        (Wave.BACKEND, flows_cluster.backend),
        (Wave.VIP, flows_site.vip),
        (Wave.INGRESS, flows_site.ingress),
        (Wave.EGRESS, flows_egress.egress_names),
    )
    flows = (f for wave, make in planners if wave in stage.waves for f in make(stage))
    return tuple({f.id: f for f in flows}.values())
