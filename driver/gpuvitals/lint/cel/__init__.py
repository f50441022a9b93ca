"""Parses a CEL selector and collects its facts. Pure.

This package knows the grammar of CEL and the variable `device`, but no attribute names.
Source for the CEL environment of selectors: kubernetes/dynamic-resource-allocation, cel/compile.go.
"""
