"""What is made of printed commands; this needs no lab."""

from ipaddress import IPv4Network

import pytest

from tests.lab.patient import Said
from tests.lab.remedy.kinds import changes, is_commands, left_open, needs_a_person
from tests.lab.remedy.openstack import (
    Allowed,
    Drop,
    allowed,
    covered,
    drops_of,
    group_id,
    port_id,
)
from tests.lab.remedy.run import healed
from tests.lab.remedy.services import steps, unit_of
from tests.lab.remedy.ssh import destination_of

TAP = port_id("tap-1")


@pytest.mark.parametrize(
    "command",
    [
        "kubectl -n kube-system scale deployment coredns --replicas=2",
        "kubectl -n kube-flannel exec ds/kube-flannel -- iptables -D FORWARD -j DROP",
        "kubectl create namespace x --dry-run=client -o yaml | kubectl apply -f -",
        "kubectl -n x rollout restart daemonset y",
        "ssh master sudo sysctl -w net.ipv4.ip_forward=1",
        "ssh master sudo ip link set cni0 up",
        "ssh master sudo systemctl restart kubelet",
        'openstack port set --allowed-address ip-address=1.2.3.4 "$(openstack port list -c ID)"',
        "sed -i 's/a/b/' /etc/nginx/nginx.conf",
    ],
)
def test_these_change_something(command: str) -> None:
    assert changes(command)
    assert is_commands(["kubectl get pods", command])


@pytest.mark.parametrize(
    "command",
    [
        "kubectl -n x get pods -o wide",
        "kubectl -n x logs deploy/y --previous",
        "kubectl describe node master",
        "kubectl rollout status daemonset x",
        "ssh master ip -d address show cni0",
        "ssh master sudo iptables -t nat -S POSTROUTING",
        "ssh master sudo journalctl -u kubelet -n 50",
        "ssh master ip -statistics link",
        "nginx -T",
        "openstack port list --fixed-ip ip-address=1.2.3.4",
    ],
)
def test_these_only_look(command: str) -> None:
    assert not changes(command)
    assert not is_commands([command])


@pytest.mark.parametrize(
    "command",
    ["kubectl -n x edit configmap y", "kubectl set env deploy/x A=<value>", "sudo vi /etc/hosts"],
)
def test_these_need_a_person(command: str) -> None:
    assert needs_a_person(command)
    assert not is_commands([command, "kubectl delete pod x"])


def test_what_is_to_be_chosen_is_no_command() -> None:
    apply = "printf 'addresses: [%s]' \"$FREE_RANGE\" | kubectl apply -f -"
    assert left_open([apply]) == {"FREE_RANGE"}
    assert not is_commands([apply])
    assert is_commands(["FREE_RANGE=$(echo 1)", apply])
    assert left_open(["for i in 1 2; do echo $i ${HOME}; done"]) == frozenset()


@pytest.mark.parametrize(
    ("arguments", "host", "command"),
    [
        ("master hostname -f", "master", "hostname -f"),
        ("-o BatchMode=yes -p22 root@10.0.0.1 sudo ls -l", "10.0.0.1", "sudo ls -l"),
        ("-t master -- ip a", "master", "ip a"),
        ("-- master ls", "master", "ls"),
        ("master -t ls", "master", "ls"),
        ("master", "master", ""),
        ("", "", ""),
        ("-p", "", ""),
    ],
)
def test_sshs_command_line_is_taken_apart(arguments: str, host: str, command: str) -> None:
    assert destination_of(arguments.split()) == (host, command)


def test_a_unit_is_known_with_its_suffix_and_without() -> None:
    assert unit_of(["restart", "kubelet"]) == "kubelet"
    assert unit_of(["-u", "containerd.service"]) == "containerd"
    assert unit_of(["restart", "firewalld"]) == ""


def test_what_systemctl_does_is_told_from_what_it_shows() -> None:
    assert steps(["restart", "kubelet"]) == ("stop", "start")
    assert steps(["enable", "--now", "kubelet"]) == ("start",)
    assert steps(["enable", "kubelet"]) == ()
    assert steps(["status", "kubelet"]) is None


def rule(*matches: object, family: str = "bridge") -> dict[str, object]:
    """A ruleset with one rule that drops."""
    told = {"family": family, "table": "t", "chain": "forward", "handle": 7}
    expressions = [*({"match": m} for m in matches), {"counter": {}}, {"drop": None}]
    return {"nftables": [{"metainfo": {}}, {"rule": {**told, "expr": expressions}}]}


