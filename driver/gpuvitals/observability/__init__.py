"""Metrics and logs.

May live here: metric definitions, the collector over the snapshot, the log formatter. May not: decisions, and any
import from an edge. Every edge may import it.
"""
