"""Parsers: text that tools print, to typed facts. Pure; one format per module."""
