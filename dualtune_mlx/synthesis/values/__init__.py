"""Values that stand in requests: paths, names, times, tables, texts."""
