"""A whole self-run Kubernetes cluster, with the network around it, on one machine."""
