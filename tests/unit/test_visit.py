"""What a visitor does, within the run's time."""

from doctor.collect import visit
from doctor.collect.deadline import Deadline
from doctor.model.flow import Flow, FlowKind, Purpose, Vantage, VantageKind
from tests.unit.loopback import closed_port

HERE = Vantage(VantageKind.MACHINE)


def flows(count: int) -> list[Flow]:
    """Dial a port of loopback on which nothing listens."""
    port = closed_port()
    return [
        Flow(f"f{n}", Purpose.TARGET, HERE, FlowKind.TCP, "127.0.0.1", port) for n in range(count)
    ]


def test_all_are_carried_out_while_there_is_time() -> None:
    asked = flows(20)
    seen, late = visit._in_time(asked, Deadline(60))
    assert [o.flow for o in seen] == asked
    assert late == []


def test_none_is_begun_after_the_deadline() -> None:
    asked = flows(20)
    assert visit._in_time(asked, Deadline(0)) == ([], asked)
