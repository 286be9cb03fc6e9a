"""The compiled part: one extension module, ``core``, over the C library in csrc/.

``core`` unpacks arrays, releases the interpreter lock, makes one C call and turns its status into an exception. It is
private: shapes and options are checked by its callers.
"""
