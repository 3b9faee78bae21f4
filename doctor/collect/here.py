"""Flows that are carried out on this machine, within the run's time."""

import queue
import threading
from collections.abc import Iterable

from doctor.collect.deadline import Deadline
from doctor.model.flow import Flow, Observation
from doctor.probe.machine import observe

__all__ = ["observe_all"]

_WORKERS = 8
_LOOK_SECONDS = 0.1

_Seen = tuple[int, Observation | Exception | None]


def observe_all(flows: Iterable[Flow], deadline: Deadline) -> tuple[list[Observation], list[Flow]]:
    """Carry out flows side by side, while there is time.

    Once the time is up, or the run is interrupted, none is begun and none is waited for: those that
    are under way end by themselves, and keep nothing from ending.

    Args:
        flows: What is asked from here.
        deadline: When the run has to be over.

    Returns:
        What was seen, in the order of the flows, and the flows that were not seen.
    """
    asked = list(flows)
    waiting: queue.SimpleQueue[tuple[int, Flow]] = queue.SimpleQueue()
    for item in enumerate(asked):
        waiting.put(item)
    back: queue.SimpleQueue[_Seen] = queue.SimpleQueue()
    for _ in range(min(_WORKERS, len(asked))):
        # an executor's threads are waited for when the program ends
        threading.Thread(target=_work, args=(waiting, back, deadline), daemon=True).start()
    seen = _gather(back, len(asked), deadline)
    return [seen[n] for n in sorted(seen)], [f for n, f in enumerate(asked) if n not in seen]


def _work(
    waiting: queue.SimpleQueue[tuple[int, Flow]],
    back: queue.SimpleQueue[_Seen],
    deadline: Deadline,
) -> None:
    """Carry out one flow after the other until none is left."""
    while True:
        try:
            number, flow = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            back.put((number, None if deadline.passed else observe(flow)))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            back.put((number, error))


def _gather(
    back: queue.SimpleQueue[_Seen], count: int, deadline: Deadline
) -> dict[int, Observation]:
    """Wait for what comes back, as long as there is time."""
    seen: dict[int, Observation] = {}
    for _ in range(count):
        while True:
            try:
                number, found = back.get(timeout=_LOOK_SECONDS)
                break
            except queue.Empty:
                if deadline.passed:
                    return seen
        if isinstance(found, Exception):
            raise found
        if found is not None:
            seen[number] = found
    return seen
