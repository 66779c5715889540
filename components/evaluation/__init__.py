"""How models are judged: samples of them, the gate's rule and vetoes, and the reference that drift is measured by."""
