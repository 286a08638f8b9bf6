"""An fp32 graph to an int8 graph."""
