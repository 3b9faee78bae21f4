"""Packets sent on purpose, to see whether a fault bites."""

import sys
from collections.abc import Sequence
from typing import Final, Literal

from tests.lab.lab import Lab
from tests.lab.topology import PROXY, ROUTER

# the machine may have a proxy of its own, which nobody in here is to ask
_CURL: Final = ("curl", "-sS", "--noproxy", "*", "-o", "/dev/null")
COULD_NOT_CONNECT: Final = 7
TIMED_OUT: Final = 28
# longer than the three seconds after which an unanswered ARP becomes "host unreachable"
PATIENCE: Final = 4

Transport = Literal["udp", "tcp"]

# asks for the address of the API server's service, in as few lines as the question needs
_QUERY: Final = """\
import socket, struct, sys
server, transport, name = sys.argv[1:]
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
query = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">HH", 1, 1)
kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
with socket.socket(socket.AF_INET, kind) as link:
    link.settimeout(2)
    try:
        link.connect((server, 53))
        link.sendall(query if transport == "udp" else struct.pack(">H", len(query)) + query)
        print("answer" if link.recv(512) else "closed")
    except TimeoutError:
        print("timeout")
    except OSError as error:
        print(error.strerror)
"""


def dns(lab: Lab, vantage: str, server: str, transport: Transport) -> str:
    """Ask a DNS server for a name of the cluster.

    Returns:
        `answer`, `timeout` or the system's word for what went wrong.
    """
    name = f"kubernetes.default.svc.{lab.shape.cluster_domain}"
    script = (sys.executable, "-I", "-c", _QUERY, server, transport, name)
    return lab.at(vantage, *script).stdout.strip()


def curl(lab: Lab, vantage: str, url: str, *options: str, seconds: float = 2) -> int:
    """Fetch a URL and return curl's exit code."""
    bounded = ("-k", "--max-time", str(seconds))
    return lab.at(vantage, *_CURL, *bounded, *options, url, check=False).returncode


def status(lab: Lab, vantage: str, url: str, *options: str) -> str:
    """Fetch a URL and return the status of the answer, `000` without one."""
    bounded = ("-w", "%{http_code}", "--max-time", str(PATIENCE))
    return lab.at(vantage, *_CURL, *bounded, *options, url, check=False).stdout.strip()


def site_status(lab: Lab) -> str:
    """The status that somebody in front of the proxy host gets for the site."""
    shape = lab.shape
    return status(
        lab, PROXY, f"http://{shape.proxy_address}:{shape.proxy_port}/", *host(shape.host)
    )


def vip_status(lab: Lab, name: str) -> str:
    """The status that the load balancer's address gives for a host, seen from the proxy host."""
    return status(lab, PROXY, f"http://{lab.vip()}/", *host(name))


def host(name: str) -> tuple[str, str]:
    """The options that make curl ask for a host."""
    return ("-H", f"Host: {name}")


def forget_neighbour(lab: Lab, address: str) -> None:
    """Make the router ask again who has an address."""
    lab.at(ROUTER, "ip", "neigh", "flush", "to", address)


def unanswered_arp(lab: Lab, address: str) -> bool:
    """Whether nobody tells the router who has an address when the proxy host asks for it."""
    if curl(lab, PROXY, f"http://{address}/", seconds=PATIENCE) not in {
        COULD_NOT_CONNECT,
        TIMED_OUT,
    }:
        return False
    state = lab.at(ROUTER, "ip", "neigh", "show", "to", address).stdout.split()
    return bool({"FAILED", "INCOMPLETE"} & set(state))


def drops(matches: Sequence[str]) -> str:
    """The statements of a filter that drops what matches."""
    return "".join(f"{match} counter drop\n" for match in matches)
