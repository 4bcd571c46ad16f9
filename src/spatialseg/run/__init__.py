"""One run: configuration in, a folder with everything about it out.

`spatialseg.run.folder` alone is light to import; what trains is in `spatialseg.run.command`.
"""
