"""Facts about a certificate that a server showed."""

import msgspec

__all__ = ["SKEW", "Certificate", "Vouching"]

SKEW = 600
"""Seconds by which our clock may be behind that of who issued a certificate a moment ago."""


class Certificate(msgspec.Struct, frozen=True):
    """One X.509 certificate, reduced to what is judged.

    Args:
        subject: Its subject in RFC 4514 form.
        issuer: Its issuer in RFC 4514 form.
        names: The DNS names and addresses it is for; the common name does not count (RFC 6125).
            None where they are not all known.
        begins: Unix time from which it is valid.
        ends: Unix time until which it is valid.
    """

    subject: str
    issuer: str
    names: tuple[str, ...] | None
    begins: float
    ends: float

    def covers(self, name: str) -> bool | None:
        """Say whether it is for a name; a wildcard stands for one label. None: that is not known."""
        if self.names is None:
            return None
        host = name.lower().rstrip(".")
        rest = host.partition(".")[2]
        return any(n.lower() == host or (rest and n.lower() == f"*.{rest}") for n in self.names)


class Vouching(msgspec.Struct, frozen=True):
    """Whether authorities stand behind a certificate.

    Args:
        trusted: None where that is not known.
        flaw: Why one that signed it does not count, with its name; empty where none signed it.
    """

    trusted: bool | None
    flaw: str = ""
