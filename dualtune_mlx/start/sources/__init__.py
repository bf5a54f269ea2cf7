"""Readers of the start adapters' data: our own corpus and wordings, and checkouts of public data sets."""
