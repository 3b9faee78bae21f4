"""Gathering: asking the API server, entering nodes and pods, sending probes. It judges nothing."""
