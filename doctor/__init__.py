"""A network-path doctor for self-run Kubernetes clusters."""

__version__ = "0.1.0"
