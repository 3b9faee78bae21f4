"""What the tools print, read: recorded output of each kind, and any text at all."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doctor.model.failure import Failure
from doctor.model.flow import FlowKind, Observation
from doctor.probe.relay import Reading, read_frames, read_observations
from doctor.probe.relay_frames import Frame, Frames, Tools
from tests.unit.dns_answers import NOERROR, dns_answer
from tests.unit.relay_bench import flow

TOOLS = Tools(
    folder="made",
    timeout="timeout",
    nc="busybox",
    tcp="nc",
    udp="none",
    encoding="base64",
    nslookup="nslookup",
    ping="ping",
    arping="busybox",
)
RAW = Tools(folder="made", nc="openbsd", tcp="nc", udp="nc", encoding="base64")
BASH = Tools(folder="made", nc="none", tcp="bash", udp="bash", encoding="base64")


def read(kind: FlowKind, *frames: Frame, tools: Tools = TOOLS) -> Reading:
    """Read frames of one flow's samples."""
    jobs = dict(enumerate(frames))
    return read_observations((flow(kind, samples=len(frames)),), Frames(tools, jobs, ended=True))


def one(kind: FlowKind, frame: Frame, tools: Tools = TOOLS) -> Observation:
    """Read a frame that says something of the network."""
    (seen,) = read(kind, frame, tools=tools).observations
    return seen


BUSYBOX = "nc: can't connect to remote host (192.0.2.1): "
ALPINE = "nc: 192.0.2.1 (192.0.2.1:80): {}\nsent 0, rcvd 0"
OPENBSD = "nc: connect to 192.0.2.1 port 80 (tcp) failed: "
TRADITIONAL = "(UNKNOWN) [192.0.2.1] 80 (http) : {}\n sent 0, rcvd 0"
NCAT = "Ncat: Version 7.93 ( https://nmap.org/ncat )\nNcat: "
BASH_SAID = "192.0.2.1: connect: {0}\n192.0.2.1: line 1: /dev/tcp/192.0.2.1/80: {0}"


@pytest.mark.parametrize(
    ("stderr", "failure"),
    [
        (f"{BUSYBOX}Connection refused", Failure.CONNECTION_REFUSED),
        (f"{BUSYBOX}No route to host", Failure.NO_ROUTE),
        (f"{BUSYBOX}Host is unreachable", Failure.NO_ROUTE),
        (f"{BUSYBOX}Network is unreachable", Failure.NETWORK_UNREACHABLE),
        (f"{BUSYBOX}Network unreachable", Failure.NETWORK_UNREACHABLE),
        (f"{BUSYBOX}Operation not permitted", Failure.PERMISSION_DENIED),
        (f"{BUSYBOX}Permission denied", Failure.PERMISSION_DENIED),
        ("nc: timed out", Failure.TIMEOUT),
        (ALPINE.format("Connection refused"), Failure.CONNECTION_REFUSED),
        (ALPINE.format("Host is unreachable"), Failure.NO_ROUTE),
        (ALPINE.format("Operation timed out"), Failure.TIMEOUT),
        (f"{OPENBSD}Connection refused", Failure.CONNECTION_REFUSED),
        (f"{OPENBSD}No route to host", Failure.NO_ROUTE),
        (
            "nc: connect to 192.0.2.1 port 80 (tcp) timed out: Operation now in progress",
            Failure.TIMEOUT,
        ),
        (TRADITIONAL.format("Connection refused"), Failure.CONNECTION_REFUSED),
        (TRADITIONAL.format("No route to host"), Failure.NO_ROUTE),
        (TRADITIONAL.format("Connection timed out"), Failure.TIMEOUT),
        (f"{NCAT}Connection refused.", Failure.CONNECTION_REFUSED),
        (f"{NCAT}No route to host.", Failure.NO_ROUTE),
        (f"{NCAT}Network is unreachable.", Failure.NETWORK_UNREACHABLE),
        (f"{NCAT}TIMEOUT.", Failure.TIMEOUT),
        (BASH_SAID.format("Connection refused"), Failure.CONNECTION_REFUSED),
        (BASH_SAID.format("No route to host"), Failure.NO_ROUTE),
    ],
)
@pytest.mark.parametrize("kind", [FlowKind.TCP, FlowKind.HTTP, FlowKind.TLS, FlowKind.DNS_TCP])
def test_how_a_connection_fails(kind: FlowKind, stderr: str, failure: Failure) -> None:
    seen = one(kind, Frame(1, 0.1, "", stderr))
    assert (seen.failure, seen.seconds, seen.sent) == (failure, 0.1, 1)
    assert seen.lost == (failure in (Failure.NO_ROUTE, Failure.TIMEOUT))
    assert "sent 0" not in seen.detail
    assert seen.detail


