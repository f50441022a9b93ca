"""The edge to the kubelet: registration, Prepare and Unprepare, CDI files, the checkpoint, the health stream.

May live here: gRPC, protobuf, unix sockets, the files of the plugin directory and of the CDI directory. May not: the
API server, NVML, health decisions, which are used through the Protocols of `ports`. `claims/plan` is pure. Nothing here
imports the Kubernetes client, so that the sockets are open before it is loaded.
"""
