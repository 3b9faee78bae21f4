"""The lab as others use it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.lab import health
from tests.lab.cluster import AUDIT_LOG
from tests.lab.node import Node
from tests.lab.places import PATH, PREFIX, Places, places
from tests.lab.shape import SHAPES, Shape
from tests.lab.shell import LabError, poll, run
from tests.lab.ssh import Ssh
from tests.lab.topology import DESK, FABRIC, MACHINES, PROXY, Topology
from tests.lab.world import World

HTTP_OK: Final = "200"
SITE_SECONDS: Final = 3
UNCONNECTED: Final = "Unable to connect to the server"
AGAIN: Final = 2


class Lab:
    """A cluster and the network around it; attaches to what is there and holds no state."""

    def __init__(self, shape: Shape, where: Places | None = None) -> None:
        """Describe a lab, whether it is up or not."""
        self.shape = shape
        self.places = where or places()
        self.nodes = {
            node.name: Node(shape=shape, places=self.places, index=index)
            for index, node in enumerate(shape.nodes)
        }
        self.topology = Topology(shape, self.places)
        self.world = World(shape, self.places, self.places.run / "bin" / "coredns")

    @classmethod
    def attach(cls, prefix: str = PREFIX) -> "Lab":
        """The lab that is up, or was on its way there.

        Raises:
            LabError: There is none.
        """
        where = places(prefix)
        try:
            state = json.loads(where.state.read_text())
        except FileNotFoundError as error:
            msg = "no lab is up"
            raise LabError(msg) from error
        return cls(SHAPES[state["shape"]], where)

    @property
    def control_plane(self) -> Node:
        """The node with the API server."""
        return next(iter(self.nodes.values()))

    @property
    def complete(self) -> bool:
        """Whether it came up whole, and all its nodes are on."""
        try:
            state = json.loads(self.places.state.read_text())
        except FileNotFoundError:
            return False
        return bool(state["complete"]) and all(node.pid for node in self.nodes.values())

    @property
    def site_url(self) -> str:
        """Where the site is, for those outside."""
        return f"http://{self.shape.host}:{self.shape.proxy_port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, of use from the proxy host and the desk, too."""
        return self.places.run / "admin.conf"

    @property
    def ssh(self) -> Ssh:
        """The way onto the proxy host."""
        return self.world.ssh

    @property
    def ssh_config(self) -> Path:
        """The configuration by which `ssh -F` gets onto the proxy host from the desk."""
        return self.ssh.client.config

    def address_of(self, vantage: str) -> str:
        """The address that others see when something runs on `proxy` or `desk`."""
        return {PROXY: self.shape.proxy_address, DESK: self.shape.desk_address}[vantage]

    def entering(self, vantage: str, *command: str) -> tuple[str, ...]:
        """The command that runs a command at a vantage.

        Raises:
            LabError: There is no such vantage.
        """
        if (node := self._node(vantage)) is not None:
            return node.entering(*command)
        if vantage not in MACHINES:
            msg = f"no vantage {vantage}; there are {' '.join([*self.nodes, *MACHINES])}"
            raise LabError(msg)
        path = [str(self.places.run / "bin"), PATH]
        if vantage == DESK:
            path.insert(0, str(self.ssh.client.bin))
        environment = ("env", f"PATH={':'.join(path)}")
        netns = self.places.netns(vantage)
        return ("ip", "netns", "exec", netns, *environment, *command)

    def at(
        self,
        vantage: str,
        *command: str,
        check: bool = True,
        input: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node, or on `proxy`, `desk`, `router`, `fabric`, `internet`."""
        inside = self.entering(vantage, *command)
        return run(*inside, check=check, input=input, timeout=timeout)

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """What kubectl says on the control plane node.

        A machine that stalls may let a connection time out; nothing has been done then.
        """
        command = ("kubectl", *args)
        done = self.control_plane.run(*command, input=input, check=False)
        for _ in range(AGAIN):
            if done.returncode and UNCONNECTED in done.stderr:
                done = self.control_plane.run(*command, input=input, check=False)
        if check and done.returncode:
            msg = f"exit {done.returncode} of {' '.join(command)}: {done.stderr.strip()[-600:]}"
            raise LabError(msg)
        return done.stdout

    def apply(self, manifest: str) -> None:
        """Apply a manifest."""
        self.kubectl("apply", "-f", "-", input=manifest)

    def tap(self, node: str | Node) -> str:
        """The port of a node on the tenant switch."""
        return self._named(node).tap

    def reboot(self, node: str) -> None:
        """Switch a node off and on; returns when its kubelet has been started again."""
        machine = self._named(node)
        machine.halt()
        # its images are on its disk already
        machine.boot(())
        machine.await_ready()
        poll((machine.home / "kubelet.pid").exists, seconds=10, what=f"the kubelet of {node}")

    def fabric_rules(self, name: str, rules: str | None) -> None:
        """Filter what the switches forward, as security groups and port security do.

        Args:
            name: The name of a table of its own.
            rules: Statements of nftables, one on each line; None removes the table.
        """
        clean = f"table bridge {name} {{ }}\ndelete table bridge {name}\n"
        hook = "type filter hook forward priority 0; policy accept;"
        own = f"table bridge {name} {{\nchain forward {{\n{hook}\n{rules}\n}}\n}}\n"
        self.at(FABRIC, "nft", "-f", "-", input=clean + (own if rules is not None else ""))

    def proxy_config(self, *, upstream: str, keep_host: bool = True) -> None:
        """Point the proxy host's nginx at an upstream, such as `http://192.168.100.230`."""
        self.world.configure_proxy(upstream, keep_host=keep_host)

    def site_answers(self, path: str = "/") -> bool:
        """Whether the site says 200 to a visitor."""
        port, proxy = self.shape.proxy_port, self.shape.proxy_address
        known = ("--resolve", f"{self.shape.host}:{port}:{proxy}")
        quiet = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", str(SITE_SECONDS))
        curl = ("curl", "--noproxy", "*", *quiet, *known, self.site_url + path)
        return self.at(PROXY, *curl, check=False).stdout == HTTP_OK

    def vip(self) -> str | None:
        """The address that the ingress controller's service was given."""
        service = ("service", self.shape.ingress_controller, "-n", self.shape.ingress_namespace)
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        return self.kubectl("get", *service, "-o", path, check=False) or None

    def baseline(self) -> dict[str, list[str]]:
        """The fingerprints taken when the lab came up."""
        taken: dict[str, list[str]] = json.loads(self._baseline_file.read_text())
        return taken

    def baseline_objects(self) -> list[str]:
        """The cluster's objects when the lab came up."""
        return self._objects_file.read_text().splitlines()

    def take_baseline(self) -> None:
        """Call the present state of all machines and of the cluster the healthy one."""
        self._objects_file.write_text("\n".join(health.objects(self)))
        self._baseline_file.write_text(json.dumps(health.fingerprints(self), indent=1))

    def healthy(self) -> str | None:
        """Why the lab is not as it was when it came up, in one sentence; None if it is."""
        return health.trouble(self)

    def wait_healthy(self, seconds: float = 90) -> None:
        """Wait until the lab is healthy; pods in a back-off are deleted instead of waited for.

        Raises:
            LabError: It is not, after that time; says why.
        """
        last = ""

        def mended() -> bool:
            nonlocal last
            last = self.healthy() or ""
            if last:
                health.delete_stuck_pods(self)
            return not last

        try:
            poll(mended, seconds=seconds, what="a healthy lab", every=0.5)
        except LabError as error:
            msg = f"{error}: {last}"
            raise LabError(msg) from error

    def audit_mark(self) -> int:
        """The end of the audit log as it is now, to be given to `audit`."""
        return self._audit_file.stat().st_size

    def audit(self, since: int = 0) -> list[dict[str, Any]]:
        """The entries of the API server's audit log from a mark on."""
        return list(self._audit_entries(since))

    def _audit_entries(self, since: int) -> Iterator[dict[str, Any]]:
        with self._audit_file.open("rb") as log:
            log.seek(since)
            for line in log:
                # the last line may be half written
                if line.endswith(b"\n"):
                    yield json.loads(line)

    @property
    def _audit_file(self) -> Path:
        return self.control_plane.disk / AUDIT_LOG.lstrip("/")

    @property
    def _baseline_file(self) -> Path:
        return self.places.run / "baseline.json"

    @property
    def _objects_file(self) -> Path:
        return self.places.run / "objects.txt"

    def _node(self, name: str) -> Node | None:
        own = (node for node in self.nodes.values() if name in (node.name, node.fqdn))
        return next(own, None)

    def _named(self, node: str | Node) -> Node:
        found = node if isinstance(node, Node) else self._node(node)
        if found is None:
            msg = f"no node {node}; there are {' '.join(self.nodes)}"
            raise LabError(msg)
        return found