@pytest.mark.parametrize("status", [124, 137, 143])
@pytest.mark.parametrize("stderr", ["", "Terminated", "punt!", f"{NCAT}Connected to 192.0.2.1:80."])
def test_what_had_to_be_ended_is_a_timeout(status: int, stderr: str) -> None:
    for kind in (FlowKind.TCP, FlowKind.HTTP, FlowKind.DNS_UDP):
        assert one(kind, Frame(status, 5.0, "", stderr)).failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, 0.1, "", ""),
        Frame(127, 0.1, "", "nc: can't execute 'true': No such file or directory"),
    ],
)
def test_a_connection_that_was_made(frame: Frame) -> None:
    seen = one(FlowKind.TCP, frame)
    assert (seen.failure, seen.sent, seen.lost) == (None, 1, 0)


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "192.0.2.1 (192.0.2.1:80) open\nsent 5, rcvd 0",
        "(UNKNOWN) [192.0.2.1] 80 (http) open\n sent 5, rcvd 0",
        "Connection to 192.0.2.1 80 port [tcp/*] succeeded!",
        f"{NCAT}Connected to 192.0.2.1:80.\nNcat: 5 bytes sent, 0 bytes received in 0.06 seconds.",
        "0+0 records in\n0+0 records out\n0 bytes copied, 0.0001 s, 0.0 kB/s",
        "0+0 records in\n0+0 records out",
        "0+0 records in\n0+0 records out\ndd: error reading 'standard input': Connection reset by peer",
    ],
)
def test_who_closes_without_a_word(stderr: str) -> None:
    for kind in (FlowKind.HTTP, FlowKind.TLS, FlowKind.DNS_TCP):
        assert one(kind, Frame(0, 0.1, "", stderr)).failure is Failure.CONNECTION_RESET
    assert one(FlowKind.HTTP, Frame(0, 5.9, "", "")).failure is Failure.TIMEOUT


@pytest.mark.parametrize(
    ("stderr", "failure"),
    [
        ("dd: error reading 'standard input': Connection refused", Failure.CONNECTION_REFUSED),
        ("dd: error reading 'standard input': No route to host", Failure.NO_ROUTE),
        ("bash: connect: Network is unreachable", Failure.NETWORK_UNREACHABLE),
        ("dd: writing 'standard output': Operation not permitted", Failure.PERMISSION_DENIED),
    ],
)
def test_how_a_datagram_fails(stderr: str, failure: Failure) -> None:
    assert one(FlowKind.DNS_UDP, Frame(1, 0.1, "", stderr), BASH).failure is failure


def test_an_nc_that_does_not_say_which_error_came() -> None:
    seen = one(FlowKind.DNS_UDP, Frame(0, 0.1, "", ""), RAW)
    assert (seen.failure, seen.detail[:13]) == (Failure.UNKNOWN, "an ICMP error")
    assert one(FlowKind.DNS_UDP, Frame(124, 3.0, "", ""), RAW).failure is Failure.TIMEOUT


def test_an_answer_as_bytes_in_either_encoding() -> None:
    from doctor.probe.dnswire import query_bytes

    wire = dns_answer(query_bytes(flow(FlowKind.DNS_UDP).name, tcp=False), NOERROR, "192.0.2.9")
    text = base64.encodebytes(wire).decode()
    assert one(FlowKind.DNS_UDP, Frame(143, 0.1, text, ""), RAW).answers == ("192.0.2.9",)
    hexed = Tools(folder="made", nc="ncat", tcp="nc", udp="nc", encoding="od")
    dump = "\n".join(f" {wire[n : n + 16].hex(' ')}" for n in range(0, len(wire), 16))
    assert one(FlowKind.DNS_UDP, Frame(143, 0.1, dump, ""), hexed).answers == ("192.0.2.9",)


SERVER = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\n"
BIND = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\n"
LOST = ";; communications error to 10.96.0.10#53: "


