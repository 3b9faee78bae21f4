"""Builder of what was read inside the nodes: outputs of programs to typed facts."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from doctor.bundle.schema import CommandOutput, NodeRecord
from doctor.evidence.world import World
from doctor.model.evidence import NodeNetworks
from doctor.model.netfilter import Origin, RuleTable, ServiceEntry
from doctor.model.node import NodeNetwork, Route, SubnetEnv, Unread
from doctor.model.node_state import Cni, CniConf, Conntrack, ProxyHealth, TrackedQueries
from doctor.model.verdict import Gap
from doctor.parse.bridge_fdb import parse_fdb
from doctor.parse.conntrack_stat import parse_conntrack_proc, parse_conntrack_tool
from doctor.parse.ip_json import (
    parse_links,
    parse_neighbours,
    parse_policy_rules,
    parse_routes,
)
from doctor.parse.iptables_save import Saved, chain_names, drops, read_saved, rule_tables
from doctor.parse.kube_iptables import iptables_services
from doctor.parse.kube_nft import nft_services
from doctor.parse.nft_json import NftTable, nft_rule_tables, parse_nft
from doctor.parse.proc_sockets import parse_sockets
from doctor.parse.proxy_health import parse_proxy_health
from doctor.parse.subnet_env import parse_subnet_env
from doctor.parse.sysctl import parse_sysctls
from doctor.parse.tracked_queries import parse_tracked_queries

__all__ = ["QUERIES", "QUERIES_LATER", "node_network", "node_networks"]

QUERIES = "dns-queries"
QUERIES_LATER = f"{QUERIES} later"

T = TypeVar("T")

_NOT_ASKED = "it was not asked for"
_STOPPED = (124, 137, 143)
_NO_PROGRAM = 127
_SAVED = ("iptables-nft", "iptables-legacy", "iptables")
_COMPAT = ("filter", "nat", "mangle", "raw", "security")
_MIXED = re.compile(r"^# Table .(\w{1,16})' (?:is|contains) incompatible", re.MULTILINE)


def node_networks(world: World) -> NodeNetworks:
    """Parse what was read inside the nodes; what one record lacks, another of that node may have."""
    by_node: dict[str, list[NodeRecord]] = {}
    for record in world.of(NodeRecord):
        by_node.setdefault(record.node, []).append(record)
    items = [
        node_network(records) for records in by_node.values() if any(r.outputs for r in records)
    ]
    failed = [r for records in by_node.values() for r in records if r.reason]
    gaps = [
        Gap(needs=f"reading node {r.node}", reason=r.reason, essential=not r.outputs)
        for r in failed
    ]
    gaps += [
        Gap(needs=f"{u.what} of node {n.node}", reason=u.reason, essential=False)
        for n in items
        for u in n.unread
        if u.reason != _NOT_ASKED
    ]
    return NodeNetworks(
        items=tuple(items),
        gaps=(*world.table_gaps("NodeNetworks"), *gaps),
        absent=world.nodeless,
    )


def node_network(records: Iterable[NodeRecord]) -> NodeNetwork:
    """Parse all that was read inside one node.

    Args:
        records: At least one, all of the same node; of two outputs of one name the better counts.
    """
    return _Reader(list(records)).network()


class _Reader:
    """The outputs of one node, and what of them could not be used."""

    def __init__(self, records: list[NodeRecord]) -> None:
        """Take the records."""
        self._node = records[0].node
        self._out: dict[str, CommandOutput] = {}
        for output in (o for r in records for o in r.outputs):
            if output.name not in self._out or self._out[output.name].status != 0:
                self._out[output.name] = output
        self._unread: list[Unread] = []

    def network(self) -> NodeNetwork:
        """Parse everything."""
        routes = self._parse("routes", "route", parse_routes) or ()
        saved = self._saved()
        nft = self._nft()
        sysctls = self._parse("sysctls", "sysctl", parse_sysctls)
        forward = next((s.value for s in sysctls or () if s.name == "net.ipv4.ip_forward"), None)
        if forward is None:
            forward = {"0": 0, "1": 1}.get(self._text("ip_forward") or "")
        proxy = self._proxy()
        return NodeNetwork(
            node=self._node,
            evidence=f"node:{self._node}",
            subnet_env=self._subnet_env(),
            links=self._parse("links", "address", parse_links) or (),
            routes=tuple(r for r in routes if _leads(r)),
            drops=drops(saved),
            nat_chains=chain_names(saved, "nat"),
            ip_forward=None if forward is None else forward == 1,
            tools=self._has_iptables(saved),
            other_routes=tuple(r for r in routes if not _leads(r)),
            policy_rules=self._parse("policy rules", "rule", parse_policy_rules),
            neighbours=self._parse("neighbours", "neighbour", parse_neighbours),
            fdb=self._parse("forwarding tables", "fdb", parse_fdb),
            tables=self._tables(saved, nft),
            services=self._services(saved, nft, proxy.mode if proxy else ""),
            services_twice=_twice(saved, nft),
            sysctls=sysctls,
            conntrack=self._conntrack(),
            cni=self._cni(),
            proxy=proxy,
            sockets=self._parse("sockets", "sockets", parse_sockets),
            queries=self._queries(QUERIES),
            queries_later=self._queries(QUERIES_LATER),
            unread=tuple(dict.fromkeys(self._unread)),
        )

    def _text(self, name: str) -> str | None:
        """Return what was printed; None where it cannot be used."""
        output = self._out.get(name)
        return output.stdout.strip() if output and not _fault(output) else None

    def _miss(self, what: str, reason: str) -> None:
        """Write down what could not be read."""
        self._unread.append(Unread(what=what, reason=reason))

    def _parse(self, what: str, name: str, parser: Callable[[str], T]) -> T | None:
        """Parse one output; None where it cannot be had."""
        output = self._out.get(name)
        fault = _fault(output) if output else _NOT_ASKED
        if output is None or fault:
            self._miss(what, fault)
            return None
        try:
            return parser(output.stdout.strip())
        except msgspec.DecodeError as error:
            self._miss(what, f"the answer is not understood: {error}"[:200])
            return None

    def _subnet_env(self) -> SubnetEnv | None:
        """Parse subnet.env; None where the file is absent, with empty fields if that is not known."""
        output = self._out.get("subnet.env")
        fault = _fault(output) if output else _NOT_ASKED
        if output and not fault:
            return parse_subnet_env(output.stdout)
        # `cat` was the only one to be asked, and older records have no complaint of it
        if output and (output.status == 1 and ("No such file" in fault or not output.stderr)):
            return None
        self._miss("subnet.env", fault)
        return SubnetEnv()

    def _saved(self) -> tuple[Saved, ...]:
        """Read what the kinds of iptables printed."""
        texts = (self._text(name) for name in _SAVED)
        return tuple(s for text in texts if text for s in read_saved(text))

    def _has_iptables(self, saved: tuple[Saved, ...]) -> bool:
        """Say whether all rules of iptables are known."""
        there = [self._out[n] for n in _SAVED if n in self._out]
        used = [o for o in there if o.status != _NO_PROGRAM]
        faults = [f for o in used or there if (f := _fault(o))]
        if not all(s.whole for s in saved if s.name == "filter"):
            faults.append("the table filter has more rules than are kept")
        for fault in dict.fromkeys(faults) if there else (_NOT_ASKED,):
            self._miss("iptables", fault)
        return bool(there) and not faults

    def _nft(self) -> tuple[NftTable, ...]:
        """Read nft's tables, those aside that iptables shows or that are for IPv6 alone."""
        names = [n for n in self._out if n.startswith("nft ")]
        listed = self._out.get("nft")
        if listed and (fault := _fault(listed)):
            self._miss("nft", fault)
        elif not names and not listed:
            self._miss("nft", _NOT_ASKED)
        parsed = (self._parse("nft", name, parse_nft) for name in names)
        shown = _shown(self._text(n) or "" for n in _SAVED if n != "iptables-legacy")
        found = (t for tables in parsed for t in tables or ())
        return tuple(
            t for t in found if t.family != "ip6" and (t.family != "ip" or t.name not in shown)
        )

    def _tables(self, saved: tuple[Saved, ...], nft: tuple[NftTable, ...]) -> tuple[RuleTable, ...]:
        """Reduce all rules."""
        return (*rule_tables(saved), *nft_rule_tables(nft))

    def _services(
        self, saved: tuple[Saved, ...], nft: tuple[NftTable, ...], mode: str
    ) -> tuple[ServiceEntry, ...] | None:
        """Read kube-proxy's entries, in the mode that it says it has, or in the one that is there."""
        found = [iptables_services(saved), nft_services(nft)]
        known = [f for f in (reversed(found) if mode == "nftables" else found) if f is not None]
        if not known:
            cut = any(not s.whole for s in saved)
            missing = [u.reason for u in self._unread if u.what in ("iptables", "nft")]
            reason = "the table nat has more rules than are kept" if cut else ""
            absent = "there are no rules of kube-proxy's"
            self._miss("services", reason or next(iter(missing), "") or absent)
        return known[0] if known else None

    def _conntrack(self) -> Conntrack | None:
        """Read conntrack's numbers, as the kernel or the tool prints them."""
        if "conntrack" in self._out or "conntrack-tool" not in self._out:
            return self._parse("conntrack", "conntrack", parse_conntrack_proc)
        return self._parse("conntrack", "conntrack-tool", parse_conntrack_tool)

    def _queries(self, name: str) -> TrackedQueries | None:
        """Read what is remembered of queries; a kernel that does not show it is not asked."""
        if name not in self._out:
            return None
        return self._parse("connection tracking's table", name, parse_tracked_queries)

    def _cni(self) -> Cni:
        """Read what is visible of CNI's files: that nothing is, is no gap."""
        confs = [o for n, o in sorted(self._out.items()) if n.startswith("cni-file ")]
        programs = self._text("cni-bin")
        return Cni(
            confs=tuple(_conf(o) for o in confs) if self._text("cni") is not None else None,
            programs=None if programs is None else tuple(programs.split("\n")),
        )

    def _proxy(self) -> ProxyHealth | None:
        """Read what kube-proxy says of itself: that it does not answer is an answer."""
        mode, health = self._out.get("kube-proxy-mode"), self._out.get("kube-proxy-healthz")
        if mode is None or health is None or health.status == _NO_PROGRAM:
            self._miss("kube-proxy's health", _fault(health) if health else _NOT_ASKED)
            return None
        return parse_proxy_health(mode.stdout, health.stdout, health.stderr)


