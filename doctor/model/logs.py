"""The last words of a container: what tells why it does not run, in its own words."""

import msgspec

__all__ = ["ContainerLog", "LogLine"]


class LogLine(msgspec.Struct, frozen=True):
    """One line.

    Args:
        text: As it was written, without control characters and without what may be a secret.
        at: RFC 3339 time at which the runtime received it; empty where it did not say.
    """

    text: str
    at: str = ""


class ContainerLog(msgspec.Struct, frozen=True):
    """The end of a container's log.

    Args:
        pod: ``namespace/name``.
        node: The node that the pod is bound to.
        container: The container's name, that of an init container included.
        lines: The last lines, in order, as far as they are of a shape that system programs write.
        previous: Whether they are of the run before the present one.
        seconds: How far they go back at most; 0 where any age was asked for.
    """

    pod: str
    node: str
    container: str
    lines: tuple[LogLine, ...] = ()
    previous: bool = False
    seconds: int = 0

    @property
    def evidence(self) -> str:
        """The id of the record that it was read from."""
        return f"log:{self.pod}/{self.container}"

    def said(self, *words: str) -> LogLine | None:
        """Return the last line that contains all of these words, or None."""
        return next((x for x in reversed(self.lines) if all(w in x.text for w in words)), None)
