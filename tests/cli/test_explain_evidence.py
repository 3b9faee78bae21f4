"""From a diagnosis to the raw bytes: `explain --evidence ID --bundle FILE`."""

import base64
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from checks import CHAIN
from doctor.bundle.io import load, save
from doctor.bundle.schema import (
    ApiRecord,
    Bundle,
    CommandOutput,
    FlowRecord,
    LogRecord,
    NodeRecord,
    ProbePodRecord,
    ProxyRecord,
    Record,
)
from doctor.cli.explaining import explanation
from doctor.errors import BundleError, UsageError
from doctor.model.failure import Failure
from doctor.model.flow import Flow, FlowKind, Observation, Purpose, Sample, Vantage, VantageKind
from doctor.model.logs import ContainerLog, LogLine
from doctor.model.proxy import HostProxy
from tests.unit.support import api, bundle, cluster, service

RECORDINGS = Path(__file__).parents[2] / "doctor" / "recordings"
OVERLAY = RECORDINGS / "overlay.bundle"
IDS = tuple(c.id for c in CHAIN)
NASTY = "\x1b[2Jgone\u202e"

Explain = Callable[..., str]


def flow(kind: FlowKind, *printed: Sample) -> FlowRecord:
    """A query that was not answered, and what the tool printed."""
    asked = Flow(
        id=f"dns:pod@node-1>{kind}:10.0.0.9:53",
        purpose=Purpose.DNS,
        vantage=Vantage(VantageKind.POD, "node-1"),
        kind=kind,
        address="10.0.0.9",
        port=53,
        name="kubernetes.default",
    )
    seen = Observation(
        asked, Failure.TIMEOUT, 2.0, sent=3, lost=2, detail=f"nc: {NASTY}", printed=printed
    )
    return FlowRecord(seen)


@pytest.fixture
def explain(tmp_path: Path) -> Explain:
    """Explain an id of a bundle with these records beside a small cluster's."""

    def act(id_: str, *records: Record) -> str:
        path = tmp_path / "a.bundle"
        shop = service("shop/web", "10.96.0.9")
        save(bundle(*cluster(2, shop), *records, checks=IDS), path)
        return explanation(None, id_, path)

    return act


def test_a_flow_is_followed_to_what_was_printed(explain: Explain) -> None:
    packed = base64.b64encode(b"\x12\x34hello\x00").decode()
    page = explain(
        "dns:pod@node-1>dns-udp:10.0.0.9:53",
        flow(FlowKind.DNS_UDP, Sample(1, 2.0, packed, f"nc: {NASTY}"), Sample(0, 0.1)),
    )
    assert "dns-udp from a pod on node-1 to 10.0.0.9:53" in page
    assert "name kubernetes.default" in page
    assert "timeout after 2 s" in page
    assert "2 of 3 samples lost" in page
    assert "sample 1 (exit 1 after 2 s)" in page
    assert f"stdout: {packed}" in page
    assert "12 34 68 65 6c 6c 6f 00" in page
    assert ".4hello." in page
    assert "sample 2 (exit 0 after 0.1 s)" in page
    assert '"failure": "timeout"' in page


def test_bytes_in_hexadecimal_are_understood_too(explain: Explain) -> None:
    page = explain(
        "dns:pod@node-1>dns-tcp:10.0.0.9:53", flow(FlowKind.DNS_TCP, Sample(0, 0.1, "00 1c 68"))
    )
    assert "3 bytes, as far as they were kept:" in page
    assert "..h" in page


def test_what_is_no_encoding_is_only_quoted(explain: Explain) -> None:
    page = explain(
        "dns:pod@node-1>dns-tcp:10.0.0.9:53", flow(FlowKind.DNS_TCP, Sample(1, 0.1, "usage: nc"))
    )
    assert "stdout: usage: nc" in page
    assert "bytes" not in page


def test_no_text_of_a_tool_acts_on_the_terminal(explain: Explain) -> None:
    """Not what it printed, not the record, not a node's files."""
    sample = Sample(1, 2.0, f"a\n{NASTY}", NASTY)
    seen = explain("dns:pod@node-1>dns-udp:10.0.0.9:53", flow(FlowKind.DNS_UDP, sample))
    outputs = (CommandOutput("route", 1, NASTY, NASTY, truncated=True),)
    node = explain("node:node-1", NodeRecord("node-1", NASTY, outputs, NASTY))
    for page in (seen, node):
        assert all(line.isprintable() for line in page.splitlines())
        assert "\\x1b[2Jgone\\u202e" in page


def test_a_node_is_followed_to_its_outputs_and_what_was_made_of_them(explain: Explain) -> None:
    outputs = (CommandOutput("ip_forward", 0, "1\n"), CommandOutput("route", 1, "", "ip: no"))
    page = explain("node:node-1", NodeRecord("node-1", "cni/flannel-x", outputs))
    assert "Read inside the node through cni/flannel-x" in page
    assert "Printed for ip_forward (exit 0)\n  1\n" in page
    assert "Printed for route (exit 1)\n  stderr: ip: no\n" in page
    assert '"ip_forward": true' in page


