"""Server-side apply: ownership of fields, the changes of an apply, and conflicts between managers.

May live here: field sets, comparing and merging by `merge_schema`, `metadata.managedFields`.
May not: storage, validity. Source: sigs.k8s.io/structured-merge-diff, kubernetes/apimachinery
pkg/util/managedfields.
"""
