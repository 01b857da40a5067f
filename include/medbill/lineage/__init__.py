"""OpenLineage: how medbill's data is named, and which facets may leave the process."""
