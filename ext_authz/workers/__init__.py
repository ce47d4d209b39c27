"""Several processes: a parent keeps its workers running, and replaces them one at a time."""
