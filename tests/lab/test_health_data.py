"""What a kubelet's own counters say of the pods that it has probed."""

from tests.lab.health import found_ready

METRICS = """\
# TYPE prober_probe_total counter
prober_probe_total{container="dns",namespace="sys",pod="dns-1",pod_uid="a",\
probe_type="Liveness",result="successful"} 9
prober_probe_total{container="dns",namespace="sys",pod="dns-1",pod_uid="a",\
probe_type="Readiness",result="failed"} 2
prober_probe_total{container="net",namespace="cni",pod="net-1",pod_uid="b",\
probe_type="Readiness",result="failed"} 1
prober_probe_total{container="net",namespace="cni",pod="net-1",pod_uid="b",\
probe_type="Readiness",result="successful"} 4
"""


def test_only_a_readiness_probe_that_succeeded_counts() -> None:
    assert found_ready(METRICS) == {("cni", "net-1")}


def test_a_kubelet_that_has_just_begun_has_found_none() -> None:
    assert found_ready("") == set()
