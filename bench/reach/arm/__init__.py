"""An ARM board made of files: QEMU, an aarch64 Python and the aarch64 wheels, in one folder."""
