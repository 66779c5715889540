"""A folder or file for each outside tool: `cluster` (Ray), `tracking` (MLflow), `versioning` (DVC), `storage` (S3)."""
