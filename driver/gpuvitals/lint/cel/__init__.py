"""A CEL selector, taken apart. Pure: text in, facts out.

May live here: the grammar and what follows from it alone. May not: names of attributes and what they mean.
The environment of Kubernetes' selectors is described in kubernetes/dynamic-resource-allocation cel/compile.go.
"""
