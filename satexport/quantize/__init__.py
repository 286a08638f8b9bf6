"""Quantise an fp32 graph to int8."""
