"""Benchmarks, one script a claim: ``dualtune bench NAME`` or ``python benchmarks/NAME.py``.

Each has ``run(quick, out)``, which prints a table and gives the value that ``--json`` writes:
``{"benchmark", "versions", "machine", "rows", "ratios", "counters"}``.
"""