def _fault(output: CommandOutput) -> str:
    """Say why an output cannot be used; empty where it can."""
    if output.truncated:
        return output.stderr or "it is longer than what is kept"
    if output.status == 0:
        return ""
    if output.status in _STOPPED:
        return output.stderr or "it did not end in time"
    return output.stderr or f"it ended with status {output.status}"


def _twice(
    saved: tuple[Saved, ...], nft: tuple[NftTable, ...]
) -> tuple[tuple[Origin, tuple[ServiceEntry, ...]], ...]:
    """Read kube-proxy's entries per kind of rules; nothing where only one kind leads anywhere."""
    found = (
        (Origin.IPTABLES_NFT, iptables_services(s for s in saved if not s.legacy)),
        (Origin.IPTABLES_LEGACY, iptables_services(s for s in saved if s.legacy)),
        (Origin.NFT, nft_services(nft)),
    )
    kept = tuple((o, e) for o, e in found if e and any(x.endpoints for x in e))
    return kept if len(kept) > 1 else ()


def _leads(route: Route) -> bool:
    """Say whether a route of the main table leads somewhere."""
    return route.kind == "unicast" and route.table == "main"


def _conf(output: CommandOutput) -> CniConf:
    """Read a file of CNI's, as it was reduced when it was read."""
    try:
        return msgspec.json.decode(output.stdout, type=CniConf)
    except msgspec.DecodeError:
        return CniConf(file=output.name.removeprefix("cni-file "))


def _shown(texts: Iterable[str]) -> frozenset[str]:
    """Name the tables of nft that iptables shows whole."""
    texts = [t for t in texts if t]
    mixed = {name for t in texts for name in _MIXED.findall(t)}
    return frozenset(set(_COMPAT) - mixed) if texts else frozenset()
