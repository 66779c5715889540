"""How models are judged: samples of them, the gate's rule and vetoes, and what drift is measured by."""
