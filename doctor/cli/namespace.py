"""Names of namespaces, as the API server takes them."""

import re

import click

__all__ = ["NamespaceName"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class NamespaceName(click.ParamType[str]):
    """The name of a namespace."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See that it may be one: an empty name would mean another namespace than was meant."""
        if not _NAME.fullmatch(value):
            self.fail(f"{value!r} is no name of a namespace", param, ctx)
        return value
