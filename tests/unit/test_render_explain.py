"""Pages about checks and codes."""

from collections.abc import Iterator

import msgspec

from doctor.contract import Check, check
from doctor.model.evidence import DnsFlows
from doctor.model.finding import Code, Finding, Role
from doctor.model.link import Link
from doctor.model.rights import Needs, Rule, Tier
from doctor.model.rights import Role as Granted
from doctor.render.explain import Section, explain_check, explain_code, list_checks, sections

FILTERED = Code(
    "DNS_UDP_FILTERED",
    Link.DNS,
    "UDP 53 to CoreDNS is dropped on the way, while TCP 53 of the same pod answers.",
)
TIMEOUT = Code("DNS_TIMEOUT", Link.DNS, "No query is answered.", Role.SYMPTOM)
ELSEWHERE = Code("NODE_NOT_READY", Link.NODE, "The node is not ready.")


@check(
    id="dns.udp-and-tcp",
    title="CoreDNS answers over UDP and TCP from every node",
    codes=(FILTERED, TIMEOUT),
)
def udp_and_tcp(flows: DnsFlows) -> Iterator[Finding]:
    """Compare UDP with TCP.

    What it looks at:
        Every node asks the ``kube-dns`` Service and every CoreDNS endpoint, over UDP and TCP.

        - over UDP, as a stub
          resolver does
        - over TCP, as a control
    Why it matters:
        Pods resolve nothing.

    What proves it:
        A control works in the same minute::

            dig @10.96.0.10 kubernetes.default.svc.cluster.local   +tcp

    Look-alikes:
        1. A NetworkPolicy drops at the veth, and the underlay carries on.

    Remediation:
        Open the port.

    Sources:
        https://kubernetes.io/docs/tasks/administer-cluster/dns-debugging-resolution/
    """
    del flows
    yield from ()


@check(id="node.ready", title="모든 노드가 준비되어 있다", codes=(ELSEWHERE,))
def ready(flows: DnsFlows) -> Iterator[Finding]:
    """Say nothing."""
    del flows
    yield from ()


CHECKS: tuple[Check, ...] = (ready, udp_and_tcp)
NEEDS = Needs(
    "dns.udp-and-tcp",
    Tier.READ,
    Tier.EXEC,
    (
        Granted(Tier.READ, (Rule(("get",), ("",), ("configmaps",), ("coredns", "other")),)),
        Granted(Tier.EXEC, (Rule(("get", "create"), ("", "apps"), ("pods/exec", "pods")),)),
    ),
)


def test_sections_are_split_by_their_titles() -> None:
    assert sections("Lead.\n\nWhy it matters:\n    One.\n\n      two\n\nSources:\n    S\n") == (
        Section("", "Lead."),
        Section("Why it matters", "One.\n\n  two"),
        Section("Sources", "S"),
    )


def test_a_title_inside_a_section_is_text() -> None:
    assert sections("Remediation:\n    Sources:\n    here") == (
        Section("Remediation", "Sources:\nhere"),
    )


def test_the_page_of_a_check() -> None:
    assert (
        explain_check(udp_and_tcp, NEEDS, width=60)
        == """\
dns.udp-and-tcp (dns)
  CoreDNS answers over UDP and TCP from every node

  Compare UDP with TCP.

What it looks at
  Every node asks the `kube-dns` Service and every CoreDNS
  endpoint, over UDP and TCP.

  - over UDP, as a stub resolver does
  - over TCP, as a control

Why it matters
  Pods resolve nothing.

What proves it
  A control works in the same minute:

      dig @10.96.0.10 kubernetes.default.svc.cluster.local   +tcp

Look-alikes
  1. A NetworkPolicy drops at the veth, and the underlay
     carries on.

Remediation
  Open the port.

Sources
  https://kubernetes.io/docs/tasks/administer-cluster/dns-debugging-resolution/

Needs
  Tier read; with tier exec it says more. `wwwm-doctor rbac
  --tier exec --for dns.udp-and-tcp` prints the roles.

  - read: get configmaps (core) named coredns, other
  - exec: get, create pods/exec, pods (core, apps)

Codes
  DNS_UDP_FILTERED
      UDP 53 to CoreDNS is dropped on the way, while TCP 53
      of the same pod answers.
  DNS_TIMEOUT
      No query is answered.
"""
    )


def test_the_page_of_a_code_quotes_the_checks_that_say_it() -> None:
    assert (
        explain_code(TIMEOUT, CHECKS, width=60)
        == """\
DNS_TIMEOUT (dns)
  No query is answered.
  It is a symptom: it is a diagnosis only if no cause
  explains it.

Said by dns.udp-and-tcp
  CoreDNS answers over UDP and TCP from every node

What proves it
  A control works in the same minute:

      dig @10.96.0.10 kubernetes.default.svc.cluster.local   +tcp

Look-alikes
  1. A NetworkPolicy drops at the veth, and the underlay
     carries on.

Remediation
  Open the port.
"""
    )


def test_a_cause_is_called_one() -> None:
    assert "It is a cause: " in explain_code(FILTERED, CHECKS)


def test_the_list_is_one_line_per_check_for_other_programs() -> None:
    assert (
        list_checks(CHECKS)
        == """\
ID               LINK  TITLE                                             CODES
node.ready       node  모든 노드가 준비되어 있다                         NODE_NOT_READY
dns.udp-and-tcp  dns   CoreDNS answers over UDP and TCP from every node  DNS_UDP_FILTERED DNS_TIMEOUT
"""
    )


def test_the_list_folds_on_a_terminal() -> None:
    assert (
        list_checks(CHECKS, width=60)
        == """\
ID               LINK  TITLE
                         CODES
node.ready       node  모든 노드가 준비되어 있다
                         NODE_NOT_READY
dns.udp-and-tcp  dns   CoreDNS answers over UDP and TCP from
                       every node
                         DNS_UDP_FILTERED DNS_TIMEOUT
"""
    )


def test_the_list_stays_a_table_where_it_fits() -> None:
    assert list_checks(CHECKS, width=120) == list_checks(CHECKS)


def test_what_a_check_crosses_is_part_of_what_it_needs() -> None:
    crossing = msgspec.structs.replace(NEEDS, crosses=("node", "overlay"), all=Tier.PROBE)
    words = " ".join(explain_check(udp_and_tcp, crossing).split())
    assert (
        "Tier read; with tier exec it says more. The checks of what it crosses (node, overlay) are "
        "run with it: tier probe gives them all their evidence. `wwwm-doctor rbac --tier probe "
        "--for dns.udp-and-tcp` prints the roles."
    ) in words


def test_a_third_party_check_cannot_write_escapes() -> None:
    code = Code("X_\x1b[31m", Link.NODE, "red \x1b[31m")

    @check(id="node.\x1b", title="a\x1bb", codes=(code,))
    def odd(flows: DnsFlows) -> Iterator[Finding]:
        del flows
        yield from ()

    needs = Needs(odd.id, Tier.READ, Tier.READ)
    pages = explain_check(odd, needs) + explain_code(code, [odd]) + list_checks([odd])
    assert "\x1b" not in pages
    assert r"node.\x1b" in pages