def port(protocol: str, right: object) -> dict[str, object]:
    """A match of a destination port."""
    return {"left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}


def saddr(protocol: str, field: str, right: object) -> dict[str, object]:
    """A match of a source address."""
    return {"left": {"payload": {"protocol": protocol, "field": field}}, "right": right}


COMES_BY = {"left": {"meta": {"key": "iifname"}}, "right": "tap-1"}
GOES_BY = {"left": {"meta": {"key": "oifname"}}, "right": "tap-2"}
FROM_ANY = {"left": {"meta": {"key": "iifname"}}, "right": "tap-*"}


def drops(*matches: object) -> list[Drop]:
    """The rules that are read from a ruleset with these matches."""
    return list(drops_of(rule(*matches)))


def test_rules_are_read_as_security_groups_mean_them() -> None:
    (one,) = drops(FROM_ANY, port("udp", 53))
    assert (one.protocol, one.ports, one.tap) == ("udp", frozenset({53}), "")
    (two,) = drops(COMES_BY, saddr("arp", "saddr ip", "192.168.100.230"))
    assert (two.tap, two.source) == ("tap-1", IPv4Network("192.168.100.230/32"))
    (three,) = drops(saddr("ip", "saddr", {"prefix": {"addr": "10.244.1.0", "len": 24}}))
    assert three.source == IPv4Network("10.244.1.0/24")
    (four,) = drops(port("tcp", {"set": [53, {"range": [80, 82]}]}))
    assert four.ports == {53, 80, 81, 82}
    (five,) = drops(COMES_BY, GOES_BY, port("udp", 8472))
    assert (five.protocol, five.ports, five.tap) == ("udp", frozenset({8472}), "tap-1")


def test_rules_that_look_elsewhere_are_none_of_a_security_groups() -> None:
    assert drops({"left": {"payload": {"protocol": "ip", "field": "length"}}, "right": 1400}) == []
    assert list(drops_of(rule(port("udp", 53), family="ip"))) == []


def test_command_lines_that_allow_are_understood() -> None:
    words = (
        f"security group rule create --protocol udp --dst-port 8472 --remote-group g {group_id()}"
    )
    assert allowed(words.split(), [TAP]) == Allowed(protocol="udp", ports=range(8472, 8473))
    words = f"port set --allowed-address ip-address=10.0.0.0/8,mac-address=x {TAP}"
    assert allowed(words.split(), [TAP]) == Allowed(port=TAP, source=IPv4Network("10.0.0.0/8"))


@pytest.mark.parametrize(
    "words",
    [
        "security group rule create --protocol udp --dst-port 53 another-group",
        "port set --allowed-address ip-address=10.0.0.1 another-port",
        f"port set --name x {TAP}",
        "server reboot x",
        "",
    ],
)
def test_other_command_lines_allow_nothing(words: str) -> None:
    assert allowed(words.split(), [TAP]) is None


def test_only_what_is_let_pass_altogether_is_taken_away() -> None:
    (udp,) = drops(FROM_ANY, port("udp", 53))
    (several,) = drops(port("udp", {"set": [53, 8472]}))
    (spoofed,) = drops(COMES_BY, saddr("ip", "saddr", "10.0.0.9"))
    assert covered(udp, Allowed(protocol="udp", ports=range(53, 54)))
    assert covered(udp, Allowed(protocol="any", ports=range(65536)))
    assert not covered(udp, Allowed(protocol="tcp", ports=range(53, 54)))
    assert not covered(several, Allowed(protocol="udp", ports=range(53, 54)))
    assert not covered(spoofed, Allowed(protocol="any", ports=range(65536)))
    assert covered(spoofed, Allowed(port=TAP, source=IPv4Network("10.0.0.9/32")))
    assert not covered(spoofed, Allowed(port=TAP, source=IPv4Network("10.0.0.8/32")))
    assert not covered(spoofed, Allowed(port=port_id("tap-2"), source=IPv4Network("10.0.0.9/32")))
    assert not covered(udp, Allowed(port=TAP, source=IPv4Network("10.0.0.9/32")))


@pytest.mark.parametrize(
    ("exit_code", "codes", "expected"),
    [(0, [], True), (0, ["OTHER"], True), (0, ["FOUND"], False), (3, ["OTHER"], False)],
)
def test_a_warning_that_stays_is_not_healed(
    exit_code: int, codes: list[str], *, expected: bool
) -> None:
    document = {"diagnoses": [{"code": code} for code in codes]}
    said = Said(exit_code=exit_code, document=document, stderr="")
    assert healed(said, "FOUND") is expected
