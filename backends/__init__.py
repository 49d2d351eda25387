"""One folder per runtime: `compile.py` runs on the host, `session.py` on the device."""
