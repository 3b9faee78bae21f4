"""What the kernel, CNI's files and kube-proxy say: recorded outputs, and any text at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.node_state import CniConf, Conntrack, ProxyHealth, Socket, Sysctl
from doctor.parse.cni_conf import parse_cni_conf
from doctor.parse.conntrack_stat import parse_conntrack_proc, parse_conntrack_tool
from doctor.parse.proc_sockets import parse_sockets
from doctor.parse.proxy_health import parse_proxy_health
from doctor.parse.sysctl import parse_sysctls
from tests.unit.recorded import ANY_JSON, damaged, printed

TOOL = (
    "cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=3 drop=1 early_drop=0 error=0 search_restart=0 \n"
    "cpu=1   \tfound=0 invalid=2 insert=0 insert_failed=4 drop=0 early_drop=0 error=0 search_restart=0 \n"
)


def test_settings_of_a_node() -> None:
    found = {s.name: s.value for s in parse_sysctls(printed("sysctl"))}
    assert found["net.ipv4.ip_forward"] == 1
    assert found["net.bridge.bridge-nf-call-iptables"] == 1
    assert found["net.netfilter.nf_conntrack_max"] == 262144
    assert found["net.ipv4.conf.flannel.1.rp_filter"] == 0
    assert len(found) == 29


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bridge/bridge-nf-call-iptables:", [Sysctl("net.bridge.bridge-nf-call-iptables", None)]),
        ("ipv4/x:-1", [Sysctl("net.ipv4.x", -1)]),
        ("ipv4/conf/eth0:1/rp_filter:2", [Sysctl("net.ipv4.conf.eth0:1.rp_filter", 2)]),
        ("ipv4/x:4096 87380 6291456", []),
        ("ipv4/x:²", []),
        (f"ipv4/x:{'9' * 30}", []),
        (":1", []),
        ("no setting", []),
    ],
)
def test_single_settings(line: str, expected: list[Sysctl]) -> None:
    assert list(parse_sysctls(line)) == expected


def test_conntracks_numbers() -> None:
    assert parse_conntrack_proc(printed("conntrack")) == Conntrack(entries=0x347, invalid=1)
    assert parse_conntrack_tool(TOOL) == Conntrack(insert_failed=7, drop=1, invalid=2)


def test_conntracks_numbers_are_hexadecimal_and_added_up() -> None:
    head = "entries invalid insert_failed drop early_drop"
    text = f"{head}\n0000000a 1 0f 2 0\n0000000a 2 10 0 3\n0000000a 9\n"
    assert parse_conntrack_proc(text) == Conntrack(
        entries=10, insert_failed=31, drop=2, early_drop=3, invalid=3
    )


@pytest.mark.parametrize(
    "text", ["", "entries\n1", "a b\n1 2", "entries insert_failed\n-1 2", TOOL]
)
def test_what_is_not_conntracks(text: str) -> None:
    assert parse_conntrack_proc(text) is None


def test_the_tools_numbers_without_those_that_matter() -> None:
    assert parse_conntrack_tool("cpu=0 found=1") is None
    assert parse_conntrack_tool(printed("conntrack")) is None


def test_sockets_of_a_node() -> None:
    found = parse_sockets(printed("sockets"))
    assert Socket("udp", "0.0.0.0", 8472) in found  # noqa: S104 - read, not bound
    assert Socket("tcp", "127.0.0.1", 10249) in found
    assert Socket("tcp", "::", 10256) in found
    assert Socket("tcp", "192.168.100.103", 7946) in found


def test_single_sockets() -> None:
    lines = (
        "tcp6 0000000000000000FFFF00006764A8C0:1F91",
        "tcp 6764A8C0:1F91",
        "tcp 6764A8C0:1F9",
        "raw 00000000:0001",
        "udp6 0000000000000000000000000100000:0035",
        "udp6 00000000000000000000000001000000:0035",
    )
    assert parse_sockets("\n".join(lines)) == (
        Socket("tcp", "192.168.100.103", 8081),
        Socket("udp", "::1", 53),
    )


FLANNEL = {
    "name": "cbr0",
    "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        (
            FLANNEL,
            CniConf(
                "f", "cbr0", "0.3.1", ("flannel", "portmap"), hairpin=True, default_gateway=True
            ),
        ),
        (
            {"name": "n", "type": "bridge", "mtu": 1400, "ipMasq": False},
            CniConf("f", "n", plugins=("bridge",), mtu=1400, masquerade=False),
        ),
        ({"plugins": [{"type": "loopback", "mtu": 9}]}, CniConf("f", plugins=("loopback",))),
        ({"plugins": [{"type": 1}]}, CniConf("f")),
        ([], CniConf("f")),
    ],
)
def test_cni_configuration(conf: object, expected: CniConf) -> None:
    assert parse_cni_conf("f", json.dumps(conf)) == expected


def test_nothing_else_of_a_cni_configuration_is_kept() -> None:
    conf = {**FLANNEL, "k8s_auth_token": "s3cret", "policy": {"k8s_auth_token": "s3cret"}}
    conf["plugins"] = [{"type": "calico", "etcd_key": "s3cret", "mtu": 1}]
    assert "s3cret" not in repr(parse_cni_conf("f", json.dumps(conf)))


def answer(status: str, body: str) -> str:
    """Write an answer of kube-proxy's."""
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}"


