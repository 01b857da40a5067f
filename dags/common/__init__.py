"""What the DAG files share: assets and task defaults."""
