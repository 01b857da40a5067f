"""Word lists; where each comes from is told in ORIGIN.md."""
