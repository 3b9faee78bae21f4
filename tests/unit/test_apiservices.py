"""APIServices that are not available: what is kept of them, and what is said."""

import msgspec
import pytest

from doctor.bundle.schema import ProbePodRecord
from doctor.collect.resources import RESOURCES, reduce_items
from doctor.engine.notices import notices
from doctor.evidence.tables import Tables
from doctor.model.kube import APIService
from tests.unit.support import api, bundle

SERVED = {"service": {"name": "metrics-server", "namespace": "monitoring", "port": 443}}


def reduced(conditions: list[dict[str, str]] | None, spec: object = SERVED) -> APIService:
    """Read an APIService as a run does."""
    document = {
        "metadata": {"name": "v1.metrics.example", "annotations": {"a": "b"}},
        "spec": spec,
        "status": {"conditions": conditions},
    }
    raw = msgspec.Raw(msgspec.json.encode(document))
    (item,) = reduce_items(RESOURCES["apiservices"], [raw])
    assert isinstance(item, APIService)
    return item


def condition(status: str, message: str = "", kind: str = "Available") -> dict[str, str]:
    """Make a condition."""
    return {"type": kind, "status": status, "reason": "MissingEndpoints", "message": message}


@pytest.mark.parametrize(
    ("conditions", "spec", "why"),
    [
        ([condition("True")], SERVED, ""),
        ([condition("False", "no endpoints")], SERVED, "no endpoints"),
        ([condition("Unknown")], SERVED, "MissingEndpoints"),
        ([], SERVED, "not available yet"),
        (None, SERVED, "not available yet"),
        ([condition("False", kind="Other"), condition("True")], SERVED, ""),
        ([condition("False")], {"group": "apps"}, ""),
        (None, {"service": None}, ""),
    ],
)
def test_one_that_another_server_serves_may_be_away(
    conditions: list[dict[str, str]] | None, spec: object, why: str
) -> None:
    assert reduced(conditions, spec).unavailable == why


def test_only_what_is_judged_is_kept() -> None:
    item = reduced([condition("True", "secret", kind="Other"), condition("True")])
    assert b"secret" not in msgspec.json.encode(item)
    assert item.annotations == {}
    assert item.spec.service is not None
    assert (item.spec.service.namespace, item.spec.service.name) == ("monitoring", "metrics-server")


AWAY, THERE = reduced([condition("False")]), reduced([condition("True")])


@pytest.mark.parametrize(
    ("service", "record", "said"),
    [
        (AWAY, ProbePodRecord("n0", "10.244.0.9", namespace="default"), True),
        (AWAY, ProbePodRecord("n0", "10.244.0.9", namespace="wwwm-doctor-1"), False),
        (AWAY, ProbePodRecord("n0", "", reason="full", namespace="default"), False),
        (AWAY, ProbePodRecord("n0", "10.244.0.9"), False),
        (THERE, ProbePodRecord("n0", "10.244.0.9", namespace="default"), False),
    ],
)
def test_that_probe_pods_ran_elsewhere_is_said(
    service: APIService,
    record: ProbePodRecord,
    said: bool,  # noqa: FBT001
) -> None:
    found = notices(Tables(bundle(api("apiservices", service), record)), set())
    text = "APIService v1.metrics.example is unavailable, and a new namespace could not be removed"
    assert found == ((f"{text} again: probe pods ran in namespace default",) if said else ())
