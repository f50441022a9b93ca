"""Server-side apply: who owns which field, what an apply changes, and when two owners are in conflict.

May live here: field sets, comparing and merging by `merge_schema`, `metadata.managedFields`.
May not: storage, validity. Source: sigs.k8s.io/structured-merge-diff, kubernetes/apimachinery
pkg/util/managedfields.
"""