def test_a_healthy_kube_proxy() -> None:
    found = parse_proxy_health(printed("kube-proxy-mode"), printed("kube-proxy-healthz"), "")
    assert (found.mode, found.status, found.eligible, found.reason) == ("iptables", 200, True, "")
    assert found.behind == 0
    assert found.ipv4_updated == "2026-11-24T06:35:51.480831332Z"


def test_a_kube_proxy_whose_rules_are_old() -> None:
    body = {"lastUpdated": "2026-11-24T06:00:00Z", "currentTime": "2026-11-24T06:01:30.5Z"}
    found = parse_proxy_health("", answer("503 Service Unavailable", json.dumps(body)), "")
    assert (found.mode, found.status, found.eligible) == ("", 503, None)
    assert found.behind == 90.5


@pytest.mark.parametrize(
    ("mode", "health", "expected"),
    [
        ("", "", ProxyHealth(reason="refused")),
        ("nonsense", "SSH-2.0", ProxyHealth(reason="refused")),
        (answer("200 OK", "sidecar"), answer("200 OK", "{"), ProxyHealth(status=200)),
        (
            answer("200 OK", "nftables"),
            "HTTP/1.1 9999 x",
            ProxyHealth("nftables", reason="refused"),
        ),
    ],
)
def test_answers_that_say_little(mode: str, health: str, expected: ProxyHealth) -> None:
    assert parse_proxy_health(mode, health, "refused") == expected


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2026-11-24T06:00:00", "2026-11-24T06:00:00+01:00"]
)
def test_times_that_cannot_be_compared(time: str) -> None:
    health = ProxyHealth(last_updated=time, current_time="2026-11-24T06:00:00Z")
    assert health.behind in (None, 3600.0)


READINGS = ("sysctl", "conntrack", "sockets", "kube-proxy-mode", "kube-proxy-healthz")


@given(damaged(*map(printed, READINGS), TOOL, json.dumps(FLANNEL)) | st.text())
def test_any_text_is_read(anything: str) -> None:
    parse_sysctls(anything)
    parse_conntrack_proc(anything)
    parse_conntrack_tool(anything)
    parse_sockets(anything)
    parse_cni_conf(anything, anything)
    assert parse_proxy_health(anything, anything, "").behind is not False


@given(
    ANY_JSON
    | st.dictionaries(
        st.sampled_from(["lastUpdated", "status", "IPv4", "plugins", "type"]), ANY_JSON
    )
)
def test_any_json_is_read(value: object) -> None:
    text = json.dumps(value)
    parse_cni_conf("f", text)
    parse_proxy_health("", answer("200 OK", text), "")
