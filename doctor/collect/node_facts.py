"""What is read inside a node: by a shell in a resident pod, or by kube-proxy's own programs."""

import secrets

import msgspec

from doctor.bundle.schema import CommandOutput, NodeRecord
from doctor.collect.kube import Api, ExecAnswer
from doctor.collect.node_script import CNI_FILE, READINGS_IN_ALL, node_script, read_outputs
from doctor.collect.shells import Shell
from doctor.parse.cni_conf import parse_cni_conf
from doctor.parse.iptables_save import shorten_tables

__all__ = ["most_bytes", "read_by_kube_proxy", "read_node"]

_EXEC_SECONDS = 20.0
_TOOL_SECONDS = 6.0
_MOST = 512 * 1024
_LEAST = 192 * 1024
_ALL_NODES = 384 * 1024 * 1024
_LONGEST_COMPLAINT = 300

_TOOLS = {
    "iptables": ["iptables-save", "-c"],
    "nft ruleset": ["nft", "-json", "list", "ruleset"],
    "conntrack-tool": ["conntrack", "-S"],
}
"""What kube-proxy's image brings along; it has neither a shell nor ``cat``."""


def most_bytes(nodes: int) -> int:
    """Return how much one reading may print, so that a bundle of that many nodes stays readable.

    It is never less than the links of a node with a hundred pods need.
    """
    return max(_LEAST, min(_MOST, _ALL_NODES // (READINGS_IN_ALL * max(nodes, 1))))


def read_node(shell: Shell, most: int = _MOST, server: str = "") -> NodeRecord:
    """Read what matters inside a node, in one exec.

    Nothing that is read holds secrets but CNI's files, of which only what is known to be none is
    kept. Comments of rules are kept as they are.

    Args:
        shell: Where the script runs: a container on the node's own network.
        most: How many bytes one reading may print, of iptables one table.
        server: The address of the DNS Service, to see what is tracked of queries to it.

    Returns:
        Its outputs; with a reason if the script did not come to its end.
    """
    mark = f"@@{secrets.token_hex(8)}"
    answer = shell.run(node_script(mark, most, server), _EXEC_SECONDS)
    outputs = read_outputs(answer.stdout, mark, most)
    return NodeRecord(
        node=shell.vantage.node,
        via=shell.via,
        outputs=tuple(_without_secrets(o) for o in outputs),
        reason=answer.reason,
    )


def _without_secrets(output: CommandOutput) -> CommandOutput:
    """Reduce a file of CNI's: some plugins keep credentials in theirs."""
    if not output.name.startswith(CNI_FILE):
        return output
    conf = parse_cni_conf(output.name.removeprefix(CNI_FILE), output.stdout)
    return msgspec.structs.replace(output, stdout=msgspec.json.encode(conf).decode())


def read_by_kube_proxy(
    api: Api, namespace: str, pod: str, container: str, node: str, most: int = _MOST
) -> NodeRecord:
    """Read a node's rules and conntrack's numbers, where no pod with a shell can be entered.

    Args:
        api: The API server.
        namespace: Of kube-proxy's pod on the node.
        pod: Its name.
        container: The container's name.
        node: The node's name.
        most: How many bytes one table of iptables, or the whole ruleset of nft, may have.

    Returns:
        One output for each program that printed something; a reason if none did.
    """
    outputs: list[CommandOutput] = []
    reason = ""
    for name, command in _TOOLS.items():
        answer = api.exec(namespace, pod, container, command, _TOOL_SECONDS)
        reason = reason or answer.reason
        outputs.append(_tool_output(name, answer, most))
    read = any(o.status == 0 for o in outputs)
    return NodeRecord(
        node=node,
        via=f"{namespace}/{pod}",
        outputs=tuple(outputs) if read else (),
        reason="" if read else reason or "kube-proxy's programs printed nothing",
    )


def _tool_output(name: str, answer: ExecAnswer, most: int) -> CommandOutput:
    """Make an output of an answer: a program that prints nothing is taken to have failed."""
    text = shorten_tables(answer.stdout, most) if name == "iptables" else answer.stdout
    cut = name != "iptables" and len(text) > most
    failed = bool(answer.reason) or not text.strip()
    complaint = answer.reason or answer.stderr.strip().partition("\n")[0]
    return CommandOutput(
        name=name,
        status=1 if failed else 0,
        stdout="" if cut else text,
        stderr=complaint[:_LONGEST_COMPLAINT] or ("it printed nothing" if failed else ""),
        truncated=cut,
    )
