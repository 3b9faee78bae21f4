"""kube-proxy's configuration as kubeadm writes it, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.parse.proxy_conf import ProxyConf, parse_proxy_conf, parse_server, server_place
from tests.unit.recorded import damaged

CONFIG = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection:
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
kind: KubeProxyConfiguration
mode: iptables
"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://192.168.100.101:6443
  name: default
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONFIG, ProxyConf("iptables", "10.244.0.0/16", "")),
        ('mode: ""\nclusterCIDR: ""\n', ProxyConf("", "", None)),
        ("mode: null\ndetectLocalMode: 'NodeCIDR'", ProxyConf("", None, "NodeCIDR")),
        ("clusterCIDR: 10.244.0.0/16,fd00::/56", ProxyConf(None, "10.244.0.0/16,fd00::/56", None)),
        ("mode:\nclusterCIDR: 10.0.0.0/8", ProxyConf("", "10.0.0.0/8", None)),
        ("mode: nftables", ProxyConf("nftables", None, None)),
        ("mode: ipvs\nmode: iptables", ProxyConf("ipvs", None, None)),
        ("", ProxyConf()),
    ],
)
def test_configuration(text: str, expected: ProxyConf) -> None:
    assert parse_proxy_conf(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KUBECONFIG, "https://192.168.100.101:6443"),
        ("  server: 'https://api.example:443'", "https://api.example:443"),
        ("- server: https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        ("server:", ""),
        ("", ""),
    ],
)
def test_server(text: str, expected: str) -> None:
    assert parse_server(text) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://192.168.100.101:6443", ("192.168.100.101", 6443)),
        ("https://api.example", ("api.example", 443)),
        ("https://api.example:66666", ("", 0)),
        ("https://[::1", ("", 0)),
        ("", ("", 443)),
    ],
)
def test_place(url: str, expected: tuple[str, int]) -> None:
    assert server_place(url) == expected


@given(st.one_of(damaged(CONFIG, KUBECONFIG), st.text()))
def test_nothing_is_raised(text: str) -> None:
    conf = parse_proxy_conf(text)
    assert len(server_place(text)) == 2
    assert len(f"{conf.mode}{conf.cluster_cidr}{conf.detect_local}{parse_server(text)}") < 1000