@pytest.mark.parametrize(
    ("stdout", "stderr", "failure", "answers"),
    [
        (
            f"{SERVER}Name:\tk\nAddress: 10.96.0.2\nAddress: 10.96.0.1\n",
            "",
            None,
            ("10.96.0.1", "10.96.0.2"),
        ),
        (f"{BIND}Name:\tk\nAddress: 10.96.0.1\n", "", None, ("10.96.0.1",)),
        (f"{SERVER}** server can't find k: NXDOMAIN", "", Failure.DNS_NXDOMAIN, ()),
        (f"{SERVER}** server can't find k: SERVFAIL", "", Failure.DNS_SERVFAIL, ()),
        (f"{BIND}** server can't find k: REFUSED", "", Failure.DNS_REFUSED, ()),
        (f"{BIND}** server can't find k: FORMERR", "", Failure.DNS_NO_ANSWER, ()),
        (f"{BIND}*** Can't find k: No answer", "", Failure.DNS_NO_ANSWER, ()),
        (f"{SERVER}*** Can't find k: Parse error", "", Failure.DNS_NO_ANSWER, ()),
        (SERVER, "", Failure.DNS_NO_ANSWER, ()),
        (
            f"{SERVER}k\tcanonical name = connection refused: nxdomain.\n",
            "",
            Failure.DNS_NO_ANSWER,
            (),
        ),
        (";; connection timed out; no servers could be reached", "", Failure.TIMEOUT, ()),
        (f"{LOST}timed out\n;; no servers could be reached", "", Failure.TIMEOUT, ()),
        (
            f"{LOST}connection refused\n;; no servers could be reached",
            "",
            Failure.CONNECTION_REFUSED,
            (),
        ),
        (f"{LOST}host unreachable\n;; no servers could be reached", "", Failure.NO_ROUTE, ()),
        (
            ";; connection timed out; no servers could be reached",
            "nslookup: read: Connection refused",
            Failure.CONNECTION_REFUSED,
            (),
        ),
        (
            ";; connection timed out; no servers could be reached",
            "nslookup: write to '10.96.0.10': Network is unreachable",
            Failure.NETWORK_UNREACHABLE,
            (),
        ),
    ],
)
def test_what_nslookup_prints(
    stdout: str, stderr: str, failure: Failure | None, answers: tuple[str, ...]
) -> None:
    seen = one(FlowKind.DNS_UDP, Frame(0, 0.1, stdout, stderr))
    assert (seen.failure, seen.answers) == (failure, answers)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        (FlowKind.TCP, Frame(127, 0, "", "sh: nc: not found")),
        (FlowKind.TCP, Frame(126, 0, "", "timeout: failed to run command 'nc': Permission denied")),
        (FlowKind.TCP, Frame(1, 0, "", "nc: bad address 'None'")),
        (FlowKind.TCP, Frame(1, 0, "odd " * 5000, "")),
        (FlowKind.TCP, Frame(1, 0, "", "nc: socket(2,1,0): Operation not permitted")),
        (FlowKind.DNS_UDP, Frame(127, 0, "", "sh: nslookup: not found")),
        (FlowKind.DNS_UDP, Frame(1, 0, "", "nslookup: bad option")),
        (FlowKind.HTTP, Frame(0, 0, "no base64!", "")),
        (FlowKind.HTTP, Frame(127, 0, "", "")),
        (FlowKind.TLS, Frame(1, 0, "", "sh: mkfifo: not found")),
        (FlowKind.DNS_TCP, Frame(0, 0, "é", "")),
    ],
)
def test_what_says_nothing_of_the_network_is_unseen(kind: FlowKind, frame: Frame) -> None:
    reading = read(kind, frame)
    assert reading.observations == ()
    ((_, reason),) = reading.unseen
    assert " said: " in reason or "encoded" in reason
    assert len(reason) < 300


def test_samples_make_one_observation() -> None:
    quick, slow = Frame(0, 0.1, "", ""), Frame(0, 1.02, "", "")
    middle = Frame(0, 0.3, "", "")
    refused = Frame(1, 0.2, "", f"{BUSYBOX}Connection refused")
    late = Frame(1, 1.2, "", f"{BUSYBOX}Connection refused")
    silent = Frame(1, 4.0, "", "nc: timed out")
    odd = Frame(127, 0, "", "sh: nc: not found")
    (seen,) = read(FlowKind.TCP, silent, middle, quick, refused, odd, slow).observations
    # One stayed silent and one SYN had to be sent anew; what could not be asked does not count.
    assert (seen.failure, seen.seconds, seen.sent, seen.lost) == (None, 0.3, 5, 2)
    assert seen.detail == "of 5 samples: 3 answered, 1 connection_refused, 1 timeout"
    # A refusal is an answer, and says more than silence.
    (seen,) = read(FlowKind.TCP, silent, late, silent, silent).observations
    assert (seen.failure, seen.sent, seen.lost) == (Failure.CONNECTION_REFUSED, 4, 4)
    (seen,) = read(FlowKind.TCP, refused, refused).observations
    assert (seen.sent, seen.lost, seen.detail[:23]) == (2, 0, "nc: can't connect to re")
    # One sample alone is no measure of loss, and another protocol may be slow by itself.
    assert one(FlowKind.TCP, slow).lost == 0
    ncat = msgspec.structs.replace(TOOLS, nc="ncat")  # which is slow by itself
    (seen,) = read(FlowKind.TCP, slow, quick, tools=ncat).observations
    assert (seen.sent, seen.lost) == (2, 0)
    page = base64.b64encode(b"HTTP/1.1 200 OK\r\n\r\n").decode()
    (seen,) = read(FlowKind.HTTP, Frame(0, 1.5, page, ""), Frame(0, 0.1, page, "")).observations
    assert (seen.status, seen.sent, seen.lost) == (200, 2, 0)