def test_a_node_that_could_not_be_read_says_why(explain: Explain) -> None:
    page = explain("node:node-1", NodeRecord("node-1", "cni/flannel-x", reason="forbidden"))
    assert "not read: forbidden" in page


def test_an_object_is_shown_as_it_was_kept(explain: Explain) -> None:
    page = explain("api:services/shop/web")
    assert "LIST services: HTTP 200, " in page
    assert '"clusterIP": "10.96.0.9"' in page


def test_a_whole_list_is_shown_by_its_names(explain: Explain) -> None:
    assert "  shop/web\n" in explain("api:services")


def test_a_list_that_could_not_be_had_says_why(explain: Explain) -> None:
    page = explain("api:ingresses", api("ingresses", status=403, reason="forbidden"))
    assert "LIST ingresses: HTTP 403, 0 objects\n  forbidden\n" in page


def test_the_last_words_of_a_container(explain: Explain) -> None:
    lines = (LogLine("no subnet", "2026-01-01T00:00:00Z"), LogLine(NASTY))
    log = ContainerLog("cni/flannel-x", "node-1", "kube-flannel", lines, previous=True)
    page = explain("log:cni/flannel-x/kube-flannel", LogRecord(log))
    assert "Last words of kube-flannel on node-1, the run before the present one" in page
    assert "  2026-01-01T00:00:00Z no subnet\n" in page
    assert all(line.isprintable() for line in page.splitlines())
    refused = explain("log:cni/flannel-x/kube-flannel", LogRecord(log, 403, "forbidden"))
    assert "not read (HTTP 403): forbidden" in refused


def test_what_became_of_a_probe_pod_and_of_the_proxy(explain: Explain) -> None:
    pod = explain("probe-pod:node-1", ProbePodRecord("node-1", reason="no image"))
    assert '"reason": "no image"' in pod
    proxy = explain(
        "proxy:machine", ProxyRecord(HostProxy("nginx", "/n.conf", (), "proxy:machine"))
    )
    assert '"config": "/n.conf"' in proxy


def first() -> tuple[Bundle, str]:
    """A recording and the first proof of its diagnosis."""
    page = load(OVERLAY)
    ids = [r.observation.flow.id for r in page.records if isinstance(r, FlowRecord)]
    return page, next(i for i in ids if i.startswith("mesh:pod@") and ">tcp:" in i)


def test_the_page_says_what_it_proves_and_which_way_was_predicted() -> None:
    page = explanation(None, first()[1], OVERLAY)
    assert "proof of d1: OVERLAY_UDP_FILTERED (overlay.pod-to-pod)" in page
    assert "  underlay:" in page.partition("Predicted way, and back")[2].partition("Record")[0]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("node:mater", "node:master"),
        ("api:services/kube-system/kube-dnz", "api:services/kube-system/kube-dns"),
    ],
)
def test_an_unknown_id_is_told_with_the_closest(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=near) as error:
        explanation(None, wrong, OVERLAY)
    assert "holds no evidence called" in str(error.value)


def test_an_id_like_nothing_is_told_without() -> None:
    with pytest.raises(UsageError) as error:
        explanation(None, "%", OVERLAY)
    assert "near it" not in str(error.value)


def test_an_object_that_is_missing_is_evidence_where_it_is_cited(tmp_path: Path) -> None:
    """A DNS Service that does not exist is what the finding is about."""
    path, whole = tmp_path / "a.bundle", load(OVERLAY)
    kept = [r for r in whole.records if not (isinstance(r, ApiRecord) and r.resource == "services")]
    save(msgspec.structs.replace(whole, records=(*kept, api("services"))), path)
    page = explanation(None, "api:services/kube-system/kube-dns", path)
    assert "proof of " in page
    assert "LIST services: HTTP 200, 0 objects\n  kube-dns is not among them\n" in page


@pytest.mark.parametrize(
    ("name", "id_", "path", "text"),
    [
        (None, None, None, "explain takes a code or a check"),
        ("dns", "node:a", OVERLAY, "explain takes a code or a check"),
        ("dns", None, OVERLAY, "goes with --evidence"),
        (None, "node:a", None, "run --save FILE"),
    ],
)
def test_what_does_not_go_together_is_told(
    name: str | None, id_: str | None, path: Path | None, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        explanation(name, id_, path)


def test_a_damaged_bundle_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    damaged = msgspec.structs.replace(api("nodes"), items=msgspec.Raw(b"[5]"))
    save(bundle(damaged, checks=IDS), path)
    with pytest.raises(BundleError, match="is damaged"):
        explanation(None, "api:nodes/x", path)
