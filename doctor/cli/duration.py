"""Durations as kubectl takes them: ``10``, ``10s``, ``1m30s``, ``500ms``."""

import re

import click

__all__ = ["Duration"]

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """A positive number of seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a duration; a bare number is seconds."""
        text = str(value)
        if _WHOLE.fullmatch(text):
            seconds = sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(text))
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            self.fail(f"{text!r} is no duration such as 10s or 1m30s", param, ctx)
        if seconds <= 0:
            self.fail(f"{text!r} is no time at all", param, ctx)
        return seconds
