"""How models are judged: samples of them, the gate's rule, its vetoes, and the reference that drift is measured against."""
