"""The rule that leads to the site, and the class it belongs to."""

from typing import Final

from tests.lab.faults.model import Fault, all_but, no_names
from tests.lab.faults.objects import Json, Ref, edit, get, restore
from tests.lab.faults.traffic import site_status, vip_status
from tests.lab.lab import Lab

HOST: Final = "ingress-host-mismatch"
CLASS: Final = "ingress-class-missing"
HONOURED: Final = "decoy-class-annotation-honoured"
ANNOTATION: Final = "kubernetes.io/ingress.class"
ABSENT_CLASS: Final = "nginx"
_NOT_FOUND: Final = "404"
_OK: Final = "200"
_ECHOES: Final = all_but("INGRESS_")


def _ref(lab: Lab) -> Ref:
    return Ref(kind="ingress", name=lab.shape.ingress, namespace=lab.shape.app_namespace)


def _wrong_host(lab: Lab) -> str:
    """A host that nobody asks for."""
    return f"www.{lab.shape.host}"


def _inject_host(lab: Lab) -> None:
    def change(ingress: Json) -> None:
        for rule in ingress["spec"]["rules"]:
            rule["host"] = _wrong_host(lab)

    edit(lab, HOST, _ref(lab), change)


def _settled_host(lab: Lab) -> bool:
    return site_status(lab) == _NOT_FOUND and vip_status(lab, _wrong_host(lab)) == _OK


def _annotate_only(lab: Lab, fault: str, name: str) -> None:
    """Name the class by the annotation that was deprecated in favour of the field."""

    def change(ingress: Json) -> None:
        ingress["spec"].pop("ingressClassName", None)
        ingress["metadata"].setdefault("annotations", {})[ANNOTATION] = name

    edit(lab, fault, _ref(lab), change)


def _annotated(lab: Lab) -> str | None:
    """The class that the Ingress names by annotation alone."""
    found = get(lab, _ref(lab))
    if "ingressClassName" in found["spec"]:
        return None
    name: str | None = found["metadata"].get("annotations", {}).get(ANNOTATION)
    return name


def _inject_class(lab: Lab) -> None:
    _annotate_only(lab, CLASS, ABSENT_CLASS)


def _settled_class(lab: Lab) -> bool:
    return _annotated(lab) == ABSENT_CLASS and site_status(lab) == _NOT_FOUND


def _inject_honoured(lab: Lab) -> None:
    _annotate_only(lab, HONOURED, lab.shape.ingress_class)


def _settled_honoured(lab: Lab) -> bool:
    return _annotated(lab) == lab.shape.ingress_class and lab.site_answers()


def _heal_host(lab: Lab) -> None:
    restore(lab, HOST)


def _heal_class(lab: Lab) -> None:
    restore(lab, CLASS)


def _heal_honoured(lab: Lab) -> None:
    restore(lab, HONOURED)


FAULTS: Final = (
    Fault(
        name=HOST,
        link="ingress",
        story="The Ingress has a rule for a host that nobody asks for, so the real one gets a 404.",
        expected=frozenset({"INGRESS_HOST_MISMATCH"}),
        # part of the host that is there, too
        names=lambda lab: (lab.shape.host,),
        forbidden=_ECHOES | {"INGRESS_CLASS_NOT_SERVED"},
        lookalikes=(CLASS, "host-header-lost", "selector-matches-nothing"),
        inject=_inject_host,
        settled=_settled_host,
        heal=_heal_host,
        without_url=False,
    ),
    Fault(
        name=CLASS,
        link="ingress",
        story=(
            "The Ingress names its class by the deprecated annotation alone, and a class that no"
            " controller here serves."
        ),
        expected=frozenset({"INGRESS_CLASS_NOT_SERVED"}),
        names=lambda lab: (lab.shape.ingress,),
        forbidden=_ECHOES | {"INGRESS_HOST_MISMATCH"},
        lookalikes=(HOST, "host-header-lost", "selector-matches-nothing", HONOURED),
        inject=_inject_class,
        settled=_settled_class,
        heal=_heal_class,
    ),
    Fault(
        name=HONOURED,
        link="ingress",
        story=(
            "The Ingress names its class by the deprecated annotation alone, which the controller"
            " here honours."
        ),
        expected=frozenset(),
        names=no_names,
        forbidden=frozenset({"*"}),
        lookalikes=(CLASS,),
        inject=_inject_honoured,
        settled=_settled_honoured,
        heal=_heal_honoured,
        decoy=True,
    ),
)
