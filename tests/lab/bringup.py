"""Bringing a lab up, and taking it down."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.lab import build, cgroups, health, images, packages, workload
from tests.lab.cluster import Cluster, flannel
from tests.lab.images import Archive
from tests.lab.lab import Lab
from tests.lab.node import link_tools
from tests.lab.places import NETNS, NETNS_FILES, Places
from tests.lab.shape import Shape
from tests.lab.shell import LabError, poll, run

Tell = Callable[[str], None]
TOOLS: Final = ("kubeadm", "kubectl", "kubelet", "coredns")
SETTLE_SECONDS: Final = 120
_EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"


@contextlib.contextmanager
def _alone(where: Places) -> Iterator[None]:
    """Keep others from bringing the same lab up or down meanwhile."""
    where.lock.parent.mkdir(parents=True, exist_ok=True)
    with where.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Bringup:
    """The steps from nothing to a healthy lab, each told with its seconds."""

    def __init__(self, lab: Lab, tell: Tell) -> None:
        """Remember the lab, and whom to tell."""
        self._lab = lab
        self._tell = tell
        self._built: build.Built
        self._archives: tuple[Archive, ...] = ()

    def up(self) -> None:
        """Take every step."""
        began = time.monotonic()
        with self._step("packages"):
            packages.ensure()
        with self._step("programs"):
            self._built = build.ensure(self._lab.places.cache, self._tell)
        with self._step("images"):
            self._archives = images.ensure(self._lab.places.cache, self._built, self._tell)
        self._write_state(complete=False)
        with self._step("network"):
            self._network()
        cluster = Cluster(self._lab.shape, self._lab.nodes.values())
        with self._step("control plane"):
            ca_hash = self._control_plane(cluster)
        with self._step("nodes"):
            self._nodes(cluster, ca_hash)
        with self._step("workload"):
            self._workload(cluster)
        with self._step("site"):
            self._site()
        self._lab.take_baseline()
        self._write_state(complete=True)
        self._tell(f"{self._lab.shape.name} is up after {time.monotonic() - began:.0f} s")

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._tell(f"{name:<16}{time.monotonic() - began:6.1f} s")

    def _write_state(self, *, complete: bool) -> None:
        where = self._lab.places
        where.run.mkdir(parents=True, exist_ok=True)
        state = {"shape": self._lab.shape.name, "prefix": where.prefix, "complete": complete}
        part = where.state.with_suffix(".part")
        part.write_text(json.dumps(state) + "\n")
        part.rename(where.state)

    def _network(self) -> None:
        link_tools(self._lab.places.run / "bin", {name: self._built[name] for name in TOOLS})
        self._lab.topology.make()
        for node in self._lab.nodes.values():
            node.boot(self._archives)
        self._lab.world.start()

    def _control_plane(self, cluster: Cluster) -> str:
        self._lab.control_plane.await_ready()
        ca_hash = cluster.init()
        self._lab.kubeconfig.write_text(cluster.admin_config())
        self._lab.kubeconfig.chmod(0o600)
        return ca_hash

    def _nodes(self, cluster: Cluster, ca_hash: str) -> None:
        lab = self._lab
        with ThreadPoolExecutor(2) as pool:
            joined = pool.submit(cluster.join, ca_hash)
            lab.apply(flannel(lab.shape, self._built["kube-flannel.yml"]))
            lab.apply(workload.metallb(lab.shape, self._built["metallb-native.yaml"]))
            joined.result()
        self._settled(lambda: health.nodes_trouble(lab))

    def _workload(self, cluster: Cluster) -> None:
        lab, shape = self._lab, self._lab.shape
        if len(shape.nodes) == 1:
            # without it nobody would announce the site
            lab.kubectl("label", "node", lab.control_plane.fqdn, f"{_EXCLUDED}-")
        cluster.add_coredns()
        parts = (workload.namespaces(shape), workload.traefik(shape), workload.policy(shape))
        lab.apply("---\n".join(part for part in parts if part))
        # the site gives up at its start when it cannot resolve its databases
        coredns = ("deployment", "coredns", "-n", "kube-system")
        self._settled(lambda: self._unavailable(*coredns))
        lab.apply(workload.site(shape))
        self._settled(lambda: health.pods_trouble(lab))

    def _site(self) -> None:
        lab, shape = self._lab, self._lab.shape
        # webhooks answer a little after their pods are ready: kube-proxy has to hear of it
        for part in (workload.ingress(shape), workload.pool(shape)):
            self._settled(partial(self._refused, part))
        self._settled(lambda: None if lab.vip() else "the service has no address")
        self._settled(lambda: health.site_trouble(lab))

    def _refused(self, manifest: str) -> str | None:
        try:
            self._lab.apply(manifest)
        except LabError as error:
            return str(error)
        return None

    def _unavailable(self, *deployment: str) -> str | None:
        path = "jsonpath={.status.availableReplicas}/{.spec.replicas}"
        said = self._lab.kubectl("get", *deployment, "-o", path, check=False)
        available, _, wanted = said.partition("/")
        return None if wanted and available == wanted else f"{deployment[1]} is at {said}"

    def _settled(self, trouble: Callable[[], str | None]) -> None:
        last = ""

        def over() -> bool:
            nonlocal last
            last = trouble() or ""
            return not last

        try:
            poll(over, seconds=SETTLE_SECONDS, what="the lab to settle", every=0.3)
        except LabError as error:
            msg = f"{error}: {last}"
            raise LabError(msg) from error


def up(shape: Shape, where: Places, tell: Tell) -> Lab:
    """Bring a lab up, if it is not yet.

    Args:
        shape: What it is to look like.
        where: Its places.
        tell: Told of each step.

    Returns:
        The lab.

    Raises:
        LabError: Another one is up in its place, or a step failed.
    """
    lab = Lab(shape, where)
    with _alone(where):
        if where.state.exists():
            there = Lab.attach(where.prefix)
            if there.complete and there.shape == shape:
                tell(f"{shape.name} is up already")
                return there
            if there.complete:
                msg = f"the lab {there.shape.name} is up: take it down first"
                raise LabError(msg)
            tell("what an interrupted bring-up left is taken down")
            _take_down(where)
        Bringup(lab, tell).up()
    return lab


def down(where: Places, tell: Tell) -> None:
    """Take down whatever there is of a lab."""
    began = time.monotonic()
    with _alone(where):
        _take_down(where)
    tell(f"down after {time.monotonic() - began:.0f} s")


def _take_down(where: Places) -> None:
    cgroups.kill(where.cgroup)
    spaces = [path.name for path in NETNS.glob(f"{where.prefix}-*")]
    for name in spaces:
        _end_all_in(name)
        run("ip", "netns", "del", name, check=False)
    if (cgroups.COUNTED / where.cgroup).exists():
        cgroups.remove(where.cgroup)
    for path in NETNS_FILES.glob(f"{where.prefix}-*"):
        shutil.rmtree(path)
    _remove_tree(where.run)


def _end_all_in(netns: str) -> None:
    """End what somebody runs in a namespace by hand, such as a shell."""

    def empty() -> bool:
        pids = run("ip", "netns", "pids", netns, check=False).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return not pids

    poll(empty, seconds=10, what=f"the end of the processes in {netns}")


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
