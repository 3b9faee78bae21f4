"""The path model: which hops a flow must cross, predicted from facts. Pure."""
