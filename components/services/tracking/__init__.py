"""MLflow: runs, registry, champions. The only files that import it."""
