"""Official code sets and edits: read as published, kept as immutable dated tables, looked up by service date."""
