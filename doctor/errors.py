"""The doctor's own errors, one tree.

DoctorError
├── UsageError      something the user gave is wrong: exit 2
├── ClusterError    there is no cluster to talk to: exit 2
└── BundleError     a bundle cannot be read or written: exit 2

A failure of the network under examination is never an error here: it is an observation.
"""

__all__ = ["BundleError", "ClusterError", "DoctorError", "UsageError"]


class DoctorError(Exception):
    """One clear line for the user: what is wrong, and where."""


class UsageError(DoctorError):
    """A flag, a name or a file that the user gave is wrong."""


class ClusterError(DoctorError):
    """The API server cannot be asked: no kubeconfig, a broken one, or no answer."""


class BundleError(DoctorError):
    """A bundle cannot be read or written."""