def test_addresses_of_all_samples_are_kept() -> None:
    answers = [f"{SERVER}Name:\tk\nAddress: 10.96.0.{n}\n" for n in (3, 1, 3)]
    (seen,) = read(FlowKind.DNS_UDP, *(Frame(0, 0.1, a, "") for a in answers)).observations
    assert (seen.answers, seen.sent, seen.lost) == (("10.96.0.1", "10.96.0.3"), 3, 0)


M = "@@0123456789abcdef "
WHOLE = (
    f"{M}tools folder=made nc=ncat lacks=,dd,od\n"
    f"{M}0 1 10.00 12.50\nout @\nmore\n{M}err\nrefused\n"
    f"{M}1 0 1.0 0.5\n\n{M}err\n\n{M}end\n"
)


def test_frames() -> None:
    frames = read_frames(f"a banner\n{WHOLE}")
    assert frames == Frames(
        Tools(folder="made", nc="ncat", lacks=frozenset({"dd", "od"})),
        {0: Frame(1, 2.5, "out @\nmore", "refused"), 1: Frame(0, 0.0, "", "")},
        ended=True,
    )


@pytest.mark.parametrize("cut", range(len(WHOLE) - 2))
def test_a_text_that_was_cut_off_gives_what_is_whole(cut: int) -> None:
    frames, whole = read_frames(WHOLE[:cut]), read_frames(WHOLE)
    assert whole is not None
    if frames is None:
        assert cut < WHOLE.index("\n")
        return
    assert not frames.ended
    assert frames.jobs.items() <= whole.jobs.items()
    asked = (flow(FlowKind.TCP, 1), flow(FlowKind.TCP, 2))
    reading = read_observations(asked, frames)
    assert len(reading.observations) + len(reading.unseen) == 2


def test_what_was_cut_off_is_named() -> None:
    frames = read_frames(WHOLE[:-5])
    assert frames is not None
    reading = read_observations((flow(FlowKind.PING, 1), flow(FlowKind.TCP, 2)), frames)
    assert [reason for _, reason in reading.unseen][1] == "the relay's output was cut off"


@pytest.mark.parametrize(
    "head", ["0 x 1 2", "0 1 a b", "٣ 1 1 2", "0 1 nan 1", "9" * 5000 + " 1 1 1", "0 1 1", ""]
)
def test_a_frame_whose_head_is_odd_is_left_out(head: str) -> None:
    frames = read_frames(f"{M}tools folder=made\n{M}{head}\nout\n{M}err\n\n{M}end\n")
    assert frames is not None
    assert (frames.jobs, frames.ended) == ({}, True)


ANYTHING = st.lists(
    st.sampled_from(
        ["@@", M, "end", "err", "tools a=b", "0 1 1.0 2.0", "\n", " ", "\x00", "route mtu=1 "]
    )
    | st.text(max_size=3)
).map("".join)


@given(out=ANYTHING, err=ANYTHING)
def test_what_a_job_prints_stays_in_its_frame(out: str, err: str) -> None:
    other = M.replace("0123", "9876")
    out, err = out.replace(M, other), err.replace(M, other)
    text = f"{M}tools folder=made\n{M}0 1 1.00 2.00\n{out}\n{M}err\n{err}\n{M}end\n"
    frames = read_frames(text)
    assert frames is not None
    assert frames.jobs == {0: Frame(1, 1.0, out.strip(), err.strip())}
    assert frames.ended


@given(ANYTHING)
def test_any_text_is_read(text: str) -> None:
    frames = read_frames(f"{M}tools folder=made tcp=nc\n{text}")
    assert frames is not None
    asked = tuple(flow(k, 80) for k in FlowKind)
    reading = read_observations(asked, frames)
    assert len(reading.observations) + len(reading.unseen) == len(asked)
    read_frames(text)


@given(
    kind=st.sampled_from(FlowKind),
    status=st.integers(0, 255),
    out=st.text().map(lambda t: t * 40) | st.binary().map(lambda b: base64.b64encode(b).decode()),
    err=st.text().map(lambda t: t * 40),
    tools=st.sampled_from([TOOLS, RAW, BASH, Tools(), Tools(ping="plain", udp="none")]),
)
def test_whatever_a_job_prints_is_read(
    kind: FlowKind, status: int, out: str, err: str, tools: Tools
) -> None:
    reading = read(kind, Frame(status, 0.1, out, err), tools=tools)
    assert len(reading.observations) + len(reading.unseen) == 1
    assert all(len(o.detail) <= 300 for o in reading.observations)
    assert all(len(reason) <= 300 for _, reason in reading.unseen)
