"""The folder that everything lies in: parameters, artifacts, the graph of stages, the gate's answer."""
