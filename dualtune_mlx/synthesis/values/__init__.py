"""Random values for the slots of wordings: paths, names, times, tables, texts."""
