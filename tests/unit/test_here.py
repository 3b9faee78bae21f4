"""What is asked from this machine, within the run's time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from doctor.collect.deadline import Deadline
from doctor.collect.here import observe_all
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from tests.unit.loopback import closed_port, serving

HERE = Vantage(VantageKind.MACHINE)


def flows(count: int, kind: FlowKind = FlowKind.TCP, port: int = 0) -> list[Flow]:
    """Dial a port of loopback; by default one on which nothing listens."""
    asked = port or closed_port()
    return [
        Flow(f"f{n}", Purpose.TARGET, HERE, kind, "127.0.0.1", asked, "a.example")
        for n in range(count)
    ]


def test_all_are_carried_out_while_there_is_time() -> None:
    asked = flows(20)
    seen, late = observe_all(asked, Deadline(60))
    assert [o.flow for o in seen] == asked
    assert late == []
    assert observe_all([], Deadline(60)) == ([], [])


def test_none_is_begun_after_the_deadline() -> None:
    asked = flows(20)
    assert observe_all(asked, Deadline(0)) == ([], asked)


def test_what_goes_wrong_here_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="a socket cannot do arp"):
        observe_all(flows(3, FlowKind.ARP), Deadline(60))


def test_an_interrupted_run_waits_for_no_flow() -> None:
    """The server holds on to the requests until the test has seen the end of the wait."""
    deadline, begun, free = Deadline(600), threading.Event(), threading.Event()

    def hold(_connection: object) -> None:
        begun.set()
        free.wait(30)

    with serving(hold) as port, ThreadPoolExecutor(1) as pool:
        asked = flows(20, FlowKind.HTTP, port)
        doing = pool.submit(observe_all, asked, deadline)
        try:
            assert begun.wait(20)
            deadline.cut()
            assert doing.result(timeout=3) == ([], asked)
        finally:
            free.set()
