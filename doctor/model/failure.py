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
        """Whether nothing came back at all: the mark of a filter, not of a refusal."""
        return self in {Failure.TIMEOUT, Failure.NO_ROUTE, Failure.ARP_UNANSWERED}
