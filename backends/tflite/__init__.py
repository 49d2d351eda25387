"""From a compressed network to a .tflite file: a library that the adapters of TFLite runtimes share, no adapter itself."""
