"""Programs on a node, stopped and let go on without their end."""

from tests.lab.node import Node


def ids(node: Node, program: str) -> list[str]:
    """The process ids, as the node counts, of a program."""
    return node.run("pgrep", "-x", program, check=False).stdout.split()


def freeze(node: Node, program: str) -> None:
    """Stop every process of a program in the middle of whatever it does."""
    node.run("kill", "-STOP", *ids(node, program))


def frozen(node: Node, program: str) -> bool:
    """Whether a program runs there, and all its processes are stopped."""
    found = ids(node, program)
    states = node.run("ps", "-o", "stat=", "-p", ",".join(found or ["0"]), check=False)
    return bool(found) and all(state.startswith("T") for state in states.stdout.split())


def thaw(node: Node, program: str) -> None:
    """Let every process of a program go on."""
    if found := ids(node, program):
        node.run("kill", "-CONT", *found, check=False)
