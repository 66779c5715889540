"""What looks after a machine and a workspace: doctor, cleanup, verify."""
