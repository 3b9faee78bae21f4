"""Lines of containers' logs: shortened, cleaned, and without what may be a secret. Pure."""

import re

from doctor.model.logs import LogLine

__all__ = ["clean_text", "parse_log"]

_LONGEST = 600
_HIDDEN = "[hidden]"

_AT = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (.*)", re.ASCII
)
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}[A-Za-z]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_SHAPES = re.compile(
    r"[IWEF]\d{4} \d\d:\d\d:\d\d"  # klog: flannel, kube-proxy
    r"|\[(INFO|WARNING|ERROR|FATAL|PANIC|DEBUG|NOTICE)\] "  # CoreDNS
    r'|\{"'  # JSON: MetalLB
    r"|\S{1,80}:\d+ - (Error|Warning) "  # CoreDNS, of its Corefile
    r"|CoreDNS-|\.:\d+$|linux/|maxprocs: "
    r"|panic: |fatal error: |runtime error: |[Ee]rror: |Error |[Ff]ailed |listen |Listen"
    r"|plugin/|loading Caddyfile|exec |exec: "
    r"|(cp|mv|mkdir|rm|sh|cat|iptables|modprobe|standard_init_linux\.go|OCI runtime)[: ]"
)
_QUERY = re.compile(r"\[INFO\] \S{1,64}:\d+ - \d+ \"")
_SECRETS = (
    re.compile(r"eyJ[\w-]{8,}\.[\w-]+(\.[\w-]*)?"),
    re.compile(r"(?i)(?<=\bbearer )\S+"),
    re.compile(r"(?i)(?<=\bbasic )[\w+/=]{8,}"),
    re.compile(r"(?<=://)[^\s/@\"']{1,256}(?=@)"),
    re.compile(r"-----BEGIN[^-]{0,64}-----.*"),
    re.compile(
        r"(?<![\w/.+-])(?=[\w+/-]{0,60}\d)(?=[\w+/-]{0,60}[A-Z])[A-Za-z0-9+][\w+/-]{40,}={0,2}"
    ),
)
_NAMED = re.compile(
    r"(?i)(?<![/\w.-])([\w.-]{0,40}(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|authorization|credentials?))(\\?[\"']?\s?[:=]\s?\\?[\"']?)(?!/)([^\s\"',;}\\]+)"
)


def parse_log(text: str) -> tuple[LogLine, ...]:
    """Take a log apart.

    Args:
        text: What the API server gave, with or without a time before each line.

    Returns:
        The lines of a shape that system programs write: what else a container prints is nothing
        that is judged, and may hold anything. Lines about single queries are left out.
    """
    found = (_line(raw) for raw in text.split("\n"))
    return tuple(x for x in found if x.text and _SHAPES.match(x.text) and not _QUERY.match(x.text))


def _line(raw: str) -> LogLine:
    """Take one line apart."""
    timed = _AT.match(raw[: 2 * _LONGEST])
    at, text = (timed[1], timed[2]) if timed else ("", raw)
    return LogLine(clean_text(text), at)


def clean_text(text: str, longest: int = _LONGEST) -> str:
    """Shorten a text to one line, and take control characters and what may be a secret out of it.

    Args:
        text: Anything.
        longest: How many characters are kept.
    """
    plain = _CONTROL.sub(" ", _COLOUR.sub("", text[: 4 * longest])).strip()
    for secret in _SECRETS:
        plain = secret.sub(_HIDDEN, plain)
    plain = _NAMED.sub(rf"\1\2{_HIDDEN}", plain)
    return plain[:longest]
