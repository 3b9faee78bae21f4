"""Plan the flows that tell apart what may explain failures. Pure."""

from collections.abc import Iterable

from doctor.evidence.tables import Tables
from doctor.model.flow import Flow, Observation, Vantage
from doctor.path.decide import deciding
from doctor.path.tomography import Evidence, explain, outcome

__all__ = ["plan_deciding"]


def plan_deciding(
    seen: Iterable[Observation], tables: Tables, vantages: Iterable[Vantage]
) -> tuple[Flow, ...]:
    """Plan further flows where those so far leave more than one explanation; none where all passed.

    Args:
        seen: What was observed last.
        tables: All evidence so far, that included.
        vantages: Those inside the cluster.
    """
    if all(outcome(o) is not False for o in seen):
        return ()
    evidence = Evidence(tuple(tables.observations()))
    return deciding(evidence, explain(evidence), tables.measured.topology, vantages)
