"""Tracing: entries of functions that can be made to call something, and tracepoints."""
