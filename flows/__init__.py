"""The callers: the command line and Prefect's flows. The only place that imports Prefect."""
