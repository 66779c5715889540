"""The inbox: pictures that arrive between trainings, and how they join the data."""
