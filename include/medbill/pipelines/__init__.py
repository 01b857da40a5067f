"""The pipelines: where the rooms are put together. One module per DAG; the DAG files call these functions and nothing else."""
