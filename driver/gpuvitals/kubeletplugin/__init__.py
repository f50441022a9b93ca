"""The edge to the kubelet: registration, prepare and unprepare, CDI files, the checkpoint, the health stream.

May live here: gRPC, protobuf, unix sockets, the files of the plugin directory and of the CDI directory. May not: the
API server, NVML, health decisions. What comes from there arrives through the small Protocols of `ports`.
`claims/plan` is pure. Nothing here imports the Kubernetes client, so that the sockets can be open before it is loaded.
"""
