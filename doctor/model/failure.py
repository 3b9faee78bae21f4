"""What can go wrong with one probe: a closed list of words, as seen on the wire."""

from enum import StrEnum

__all__ = ["Failure"]


class Failure(StrEnum):
    """How a probe failed. A word of the wire, never a judgement."""

    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    NO_ROUTE = "no_route"
    NETWORK_UNREACHABLE = "network_unreachable"
    HOST_PROHIBITED = "host_prohibited"
    PORT_UNREACHABLE = "port_unreachable"
    TOO_BIG = "too_big"
    PERMISSION_DENIED = "permission_denied"
    DNS_NXDOMAIN = "dns_nxdomain"
    DNS_SERVFAIL = "dns_servfail"
    DNS_REFUSED = "dns_refused"
    DNS_NO_ANSWER = "dns_no_answer"
    HTTP_MALFORMED = "http_malformed"
    TLS_FAILED = "tls_failed"
    TLS_UNKNOWN_AUTHORITY = "tls_unknown_authority"
    TLS_EXPIRED = "tls_expired"
    TLS_NAME_MISMATCH = "tls_name_mismatch"
    ARP_UNANSWERED = "arp_unanswered"
    UNKNOWN = "unknown"

    @property
    def silent(self) -> bool:
        """Whether what was sent counts as lost: the mark of a filter, not of a refusal."""
        return self in {Failure.TIMEOUT, Failure.NO_ROUTE, Failure.ARP_UNANSWERED}

    @property
    def unanswered(self) -> bool:
        """Whether the one asked gave no answer: there was silence, or a word from others instead.

        A filter that rejects tells so by ICMP, and Linux makes "no route to host" of it as of a
        host that is not there: where the ICMP error is not seen, either is NO_ROUTE.
        """
        return self.silent or self in {Failure.NETWORK_UNREACHABLE, Failure.HOST_PROHIBITED}

    @property
    def refused(self) -> bool:
        """Whether the port is said to be closed; of UDP, ICMP says it."""
        return self in {Failure.CONNECTION_REFUSED, Failure.PORT_UNREACHABLE}
