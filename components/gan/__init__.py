"""Pure PyTorch: what the papers describe. Knows no stage, no tool and no path but a data set's.

The folder is packed with every registered model, so its modules import one another relatively.
"""
