"""What was counted while one node sent another a burst through the pods' network."""

import msgspec

__all__ = ["COUNTED", "Burst", "Hit"]

COUNTED = "counted"
"""What the names of such readings begin with; then comes how many rounds were over."""


class Hit(msgspec.Struct, frozen=True):
    """A rule that dropped or rejected packets during a burst."""

    node: str
    chain: str
    text: str
    packets: int


class Burst(msgspec.Struct, frozen=True):
    """One burst. What could not be read at an end is None.

    Args:
        sender: The node that sent it.
        receiver: The node that it was meant for.
        sent: How many packets.
        answered: How many of them were answered.
        left: How many more packets the sender's VXLAN device sent, those aside that answer others.
        unsent: How many more it could not send.
        arrived: How many more UDP packets the receiver took in, whoever they were for, but for those
            that its VXLAN device received.
        closed: How many of UDP came to a port of the receiver's where nothing listens.
        damaged: How many of UDP had a wrong checksum.
        taken: How many more packets the receiver's VXLAN device received, answers aside.
        refused: How many more it received and dropped.
        wrong_way: How many the receiver dropped since the way back leads elsewhere (rp_filter).
        hits: The rules that dropped or rejected at least half as many, at either end.
        evidence: Ids of what was seen and read.
    """

    sender: str
    receiver: str
    sent: int
    answered: int = 0
    left: int | None = None
    unsent: int | None = None
    arrived: int | None = None
    closed: int | None = None
    damaged: int | None = None
    taken: int | None = None
    refused: int | None = None
    wrong_way: int | None = None
    hits: tuple[Hit, ...] = ()
    evidence: tuple[str, ...] = ()

    def most(self, counted: int | None) -> bool:
        """Say whether at least half of the burst was counted somewhere."""
        return counted is not None and counted * 2 >= self.sent

    @property
    def lost_between(self) -> bool:
        """Whether it left, and nothing of it came to the other node's UDP, VXLAN or rules."""
        known = self.left is not None and self.arrived is not None and self.taken is not None
        came = (self.closed, self.damaged, self.taken, self.wrong_way)
        nothing = not any(map(self.most, came)) and not self.arrives and not self.hits
        return known and self.most(self.left) and nothing

    @property
    def arrives(self) -> bool:
        """Whether all of it may have arrived; a part of what UDP takes in is always others'."""
        return self.arrived is not None and self.arrived >= self.sent
