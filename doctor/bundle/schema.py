"""What a bundle holds: records, as they were gathered, with nothing judged."""

import msgspec

from doctor.model.flow import Observation
from doctor.model.logs import ContainerLog
from doctor.model.proxy import HostProxy
from doctor.model.rights import Review
from doctor.model.target import Target, parse_target
from doctor.model.verdict import Gap

__all__ = [
    "SCHEMA",
    "ApiRecord",
    "Bundle",
    "CommandOutput",
    "FlowRecord",
    "GapRecord",
    "LogRecord",
    "NodeRecord",
    "ProbePodRecord",
    "ProxyRecord",
    "Question",
    "Record",
    "ResolverRecord",
    "RightsRecord",
]

SCHEMA = 1


class ApiRecord(msgspec.Struct, frozen=True, tag="api"):
    """One LIST or GET of the API server.

    Args:
        resource: ``pods``, or ``configmaps/namespace/name`` for a single object.
        items: A JSON array of the objects, reduced to the fields that are declared in the model.
        status: The HTTP status; 0 where no answer came.
        reason: Why there is nothing, in one line; empty on success.
    """

    resource: str
    items: msgspec.Raw
    status: int = 200
    reason: str = ""


class CommandOutput(msgspec.Struct, frozen=True):
    """What one command printed inside a node.

    Args:
        name: What was read.
        status: How the command ended; -1 where that is not known.
        stdout: What it printed.
        stderr: The first line of its complaints.
        truncated: Whether more was printed than is kept.
    """

    name: str
    status: int
    stdout: str
    stderr: str = ""
    truncated: bool = False


class NodeRecord(msgspec.Struct, frozen=True, tag="node"):
    """What was read inside a node, through a resident pod on the host's network."""

    node: str
    via: str
    outputs: tuple[CommandOutput, ...] = ()
    reason: str = ""


class ProbePodRecord(msgspec.Struct, frozen=True, tag="probe-pod"):
    """What became of one probe pod; its namespace is empty where none was asked for."""

    node: str
    address: str = ""
    port: int = 0
    image: str = ""
    reason: str = ""
    namespace: str = ""


class FlowRecord(msgspec.Struct, frozen=True, tag="flow"):
    """One probe and its outcome."""

    observation: Observation


class LogRecord(msgspec.Struct, frozen=True, tag="log"):
    """The last words of a container of a system pod, as far as they may be kept; or why there are none."""

    log: ContainerLog
    status: int = 200
    reason: str = ""


class ProxyRecord(msgspec.Struct, frozen=True, tag="proxy"):
    """The reverse proxy found, reduced to what it forwards where.

    Args:
        proxy: None where nothing listens, or nothing could be seen.
        reason: What is not known of it, and why.
        place: The host that it stands on.
        ssh: What reached that host by ssh; empty for this machine.
        reached: Whether that host could be looked at.
    """

    proxy: HostProxy | None
    reason: str = ""
    place: str = "this machine"
    ssh: str = ""
    reached: bool = True


class ResolverRecord(msgspec.Struct, frozen=True, tag="resolver"):
    """The resolv.conf of a probe pod, as the kubelet of its node wrote it."""

    node: str
    text: str


class RightsRecord(msgspec.Struct, frozen=True, tag="rights"):
    """What the API server said of the rights of whoever asked."""

    review: Review


class GapRecord(msgspec.Struct, frozen=True, tag="gap"):
    """Something that could not be looked at, and the evidence tables that miss it."""

    gap: Gap
    tables: tuple[str, ...]


Record = (
    ApiRecord
    | NodeRecord
    | ProbePodRecord
    | FlowRecord
    | LogRecord
    | ProxyRecord
    | ResolverRecord
    | RightsRecord
    | GapRecord
)


class Question(msgspec.Struct, frozen=True):
    """What the run was asked.

    Args:
        urls: The URLs given with ``--url``.
        checks: Ids of the checks chosen.
        probing: Whether probes were allowed.
    """

    urls: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    probing: bool = True

    @property
    def targets(self) -> tuple[Target, ...]:
        """The URLs, taken apart; they were seen to be valid before they were asked."""
        return tuple(parse_target(u) for u in self.urls)


class Bundle(msgspec.Struct, frozen=True):
    """A run, before anything is judged.

    Args:
        schema: Version of this layout.
        tool: Version of the doctor that wrote it.
        created: ISO 8601 time in UTC.
        question: What was asked.
        records: What was gathered.
        seconds: How long gathering took.
        api_requests: How many requests the API server was sent.
    """

    schema: int
    tool: str
    created: str
    question: Question
    records: tuple[Record, ...]
    seconds: float = 0.0
    api_requests: int = 0
