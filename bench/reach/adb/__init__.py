"""A phone over adb: LiteRT's own benchmark binary measures there, and what it prints becomes the events of a worker."""
