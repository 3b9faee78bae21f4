"""Logs: which lines are kept, and what is taken out of them. Recorded from the real programs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.parse.log_lines import clean_text, parse_log

FLANNEL = """\
2026-11-24T12:18:40.123456789Z I1124 12:18:40.123220       1 main.go:211] CLI flags config: {etcdEndpoints:http://127.0.0.1:4001}
2026-11-24T12:18:40.223456789Z W1124 12:18:40.223000       1 client_config.go:659] Neither --kubeconfig nor --master was specified.
2026-11-24T12:18:41.223456789Z E1124 12:18:41.223000       1 main.go:359] Error registering network: failed to acquire lease: node "master" pod cidr not assigned
"""
DNS = """\
.:53
[INFO] plugin/reload: Running configuration SHA512 = 1b226df79860026c6a52e67daa10d7f0d57ec5b023288ec00c5e05f93523c894564e15b91770d3a07ae1cfbe861d15b37d4a0027e69c546ab112970993a3b03b
CoreDNS-1.12.1
linux/amd64, go1.24.1, 707c7c1
[INFO] 10.244.1.5:38412 - 4433 "A IN db.internal.example. udp 33 false 512" NOERROR qr,aa,rd 100 0.0002s
[ERROR] plugin/errors: 2 example.com. A: read udp 10.244.0.3:53521->203.0.113.1:53: i/o timeout
[FATAL] plugin/loop: Loop (127.0.0.1:44223 -> :53) detected for zone ".", see https://coredns.io/plugins/loop#troubleshooting
/etc/coredns/Corefile:3 - Error during parsing: Unknown directive 'forwrd'
"""
METALLB = '{"caller":"main.go:1","error":"no route","level":"error","ts":"2026-11-24T12:00:00Z"}\n'


def texts(text: str) -> list[str]:
    """Read a log."""
    return [x.text for x in parse_log(text)]


def test_what_flannel_says_is_kept_with_its_time() -> None:
    lines = parse_log(FLANNEL)
    assert [x.at[:19] for x in lines] == [
        "2026-11-24T12:18:40",
        "2026-11-24T12:18:40",
        "2026-11-24T12:18:41",
    ]
    assert lines[-1].text.endswith('node "master" pod cidr not assigned')


def test_what_coredns_says_of_itself_is_kept_and_no_query() -> None:
    kept = texts(DNS)
    assert "db.internal" not in " ".join(kept)
    assert len(kept) == len(DNS.splitlines()) - 1
    assert texts(METALLB) == [METALLB.strip()]
    assert texts("cp: can't create '/opt/cni/bin/flannel': Read-only file system") != []


@pytest.mark.parametrize(
    "line",
    ["Dear customer, your order 4711 has been shipped", "user=alice pin=1234", "", "\x00", "  x"],
)
def test_what_no_system_program_writes_is_dropped(line: str) -> None:
    assert texts(line) == []


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
        "Authorization: Bearer abc.def-ghi",
        "password=hunter2",
        "password: hunter",
        'client_secret="s3cr3t"',
        '{"apiKey":"s3cr3t"}',
        "https://admin:s3cr3t@192.0.2.1/x",
        "-----BEGIN RSA PRIVATE KEY----- MIIEowIBAAKCAQEA",
        "AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    ],
)
def test_what_may_be_a_secret_is_hidden(secret: str) -> None:
    (kept,) = texts(f"E1124 12:18:41.223000       1 main.go:359] it failed with {secret}")
    for part in ("hunter", "s3cr3t", "abc.def", "eyJpc3Mi", "MIIEow", "wJalrXUt"):
        assert part not in kept
    assert "it failed with" in kept


@pytest.mark.parametrize(
    "said",
    [
        'nodes "master" is forbidden: User "system:serviceaccount:kube-flannel:flannel" cannot get',
        "open /var/run/secrets/kubernetes.io/serviceaccount/token: no such file or directory",
        'Get "https://10.96.0.1:443/api/v1/nodes/master": dial tcp 10.96.0.1:443: i/o timeout',
        "stat /proc/sys/net/bridge/bridge-nf-call-iptables: no such file or directory",
    ],
)
def test_what_is_judged_stays_as_it_is(said: str) -> None:
    assert clean_text(said) == said


def test_colours_and_controls_are_taken_out() -> None:
    assert texts("\x1b[31mE1124 12:18:41\x1b[0m main.go] a\x07b\u202ec") == [
        "E1124 12:18:41 main.go] a b c"
    ]


@given(st.text(max_size=3000))
def test_any_text_is_read(text: str) -> None:
    for line in parse_log(text):
        assert 0 < len(line.text) <= 600
        assert line.text.isprintable() or not any(ord(c) < 0x20 for c in line.text)
        assert parse_log(f"{line.text}") in ((), parse_log(line.text))
    assert "\n" not in clean_text(text)
