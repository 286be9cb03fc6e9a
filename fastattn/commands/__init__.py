"""The commands of ``fastattn``, one module each: ``add`` describes its arguments, ``run`` does the work.

Modules import what a command needs when it runs, so that ``fastattn info`` stays quick.
"""
