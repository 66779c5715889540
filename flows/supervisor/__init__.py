"""What `ganflow up` keeps running: servers and worker, and what is asked of Prefect about them."""
