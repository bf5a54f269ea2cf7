"""The road from a list of tools to a bundle that is measured; the user's own requests."""
