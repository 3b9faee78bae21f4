"""What a run of the doctor's leaves: in the audit log, in the cluster, on the nodes."""

from dataclasses import dataclass
from typing import Any, Final

from tests.lab.lab import Lab
from tests.lab.shell import poll

LABEL: Final = "app.kubernetes.io/managed-by=wwwm-doctor"
PREFIX: Final = "wwwm-doctor-"
BASE_REQUESTS: Final = 60
REQUESTS_PER_NODE: Final = 4
# the namespace controller lets five seconds pass before it looks at a deleted namespace
_NAMESPACE_SECONDS: Final = 60
READS_LOGS: Final = ("get", "pods", "log")
REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews"})
"""What anybody may ask of his own rights: a creation that changes nothing."""

Entry = dict[str, Any]


def requests(lab: Lab, since: int, vantage: str = "proxy") -> list[Entry]:
    """The API server's own record of what was asked from a vantage.

    Args:
        lab: The lab.
        since: A mark of the audit log's.
        vantage: Where the doctor ran.
    """
    address = lab.address_of(vantage)
    # an exec is logged twice, when it begins and when it ends
    return [
        entry
        for entry in lab.audit(since=since)
        if address in entry.get("sourceIPs", []) and entry["stage"] == "ResponseComplete"
    ]


def budget(lab: Lab) -> int:
    """How many requests a full run may send."""
    return BASE_REQUESTS + REQUESTS_PER_NODE * len(lab.nodes)


def forbidden(entries: list[Entry]) -> list[str]:
    """What a run must not have asked, one line each."""
    return [_line(entry) for entry in entries if not _allowed(entry)]


def _line(entry: Entry) -> str:
    return f"{entry['verb']} {entry['requestURI']}"


def _allowed(entry: Entry) -> bool:
    verb, what = entry["verb"], entry.get("objectRef", {})
    resource, below = what.get("resource", ""), what.get("subresource", "")
    if below:
        # of exec whatever the verb, which depends on the protocol
        ends = (verb, resource, below) == READS_LOGS and "limitBytes=" in entry["requestURI"]
        return ends or (resource, below) == ("pods", "exec")
    if verb in ("get", "list"):
        return True
    if verb == "create" and resource in REVIEWS:
        return True
    if verb not in ("create", "delete", "deletecollection"):
        return False
    if resource == "namespaces":
        # the name of what is created is not in the log: it shows in what follows
        return not what.get("name") or str(what["name"]).startswith(PREFIX)
    return resource == "pods" and str(what.get("namespace", "")).startswith(PREFIX)


def changing(entries: list[Entry]) -> list[str]:
    """What was asked that changes something, exec aside, one line each."""
    return [
        _line(entry)
        for entry in entries
        if entry["verb"] not in ("get", "list")
        and entry["objectRef"]["resource"] not in REVIEWS
        and entry["objectRef"].get("subresource") != "exec"
    ]


def own_namespaces(entries: list[Entry]) -> set[str]:
    """The namespaces of their own that runs started pods in."""
    used = (entry.get("objectRef", {}).get("namespace", "") for entry in entries)
    return {name for name in used if name.startswith(PREFIX)}


def probe_pods(lab: Lab) -> list[str]:
    """Every pod of the doctor's that is there, as `namespace/name`."""
    columns = "custom-columns=S:.metadata.namespace,N:.metadata.name"
    listed = lab.kubectl("get", "pods", "-A", "-l", LABEL, "--no-headers", "-o", columns)
    return ["/".join(line.split()) for line in listed.splitlines()]


def namespaces(lab: Lab, *, ending: bool = True) -> list[str]:
    """Every namespace of the doctor's that is there.

    Args:
        lab: The lab.
        ending: Whether those count that are on their way out.
    """
    columns = ("--no-headers", "-o", "custom-columns=N:.metadata.name,P:.status.phase")
    rows = [line.split() for line in lab.kubectl("get", "namespaces", *columns).splitlines()]
    own = [(name, phase) for name, phase in rows if name.startswith(PREFIX)]
    return [name for name, phase in own if ending or phase != "Terminating"]


def unburied(lab: Lab) -> dict[str, int]:
    """How many zombies each pod of flannel holds: flanneld waits for no child but its own."""
    count = 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l'
    names = lab.kubectl("get", "pods", "-n", lab.shape.flannel_namespace, "-o", "name").split()
    enter = ("exec", "-n", lab.shape.flannel_namespace)
    return {
        name: int(lab.kubectl(*enter, name, "-c", "kube-flannel", "--", "sh", "-c", count))
        for name in names
    }


def left(lab: Lab) -> list[str]:
    """What a run that has ended has left: pods, and namespaces that nobody has deleted."""
    return [*probe_pods(lab), *namespaces(lab, ending=False)]


def await_nothing(lab: Lab) -> None:
    """Wait until the last namespace is gone, too, which the cluster takes its time for.

    Raises:
        LabError: One stays.
    """
    poll(
        lambda: not (probe_pods(lab) or namespaces(lab)),
        seconds=_NAMESPACE_SECONDS,
        what="the end of the doctor's namespaces",
        every=0.3,
    )


def sweep(lab: Lab) -> None:
    """Remove what is left, so that no other test pays for it."""
    for pod in probe_pods(lab):
        namespace, _, name = pod.partition("/")
        gone = ("pod", name, "-n", namespace, "--ignore-not-found")
        lab.kubectl("delete", *gone, "--force", "--grace-period=0", check=False)
    for name in namespaces(lab, ending=False):
        lab.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Where the images of all nodes stood at a moment.

    Attributes:
        held: Per node, the names of the images that it holds.
        logged: Per node, the end of its runtime's log.
    """

    held: dict[str, list[str]]
    logged: dict[str, int]

    @classmethod
    def now(cls, lab: Lab) -> "Images":
        """Look at every node."""
        listing = ("ctr", "-n", "k8s.io", "images", "ls", "-q")
        return cls(
            held={n.name: sorted(n.run(*listing).stdout.split()) for n in lab.nodes.values()},
            logged={n.name: (n.home / _LOG).stat().st_size for n in lab.nodes.values()},
        )

    def pulls(self, lab: Lab) -> list[str]:
        """What the runtimes were told to pull since, whatever came of it."""
        found = []
        for node in lab.nodes.values():
            with (node.home / _LOG).open("rb") as log:
                log.seek(self.logged[node.name])
                lines = log.read().decode("utf-8", "replace").splitlines()
            found += [f"{node.name}: {line}" for line in lines if "PullImage" in line]
        return found


_LOG: Final = "containerd.log"
